"""Mattes beside known ones."""

from __future__ import annotations

import argparse
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from benchmarks.quality import matte
from benchmarks.quality.matte_parts import PARTS, PartialMatte
from runtime.compositing.composite import Composite
from runtime.pixels.video_frames import resized, to_video
from tests.runtime.compositing.test_composite import build_matte


def write(path: Path, frames: list[np.ndarray]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A matte bundle that finds what is white, and a clip of a white square that moves over black."""
    build_matte(tmp_path / "matte")
    (tmp_path / "alpha").mkdir()
    frames = []
    for number in range(8):
        frame = np.zeros((48, 64, 3), np.uint8)
        frame[12:36, 12 + 2 * number : 36 + 2 * number] = 255
        frames.append(frame)
    write(tmp_path / "square.mp4", frames)
    write(tmp_path / "alpha" / "square_alpha.mp4", frames)
    return tmp_path


def options(folder: Path, *words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    matte.add_arguments(parser)
    always = ["--clips", str(folder), "--frames", "8", "--engine", "onnxruntime"]
    return parser.parse_args([str(folder / "matte"), *always, *words])


def test_a_refined_matte_is_closer_than_an_enlarged_one(folder: Path) -> None:
    report = matte.run(options(folder, "--sheet", str(folder / "sheet.png")))
    (found,) = report.result["clips"].values()
    assert found["refined"]["at edges"] < 0.7 * found["enlarged"]["at edges"]
    assert found["refined"]["difference"] < found["enlarged"]["difference"] < 100
    assert report.result["means"] == found
    gains = report.result["gains"]
    assert list(gains) == list(PARTS)
    for part, one in gains.items():
        for name, gain in one.items():
            assert gain["value"] == pytest.approx(found[f"without {part}"][name] - found["refined"][name])
    assert "| the ramp | " in matte.to_markdown(report.result)
    assert "| square | " in matte.to_markdown(report.result)
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (4 * 384, 288)


def test_with_every_part_it_is_the_matte_of_the_composite(folder: Path) -> None:
    random = np.random.default_rng(0)
    partial = PartialMatte("", 64, 48)
    black, white = (np.full((48, 64, 3), level, np.uint8) for level in (0, 255))
    opened = {"engine": "onnxruntime", "pixels": "rgb", "threads": 1}
    with (
        Composite.open(folder / "matte", 64, 48, **opened) as over_black,
        Composite.open(folder / "matte", 64, 48, **opened) as over_white,
    ):
        for _ in range(3):
            picture = random.integers(0, 256, (48, 64, 3), np.uint8)
            for composite in (over_black, over_white):
                composite.feed_live(picture)
            change = over_white.over(white).astype(float) - over_black.over(black)
            over_black._matte.feed_live(resized(to_video(picture), 32, 24).to_ndarray())
            alpha = partial.refine(np.ascontiguousarray(next(over_black._matte)[..., 0]))
            assert np.abs(1 - change.mean(axis=2) / 255 - alpha).max() < 0.01


@pytest.mark.parametrize("part", PARTS)
def test_each_part_may_be_left_out(part: str) -> None:
    random = np.random.default_rng(1)
    whole, partial = PartialMatte("", 64, 48), PartialMatte(part, 64, 48)
    for _ in range(2):
        matte = random.integers(0, 256, (12, 16), np.uint8)
        one, other = whole.refine(matte), partial.refine(matte)
    assert other.shape == (48, 64)
    assert np.abs(one - other).max() > 0.05


def test_edges_are_near_the_border_of_the_known_matte() -> None:
    known = np.zeros((60, 80), np.float32)
    known[20:40, 30:50] = 1
    edge = matte.edge_of(known)
    assert edge[20, 30]
    assert edge[13, 30]
    assert not edge[10, 30]
    assert not edge[30, 40]
    everywhere, at_edge = matte.difference(known, np.where(edge, known, known + 0.5).astype(np.float32), edge)
    assert at_edge == 0
    assert everywhere > 0


def test_clips_without_mattes_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no file NAME_alpha"):
        matte.run(options(folder, "--clips", str(tmp_path / "none")))
    (folder / "square.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="is no video that can be read"):
        matte.run(options(folder))
