"""`python -m training footage`: files, captions for the sharder, resumption, bad input."""

from __future__ import annotations

import csv
import hashlib
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from training.__main__ import main
from training.data.shards import find_videos, read_captions, write_shards
from training.data.takes import ShardSettings
from training.made import writer
from training.made.flow import block_flow, read_flow, write_flow
from training.made.scene import Still
from training.made.table import KINDS

KINDS_OF_TEST = "clouds,flag"


def call(monkeypatch: pytest.MonkeyPatch, out: Path, *more: str) -> int:
    words = ["--out", str(out), "--size", "96x64", "--frames", "16", "--kinds", KINDS_OF_TEST, "--jobs", "1", *more]
    monkeypatch.setattr(sys, "argv", ["training", "footage", *words])
    return main()


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


def test_videos_flow_and_captions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, tmp_path / "made", "--clips", "2") == 0
    rows = read_captions(tmp_path / "made")
    assert sorted(rows) == ["clouds-000.mp4", "clouds-001.mp4", "flag-000.mp4", "flag-001.mp4"]
    row = rows["clouds-001.mp4"]
    assert (row["scene"], row["class"], row["licence"], row["source"]) == (
        "clouds-001", "clouds", "CC0-1.0", "made by everframe",
    )  # fmt: skip
    assert "clouds" in row["caption"]
    assert [source.row["caption"] for source in find_videos([tmp_path / "made"])] == [
        rows[name]["caption"] for name in sorted(rows)
    ]
    with av.open(str(tmp_path / "made" / "flag-000.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height, stream.average_rate) == ("h264", 96, 64, 30)
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == 16
    settings = writer.FootageSettings(0, 96, 64, 30.0, 16)
    drawn = [picture for picture, _ in writer.frames_of(writer.open_film("flag", 0, settings))]
    light = np.array([0.299, 0.587, 0.114])  # colours are at half the size
    assert np.abs(decoded[7] @ light - drawn[7] @ light).mean() < 3
    assert np.abs(decoded[7] @ light - drawn[0] @ light).mean() > 6
    flow, valid = read_flow(tmp_path / "made" / "flow" / "flag-000.npz")
    assert (flow.shape, flow.dtype) == ((15, 2, 16, 24), np.float32)
    assert (valid.shape, valid.dtype) == ((15, 16, 24), np.bool_)
    assert valid.mean() > 0.5


def test_the_sharder_takes_all_of_it_uncut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(monkeypatch, tmp_path / "made", "--clips", "1", "--kinds", ",".join(KINDS)) == 0
    index = write_shards([tmp_path / "made"], tmp_path / "shards", ShardSettings(short_side=64), 0, progress=False)
    assert index.takes["length"].tolist() == [16] * len(KINDS)
    assert set(index.videos["label"]) == set(KINDS)
    assert set(index.videos["licence"]) == {"CC0-1.0"}
    assert not index.skipped


def test_the_same_command_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = tmp_path / "made"
    assert call(monkeypatch, made, "--clips", "2") == 0
    before = digests(made)
    capsys.readouterr()
    assert call(monkeypatch, made, "--clips", "2") == 0
    assert "is finished" in capsys.readouterr().out
    kept = (made / "clouds-000.mp4").stat().st_mtime_ns
    (made / "flag-001.mp4").unlink()
    (made / "flow" / "clouds-001.npz").unlink()
    (made / "captions.csv").unlink()
    assert call(monkeypatch, made, "--clips", "2") == 0
    assert "footage 2/4" in capsys.readouterr().out
    assert (made / "clouds-000.mp4").stat().st_mtime_ns == kept
    after = digests(made)
    assert sorted(after) == sorted(before)
    assert after["clouds-001.npz"] == before["clouds-001.npz"]
    assert after["captions.csv"] == before["captions.csv"]
    assert call(monkeypatch, made, "--clips", "3", "--kinds", "clouds") == 0
    with (made / "captions.csv").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 5, "rows of other kinds stay"


def test_an_error_leaves_no_half_of_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_flow", full)
        assert call(patch, tmp_path / "made", "--clips", "1") == 2
    assert not list((tmp_path / "made").rglob("*.mp4"))
    assert call(monkeypatch, tmp_path / "made", "--clips", "1") == 0
    assert len(list((tmp_path / "made").rglob("*.mp4"))) == 2


def test_clips_do_not_depend_on_the_number_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, jobs in (("one", "1"), ("two", "2")):
        assert call(monkeypatch, tmp_path / name, "--clips", "1", "--jobs", jobs) == 0
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert one["clouds-000.npz"] == two["clouds-000.npz"]
    assert one["flag-000.npz"] == two["flag-000.npz"]
    assert one["captions.csv"] == two["captions.csv"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--size", "100x64"], "--size is 100x64, expected WIDTHxHEIGHT with multiples of 8"),
        (["--size", "large"], "--size is large"),
        (["--fps", "0"], "--fps is 0"),
        (["--fps", "nan"], "--fps is nan"),
        (["--frames", "3"], "a clip would have 3 frames, expected 16"),
        (["--clips", "0"], "--clips is 0"),
        (["--seed", "-1"], "--seed is -1"),
        (["--jobs", "0"], "--jobs is 0"),
        (["--kinds", "clowds"], 'there is no kind "clowds"; the nearest known one is "clouds"'),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path / "made", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "made").exists()


def test_other_settings_or_other_footage_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, tmp_path / "made", "--clips", "1", "--kinds", "clouds") == 0
    assert call(monkeypatch, tmp_path / "made", "--seed", "5") == 2
    assert "was made with seed 0 and not 5" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "captions.csv").write_text("file,caption\na.mp4,mine\n")
    assert call(monkeypatch, tmp_path / "mine") == 2
    assert "was not made here" in capsys.readouterr().err
    assert (tmp_path / "mine" / "captions.csv").read_text() == "file,caption\na.mp4,mine\n"
    (tmp_path / "file").write_text("")
    assert call(monkeypatch, tmp_path / "file") == 2
    assert "is a file, expected a folder" in capsys.readouterr().err


def test_blocks_have_the_mean_of_their_valid_pixels(tmp_path: Path) -> None:
    flow = np.zeros((8, 12, 2), np.float32)
    flow[..., 0], flow[4:, :, 1] = 2.5, -1
    valid = np.ones((8, 12), bool)
    valid[0, :4] = False  # a quarter of the first block
    flow[0, :4] = np.nan
    valid[:2, 4:8] = False  # half of the second
    found, known = block_flow(Still(np.zeros((8, 12, 3), np.float32), flow, valid))
    assert found.shape == (2, 2, 3)
    assert found[0].tolist() == [[2.5] * 3] * 2
    assert found[1].tolist() == [[0.0] * 3, [-1.0] * 3]
    assert known.tolist() == [[True, False, True], [True, True, True]]
    write_flow(tmp_path / "a.npz", [(found, known)] * 2)
    back, mask = read_flow(tmp_path / "a.npz")
    assert np.array_equal(back, np.stack([found, found]).astype(np.float32))
    assert mask.shape == (2, 2, 3)


def test_files_that_are_no_flow_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name a file that"):
        read_flow(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(ValueError, match="cannot be read as exact flow"):
        read_flow(tmp_path / "text.npz")
    np.savez(tmp_path / "wrong.npz", flow=np.zeros((3, 2, 4, 4), np.float32), valid=np.zeros((3, 4, 4), bool))
    with pytest.raises(ValueError, match="expected float16"):
        read_flow(tmp_path / "wrong.npz")
