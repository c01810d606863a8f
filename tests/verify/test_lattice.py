"""Lattices, and spectra at their frequencies."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.marking.pattern import pattern, spectrum, tile
from tests.verify.marked_video import PAYLOAD
from verify.lattice import REACH, degrees_of, period_of, spectrum_at, square, tile_places
from verify.synchronisation import find_lattices


def test_a_lattice_says_how_large_and_how_turned_tiles_are() -> None:
    lattice = square(126, 7.5)
    assert period_of(lattice) == pytest.approx(126)
    assert degrees_of(lattice) == pytest.approx(7.5)


@pytest.mark.parametrize("degrees", [0.0, 1e-9])  # both ways to find a spectrum
def test_the_spectrum_of_a_tile_is_that_of_its_payload(degrees: float) -> None:
    plane = np.tile(tile(PAYLOAD), (3, 5))
    found = spectrum_at(plane, square(126, degrees))
    u, v = pattern().places.T + REACH
    values = found[v, u] / np.abs(found[v, u])
    assert np.abs(values - spectrum(PAYLOAD)).max() < 0.35
    assert np.abs(np.angle(values / spectrum(PAYLOAD))).mean() < 0.12
    assert np.allclose(found[::-1, ::-1], found.conj(), atol=1e-3 * np.abs(found).max())


def test_every_pixel_has_its_cell_of_the_tile() -> None:
    places = tile_places(square(10), 25, 12, 10)
    assert places[0, 3] == 3
    assert places[0, 13] == 3
    assert places[11, 24] == 1 * 10 + 4


@pytest.mark.parametrize(("period", "degrees"), [(126, 0), (97, -11), (151, 30)])
def test_tiles_are_found_by_their_repetition(period: float, degrees: float) -> None:
    lattice = square(period, degrees)
    size = 378
    bins = tile_places(lattice, 720, 540, size)
    plane = tile(PAYLOAD, size).reshape(-1)[bins] + np.random.default_rng(0).normal(0, 3, bins.shape)
    found = find_lattices(plane.astype(np.float32))
    near = [one for one in found if abs(period_of(one) - period) < 0.3 and abs(degrees_of(one) - degrees) < 0.2]
    assert near
