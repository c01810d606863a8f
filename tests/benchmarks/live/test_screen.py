"""Camera to screen: large numbers, and arrivals matched with the camera's pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageFilter

from benchmarks.live import screen, stamp
from benchmarks.live.screen import match, write_camera


@pytest.mark.parametrize("number", [0, 1, 128, 170, 255])
def test_a_large_number_survives_a_blur(number: int) -> None:
    luma = np.zeros((180, 320), np.uint8)
    stamp.write_large(luma, number)
    blurred = np.asarray(Image.fromarray(luma).filter(ImageFilter.GaussianBlur(6)))
    assert stamp.read_large(blurred) == number


def test_a_picture_without_a_large_number_has_none() -> None:
    assert stamp.read_large(np.full((180, 320), 90, np.uint8)) is None


def test_the_camera_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "_CAMERA_FRAMES", 12)
    write_camera(tmp_path / "a.mp4", 320, 180)
    with av.open(str(tmp_path / "a.mp4")) as container:
        found = [stamp.read_large(frame.to_ndarray()[:180]) for frame in container.decode(video=0)]
    assert found == list(range(12))


def test_each_picture_counts_once_from_the_camera_to_its_first_arrival() -> None:
    second = 10**9
    seen = [(number % 256, number * second) for number in range(300)]
    arrivals = [(number % 256, number * second + 50_000_000) for number in range(300)]
    again = [(number, moment + 10_000_000) for number, moment in arrivals]
    both = sorted(arrivals + again, key=lambda item: item[1])
    assert match(seen, both) == pytest.approx([50.0] * 296)
    assert match(seen, [(7, 3 * second)]) == [], "it was not there yet"
    assert match([], []) == []
