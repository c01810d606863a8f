"""The pattern of a mark: its frequencies, and tiles."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from runtime.bundle.tensors import TensorSpec
from runtime.marking.code import CODED_BITS
from runtime.marking.pattern import HIGHEST, LOWEST, TILE, pattern, spectrum, tile
from runtime.marking.plane import SMALL_GAIN, make_plane, tile_size

DIGEST = "2fcdf5f0c9ae25746b4b4940b9cbb79a30d7f678a0eea174364d2c6f3a0e5e0f"  # of version 1


def test_a_third_are_pilots_and_every_bit_is_carried_about_as_often() -> None:
    made = pattern()
    assert abs(made.is_pilot.mean() - 1 / 3) < 0.01
    counts = np.bincount(made.bits.ravel(), minlength=CODED_BITS)
    assert counts.max() - counts.min() <= 1
    assert counts.min() >= 4
    radius = np.hypot(*made.places.T)
    assert LOWEST <= radius.min() < radius.max() <= HIGHEST


def test_the_pattern_is_the_same_everywhere() -> None:
    """A mark that was made today must be readable in ten years, with any version of NumPy."""
    made = pattern()
    parts = made.places, made.is_pilot, np.sign(made.pilots.real), np.sign(made.pilots.imag), made.bits, made.signs
    digest = hashlib.sha256(b"".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()
    assert digest == DIGEST


@pytest.mark.parametrize("size", [TILE, 189, 378])
def test_a_tile_has_the_spectrum_of_its_payload(size: int) -> None:
    made = tile(0xC0FFEE123456, size)
    assert made.shape == (size, size)
    assert made.dtype == np.float32
    assert np.sqrt(np.mean(made**2)) == pytest.approx(1, abs=1e-5)
    assert abs(made.mean()) < 1e-6
    u, v = pattern().places.T
    values = np.fft.fft2(made)[v, u]
    wanted = spectrum(0xC0FFEE123456)
    assert np.abs(values / np.abs(values) - wanted).max() < 1e-3


def test_tiles_of_two_payloads_share_their_pilots_only() -> None:
    one, two = spectrum(1), spectrum(2**47 + 12345)
    is_pilot = pattern().is_pilot
    assert np.array_equal(one[is_pilot], two[is_pilot])
    assert abs(np.mean((one * two.conj()).real[~is_pilot])) < 0.5


def test_the_plane_repeats_its_tile_and_leaves_chroma_alone() -> None:
    frame = TensorSpec("frame", "uint8", (1, 450, 400), "frame", pixels="i420")
    plane = make_plane(7, frame)
    assert plane.shape == frame.shape
    assert not plane[0, 300:].any()
    assert np.allclose(plane[0, :126, :126], SMALL_GAIN * tile(7))
    assert np.allclose(plane[0, 126:252, 252:378], SMALL_GAIN * tile(7))
    rgb = make_plane(7, TensorSpec("frame", "uint8", (1, 300, 400, 3), "frame", pixels="rgb"))
    assert all(np.array_equal(rgb[0, ..., channel], plane[0, :300]) for channel in range(3))


@pytest.mark.parametrize(
    ("size", "wanted"),
    [((640, 360), 126), ((1280, 720), 126), ((720, 1280), 126), ((1920, 1080), 189), ((3840, 2160), 378)],
)
def test_large_frames_have_larger_tiles(size: tuple[int, int], wanted: int) -> None:
    assert tile_size(*size) == wanted


def test_small_frames_have_a_stronger_mark() -> None:
    powers = []
    for size in ((640, 360), (1280, 720)):
        plane = make_plane(7, TensorSpec("frame", "uint8", (1, size[1] * 3 // 2, size[0]), "frame", pixels="i420"))
        powers.append(float(np.sqrt(np.mean(plane[0, : size[1]] ** 2))))
    assert powers == pytest.approx([SMALL_GAIN, 1], abs=0.03)
