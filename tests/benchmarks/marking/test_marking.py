"""The benchmark of marks: changes, attacks, results that go on where they were, tables."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.marking import attacks, detection, false_positives
from benchmarks.marking.changes import all_changes, encoded, luma, scaled, turned, x264
from benchmarks.marking.command import to_markdown
from benchmarks.marking.detection import check, measure_detection, payload_of
from benchmarks.marking.engines import measure_engines
from benchmarks.marking.footage import FRAMES, Case, make_clip, read_i420, videos_in
from benchmarks.marking.store import ResultLines
from tests import moving
from tests.runtime.compositing.test_composite import build_matte
from tests.verify.marked_video import PAYLOAD, clip, write

SIZE = (384, 216)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.build(tmp_path_factory.mktemp("marking") / "moving")


def test_changes_keep_the_number_of_frames_and_their_size() -> None:
    frames = clip(*SIZE, count=8)
    sizes = {
        "none": (216, 384),
        "half the size": (108, 192),
        "half the size and back": (216, 384),
        "cropped to 80 %": (172, 307),
        "turned by 4 degrees": (216, 384),
        "mirrored": (216, 384),
    }
    changes = all_changes(SIZE[0])
    for name, size in sizes.items():
        changed = changes[name](frames)
        assert len(changed) == 8
        assert {frame.shape for frame in changed} == {size}
        assert changed[0].dtype == np.uint8
    assert {"x264 1 Mbit/s", "x264 0.5 Mbit/s"} <= set(changes)
    assert "x264 1.5 Mbit/s" in all_changes(1280)


def test_codecs_really_encode() -> None:
    frames = clip(*SIZE, count=8)
    for changed in (x264(frames, 200_000), encoded(frames, "libvpx", 200_000, deadline="realtime")):
        assert len(changed) == 8
        error = np.abs(changed[3].astype(int) - luma(frames[3])).mean()
        assert 0.2 < error < 20
    assert len(all_changes(SIZE[0])["25 to 30 fps, x264"](frames)) == 9
    with pytest.raises(ValueError, match="this PyAV has no encoder nothing"):
        encoded(frames, "nothing", 1)


def test_scaling_and_turning_are_centred() -> None:
    frame = np.zeros((64, 96), np.uint8)
    frame[28:36, 44:52] = 255
    for changed in (scaled(frame, 192, 128), turned(frame, 30)):
        rows, columns = np.nonzero(changed > 127)
        assert rows.mean() == pytest.approx((changed.shape[0] - 1) / 2, abs=1)
        assert columns.mean() == pytest.approx((changed.shape[1] - 1) / 2, abs=1)


def test_a_check_tells_found_from_missed_and_wrong() -> None:
    frames = clip(*SIZE, count=4)
    same = all_changes(SIZE[0])["none"]
    assert check(frames, same, PAYLOAD)[0] == "found"
    assert check(frames, same, PAYLOAD + 1)[0] == "wrong"
    assert check(clip(*SIZE, count=4, payload=None), same, PAYLOAD)[0] == "missed"


def test_a_stopped_measurement_goes_on(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cases = tmp_path / "results.jsonl", [Case((bundle,), (384, 216))]
    few = {"none": all_changes(384)["none"]}
    monkeypatch.setattr(detection, "all_changes", lambda _: few)
    found = measure_detection(cases, 2, [], [], ResultLines(file))
    assert found["table"] == {"moving 384x216": {"none": [2, 2, 0]}}
    lines = file.read_text().splitlines()
    file.write_text(lines[0] + "\n" + lines[1][:20])  # the second one was cut off
    made: list[int] = []

    def remember(case: Case, number: int, *rest: object) -> list[np.ndarray]:
        made.append(number)
        return make_clip(case, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(detection, "make_clip", remember)
    again = measure_detection(cases, 2, [], [], ResultLines(file))
    assert made == [1]
    assert again["table"] == found["table"]
    assert payload_of(1) == payload_of(1) != payload_of(2)
    later = measure_detection(cases, 1, [], [], ResultLines(file), 2)  # another machine's share
    assert made == [1, 2]
    assert later["table"] == {"moving 384x216": {"none": [1, 1, 0]}}


def test_real_windows_are_counted(tmp_path: Path) -> None:
    video = write(tmp_path / "real.mkv", clip(*SIZE, count=40, payload=None))
    found = false_positives.measure_real([video], ResultLines(None))
    assert (found["videos"], found["windows"], found["payloads"]) == (1, 2, 0), "the last 8 frames are no window"
    marked = write(tmp_path / "marked.mkv", clip(*SIZE, count=16))
    assert false_positives.measure_real([marked], ResultLines(None))["payloads"] == 1
    assert videos_in([tmp_path]) == [tmp_path / "marked.mkv", tmp_path / "real.mkv"]
    assert len(read_i420(video, 3)) == 3


def test_clips_of_people_are_marked(bundle: Path, tmp_path: Path) -> None:
    matte = build_matte(tmp_path / "matte")
    video = write(tmp_path / "person.mkv", clip(*SIZE, count=FRAMES, payload=None))
    case = Case((bundle,), (384, 216), matte)
    assert case.name == "matte over moving 384x216"
    frames = make_clip(case, 3, PAYLOAD, [], [video])
    assert len(frames) == FRAMES
    assert check(frames, all_changes(384)["none"], PAYLOAD)[0] == "found"


def test_attacks_do_what_they_say(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attacks, "FRAMES_AVERAGED", 32)
    video = write(tmp_path / "real.mkv", clip(640, 360, count=FRAMES, payload=None))
    found = attacks.measure_attacks(Case((bundle,), (640, 360)), [], [video], clips=1)
    assert found["none"]["own"] == 1
    assert all(sum(one[key] for key in ("own", "other", "none")) == 1 for one in found.values())
    assert found["none"]["psnr_db"] > 44
    folded = found["mean of 32 frames, folded by the tile, subtracted"]
    assert folded["psnr_db"] > found["none"]["psnr_db"] + 3, "what is subtracted is mostly the mark"
    assert found["the folded mean, copied onto real videos"]["own"] == 1


def test_engines_make_the_same_marked_frames(bundle: Path) -> None:
    found = measure_engines([bundle], [SIZE])
    name = f"moving {SIZE[0]}x{SIZE[1]}"
    assert found["frames"][f"{name}, onnxruntime fp32"] == {"found": 3}
    close = found["frames"][f"{name}, openvino fp32"]
    assert close["found"] == 3
    assert close["worst_db"] > 45
    assert close["unmarked_worst_db"] > 45
    if importlib.util.find_spec("tensorrt_rtx"):
        assert {how.removeprefix(f"{name}, ") for how in found["builds"]} == {
            "rgb, fp32", "rgb, fp16", "i420, fp32", "i420, fp16",
        }  # fmt: skip
        assert min(built["mb"] for built in found["builds"].values()) > 0.001
    assert "3 windows" in to_markdown({"engines": found})


def test_the_tables_have_a_row_for_each_change() -> None:
    table = {"a 1x1": {"none": [3, 3, 0], "x264": [3, 2, 1]}, "b 1x1": {"none": [2, 2, 0]}}
    text = to_markdown({"detection": {"table": table, "clips": 5, "read_s_p50": 0.1, "read_s_max": 1.0}})
    assert "| found | a 1x1 | b 1x1 | all |" in text
    assert "| x264 | 2 of 3 | - | 2 of 3 |" in text
    assert "| none | all 3 | all 2 | all 5 |" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--parts", "sped"], "--parts has 'sped', expected some of detection"),
        (["--clips", "0"], "--clips is 0, expected 1 or more"),
        (["--first", "-1"], "--first is -1, expected 0 or more"),
        (["--matte", "m"], "add --people FOLDER"),
        (["--parts", "real"], "add --real FOLDER"),
    ],
)
def test_bad_arguments_are_one_sentence(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mark", "bundle", *words]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
