"""The live benchmark: numbers that survive video, figures from notes, plots and tables."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import plots
from benchmarks.live import stamp
from benchmarks.live.command import STEPS, judge, summarise, to_markdown
from benchmarks.live.show import ControlledSession, Notes, NumberedFrames, read_timeline
from runtime import Manifest
from streaming.live.timeline import VARIABLE, open_timeline
from tests import tiny
from tests.fakes import fake_generator

FPS = Fraction(25)
NUMBERS = (0, 1, 255, 256, 12345, 65535)


def noisy(number: int) -> np.ndarray:
    """Return a numbered I420 frame of noise, (384, 256)."""
    frame = np.random.default_rng(number).integers(16, 236, (384, 256), np.uint8)
    stamp.write(frame[:256], number)
    return frame


def test_a_number_survives_h264() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "b": "400000"})
        stream.width, stream.height, stream.pix_fmt = 256, 256, "yuv420p"
        for number in NUMBERS:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy(number), format="yuv420p")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        found = [stamp.read(frame.to_ndarray()[:256]) for frame in container.decode(video=0)]
    assert tuple(found) == NUMBERS


def test_a_number_survives_jpeg() -> None:
    for number in NUMBERS:
        picture = np.random.default_rng(number).integers(0, 256, (256, 320, 3), np.uint8)
        stamp.write(picture, number)
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=40)
        assert stamp.read(np.asarray(Image.open(file).convert("L"))) == number


def test_a_picture_without_a_number_has_none() -> None:
    rng = np.random.default_rng(3)
    assert all(stamp.read(rng.integers(0, 256, (256, 256), np.uint8)) is None for _ in range(200))
    torn = noisy(5)
    torn[: stamp.CELL] = noisy(6)[: stamp.CELL]
    assert stamp.read(torn[:256]) is None


@pytest.mark.parametrize(("shape", "number"), [((256, 128), 1), ((16, 256), 1), ((256, 256), 65536), ((256, 256), -1)])
def test_what_cannot_be_written_is_refused(shape: tuple[int, int], number: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        stamp.write(np.zeros(shape, np.uint8), number)


def make_notes(frames: int) -> tuple[Notes, dict[int, int], dict[int, tuple[int, int, int]]]:
    """Return notes, arrivals and a timeline of a show at 25 fps in which every step takes a known time."""
    notes, arrivals, timeline = Notes(late=1, dropped=2), {}, {}
    for number in range(frames):
        asked = 10**9 + number * 40_000_000
        notes.asked[number] = asked
        notes.stages_ms[number] = (0.5, 5.0, 0.25)
        notes.made[number] = asked + 6_000_000
        notes.left[number] = (asked + 30_000_000, number)
        timeline[number] = (asked + 31_000_000, asked + 34_000_000, asked + 34_500_000)
        arrivals[number] = asked + 40_000_000
    notes.controls = [(notes.asked[80] - 5_000_000, 80), (notes.asked[90] - 1_000_000, 90)]
    return notes, arrivals, timeline


def test_figures_are_those_of_the_notes() -> None:
    notes, arrivals, timeline = make_notes(100)
    del arrivals[70]
    arrivals[71] += 9_000_000
    found = summarise(notes, arrivals, timeline, FPS)
    assert (found["frames"], found["received"], found["lost"]) == (100, 49, 1)  # 50 frames are two seconds
    assert (found["late"], found["dropped"]) == (1, 2)
    assert (found["glass_ms"]["p50"], found["glass_ms"]["max"]) == (10, 19)
    assert found["jitter_ms"]["max"] == pytest.approx(9)
    assert found["jitter_ms"]["p50"] == pytest.approx(0)
    assert (found["control_left_ms"]["min"], found["control_left_ms"]["max"]) == (31, 35)
    assert found["control_received_ms"]["max"] == 45
    steps = dict(zip(STEPS, (0.5, 5, 0.25, 0.25, 24, 1, 3, 0.5, 5.5), strict=True))
    assert found["steps_ms"] == pytest.approx(steps)
    without = summarise(notes, arrivals, {}, FPS)
    assert list(without["steps_ms"]) == list(STEPS[:5])


def test_a_road_without_arrivals_is_missing() -> None:
    notes, arrivals, timeline = make_notes(100)
    assert summarise(notes, {}, timeline, FPS) == {"missing": "nothing was received"}
    short = {number: arrivals[number] for number in range(3)}
    assert "raise --seconds" in summarise(notes, short, timeline, FPS)["missing"]


def test_numbers_may_overflow() -> None:
    notes, arrivals, timeline = make_notes(100)
    for kind in ("asked", "stages_ms", "made", "left"):
        setattr(notes, kind, {number + 65500: value for number, value in getattr(notes, kind).items()})
    notes.controls = []
    found = summarise(notes, {(number + 65500) % 65536: moment for number, moment in arrivals.items()}, timeline, FPS)
    assert (found["received"], found["lost"], found["control_left_ms"]) == (50, 0, None)


def test_targets_are_judged_by_the_figures() -> None:
    notes, arrivals, timeline = make_notes(100)
    good = summarise(notes, arrivals, timeline, FPS)
    assert all(target["passed"] for target in judge({"rtmp": good}, 25).values())
    slow = summarise(notes, {number: moment + 95_000_000 for number, moment in arrivals.items()}, timeline, FPS)
    assert not judge({"rtmp": slow}, 25)["RTMP glass to glass"]["passed"]
    notes.controls = [(notes.asked[80] - 60_000_000, 80)]
    idle = summarise(notes, arrivals, timeline, FPS)
    assert not judge({"rtmp": idle}, 25)["control to frame"]["passed"]
    slider = judge({"page": good, "rtmp": {"missing": "no nginx"}}, 25)
    assert {name: target["passed"] for name, target in slider.items()} == {"slider on the page to frame": True}
    assert judge({"page": {"missing": "x"}, "rtmp": {"missing": "no nginx"}}, 25) == {}


def test_the_result_is_written_and_drawn(tmp_path: Path) -> None:
    good = summarise(*make_notes(100), FPS)
    roads = {"rtmp": good, "page": good, "ffmpeg": {"missing": "ffmpeg is not installed"}}
    result = {"bundle": "mine", "fps": 25, "engine": "fake", "precision": "fp32", "roads": roads}
    result["targets"] = judge(roads, 25)
    text = to_markdown(result)
    assert "| RTMP | 10.0 | 10.0 | 10.0 | 0.0 | 33 / 43 | 100 | 0 | 1 | 2 |" in text
    assert "not measured: ffmpeg is not installed" in text
    assert "p99 10.0 ms, below 100 ms wanted: reached." in text
    plots.live(result, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width > 1000


def test_a_control_is_noted_with_the_frame_that_it_reaches(tmp_path: Path) -> None:
    manifest = Manifest.parse(json.loads((tiny.build(tmp_path / "tiny", width=256) / "bundle.json").read_text()))
    generator, _ = fake_generator(manifest, pixels="i420", renewal=False)
    control = manifest.step.only_input("control")
    assert control is not None
    session = ControlledSession(generator._step._session, control.name)
    generator._step._full = generator._step._session = generator._step._active = session
    frames = NumberedFrames(generator, session, Notes())
    name, item = next((name, item) for name, item in manifest.controls.items() if item.index is not None)
    numbers = []
    for turn in range(4):
        if turn == 2:
            frames.set_control(name, item.maximum)
        numbers.append(stamp.read(next(frames)[: manifest.frame.height]))
    generator.close()
    assert numbers == [0, 1, 2, 3]
    assert [number for _, number in frames.notes.controls] == [2]
    assert list(frames.notes.made) == numbers


def test_the_timeline_is_off_unless_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    open_timeline()(1, 2, 3)
    file = tmp_path / "timeline"
    assert read_timeline(file) == {}
    monkeypatch.setenv(VARIABLE, str(file))
    note = open_timeline()
    note(1, 20, 30)
    note(2, 40, 50)
    found = read_timeline(file)
    assert [found[slot][:2] for slot in (1, 2)] == [(20, 30), (40, 50)]
    assert found[1][2] <= found[2][2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--roads", "rtmp,srt"], 'there is no road "srt", expected some of rtmp, page, ffmpeg'),
        (["--seconds", "1"], "--seconds must be from 5 to 1800"),
        (["--fps", "0"], "--fps from 1 to 240"),
        (["--plot", "a.bmp"], "--plot must end in .png"),
    ],
)
def test_every_mistake_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert command.main(["live", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err
