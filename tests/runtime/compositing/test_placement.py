"""Where the live picture lies in the frame."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.compositing.placement import Placement, matrices, moved, place
from runtime.pixels.video_frames import to_pixels, to_video


def test_by_default_it_is_the_frame() -> None:
    assert place(1280, 720, 0.0, 0.0, 1.0) == (0, 0, 1280, 720)
    for shape in ((48, 64, 3), (72, 64)):
        picture = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        assert np.array_equal(moved(picture, place(64, 48, 0.0, 0.0, 1.0), 64, 48), picture)


@pytest.mark.parametrize(
    ("x", "y", "size", "expected"),
    [
        (0.0, 0.0, 0.5, (320, 360, 640, 360)),
        (0.25, 0.0, 0.5, (640, 360, 640, 360)),
        (0.0, -0.5, 1.0, (0, -360, 1280, 720)),
        (-1.0, 1.0, 2.0, (-1920, 0, 2560, 1440)),
    ],
)
def test_the_middle_of_the_lower_edge_is_its_anchor(
    x: float, y: float, size: float, expected: tuple[int, int, int, int]
) -> None:
    assert place(1280, 720, x, y, size) == expected


@pytest.mark.parametrize("size", [0.25, 0.33, 1.0, 1.37, 2.0])
@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (0.13, -0.2), (-0.7, 0.4)])
def test_places_are_even_and_the_matte_moves_with_the_picture(x: float, y: float, size: float) -> None:
    to = place(64, 48, x, y, size)
    assert all(value % 2 == 0 for value in to)
    down, right = np.mgrid[0:48, 0:64]
    smooth = (np.sin(right / 9) + np.cos(down / 7)) * 50 + 128
    picture = np.repeat(smooth[..., None], 3, axis=2).round().astype(np.uint8)
    shown = moved(to_pixels(to_video(picture), "rgb", to[2:]), to, 64, 48)[..., 0].astype(float)
    rows, columns = matrices(to, (64, 48), (64, 48), (64, 48))
    resampled = rows @ smooth.astype(np.float32) @ columns
    left, right_end = max(to.left, 0), min(to.left + to.width, 64)
    top, bottom = max(to.top, 0), min(to.top + to.height, 48)
    inside = np.zeros((48, 64), bool)
    inside[top:bottom, left:right_end] = True
    assert np.all(resampled[~inside] == 0)
    assert np.all(shown[~inside] == 0)
    assert np.all(np.abs(resampled - shown)[inside] <= 8), "the two only differ by how they interpolate"


def test_the_planes_of_a_frame_move_together() -> None:
    small = np.concatenate([np.full((24, 32), 1), np.full((6, 32), 2), np.full((6, 32), 3)]).astype(np.uint8)
    frame = moved(small, Placement(40, -10, 32, 24), 64, 48)
    luma, chroma = frame[:48], frame[48:].reshape(2, 24, 32)
    expected = np.zeros((48, 64), np.uint8)
    expected[:14, 40:] = 1
    assert np.array_equal(luma, expected)
    for level, plane in zip((2, 3), chroma, strict=True):
        assert np.array_equal(plane, expected[::2, ::2] * level)


def test_what_is_outside_the_frame_is_not_there() -> None:
    to = Placement(64, 0, 64, 48)
    assert not moved(np.full((48, 64, 3), 255, np.uint8), to, 64, 48).any()
    assert not moved(np.full((72, 64), 255, np.uint8), to, 64, 48).any()
    rows, columns = matrices(to, (64, 48), (16, 12), (32, 24))
    assert not (rows @ np.ones((12, 16), np.float32) @ columns).any()
