"""Motion that is drawn over a memory, without a graph."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.prompts import drawn_motion
from runtime.prompts.drawn_motion import MAX_FLOW, frozen, painted, to_raster, with_drawn_motion
from runtime.prompts.hints import Hints, Stroke, Vector

ROWS, COLUMNS, CELL = 32, 56, 4
RATE = 20.0  # steps per second


def memory(x: float = 0.0, y: float = 0.0, free: float = 0.25) -> np.ndarray:
    flow = np.empty((1, 3, ROWS, COLUMNS), np.float32)
    flow[0, 0], flow[0, 1], flow[0, 2] = x, y, free
    return flow


def river() -> np.ndarray:
    """A picture, uint8 (128, 224, 3): blue water in the left half, brown rock in the right one."""
    picture = np.empty((ROWS * CELL, COLUMNS * CELL, 3), np.uint8)
    picture[:, : COLUMNS * CELL // 2], picture[:, COLUMNS * CELL // 2 :] = (40, 80, 160), (130, 90, 50)
    return picture


def everywhere() -> np.ndarray:
    return np.full((ROWS * CELL, COLUMNS * CELL), 255, np.uint8)


def seen(flow: np.ndarray) -> np.ndarray:
    """Return what is seen of a memory: flow times freedom, (h, w, 2)."""
    return np.moveaxis(flow[0, :2] * flow[0, 2], 0, 2)


def test_an_arrow_holds_where_it_was_drawn_and_ends_at_the_rock() -> None:
    drawn = with_drawn_motion(memory(1, 0), Hints((Vector(0.4, 0.4, 0.0, 0.25),)), river(), everywhere(), RATE)
    motion = seen(drawn)
    # 0.25 of 128 pixels in 20 steps.
    for row in (13, 16, 20):
        assert motion[row, 22] == pytest.approx((0, 1.6), abs=0.05)
    assert drawn[0, 2, 16, 22] == pytest.approx(1, abs=0.01), "it is free to move there"
    assert np.abs(motion[:, COLUMNS // 2 + 2 :] - (0.25, 0)).max() < 0.01, "the rock moves as before"
    assert np.abs(motion[:, :8] - (0.25, 0)).max() < 1e-6, "and so does what is far away"
    assert motion[8, 22, 1] < 0.2, "motion begins where the arrow begins"
    assert not np.shares_memory(drawn, memory())


def test_what_an_arrow_only_crosses_stays() -> None:
    drawn = with_drawn_motion(memory(), Hints((Vector(0.3, 0.5, 0.5, 0.0),)), river(), everywhere(), RATE)
    assert seen(drawn)[16, 20, 0] == pytest.approx(0.5 * 224 / RATE, rel=0.05)
    assert np.abs(seen(drawn)[:, COLUMNS // 2 + 2 :]).max() < 0.05, "the rock on the other side"


def test_nothing_drawn_changes_nothing() -> None:
    flow = memory(1, 2)
    assert with_drawn_motion(flow, Hints(), river(), everywhere(), RATE) is flow
    assert frozen(flow, Hints((Vector(0.5, 0.5, 0, 0.1),))) is flow


def test_the_mask_of_what_may_move_holds_for_arrows_and_brushes() -> None:
    mask = everywhere()
    mask[64:] = 0
    flow = memory()
    flow[0, 2, 16:] = 0  # as a condition graph returns it
    hints = Hints((Vector(0.25, 0.3, 0, 0.5),), (Stroke("moving", 0.1, ((0.25, 0.1), (0.25, 0.9))),))
    drawn = with_drawn_motion(flow, hints, river(), mask, RATE)
    assert drawn[0, 2, 16:].max() == 0
    assert seen(drawn)[14, 14, 1] > 1


def test_brushes_freeze_and_free() -> None:
    strokes = (Stroke("still", 0.05, ((0.1, 0.5), (0.4, 0.5))), Stroke("moving", 0.05, ((0.6, 0.5), (0.9, 0.5))))
    drawn = with_drawn_motion(memory(2, 0), Hints(strokes=strokes), river(), everywhere(), RATE)
    assert drawn[0, 2, 15:17, 6:22].max() == 0
    assert drawn[0, 2, 15:17, 34:50].min() == 1
    edge = drawn[0, 2, :16, 14]
    assert (np.diff(edge) <= 0).all(), "the edge is soft"
    assert len(np.unique(edge)) > 2
    assert np.array_equal(drawn[0, :2], memory(2, 0)[0, :2]), "brushes do not say where to"
    assert np.array_equal(frozen(memory(2, 0), Hints(strokes=strokes))[0, 2, 15:17, 6:22], drawn[0, 2, 15:17, 6:22])
    assert frozen(memory(2, 0), Hints(strokes=strokes))[0, 2, 16, 40] == 0.25


def test_the_still_brush_stops_an_arrow() -> None:
    wall = Stroke("still", 0.01, ((0.25, 0.0), (0.25, 1.0)))
    hints = Hints((Vector(0.2, 0.4, 0.0, 0.2),), (wall,))
    motion = seen(with_drawn_motion(memory(), hints, river(), everywhere(), RATE))
    assert motion[15, 11, 1] > 0.7
    assert np.abs(motion[:, 16:]).max() < 0.02, "beyond the wall is the same water"


def test_arrows_reach_farther_where_the_moving_brush_was() -> None:
    arrow, brush = Vector(0.05, 0.5, 0.0, 0.1), Stroke("moving", 0.06, ((0.0, 0.55), (0.45, 0.55)))
    without, along = (
        seen(with_drawn_motion(memory(), Hints((arrow,), strokes), river(), everywhere(), RATE))[17, 20, 1]
        for strokes in ((), (brush,))
    )
    assert without == 0
    assert along > 0.3


def test_each_place_follows_the_nearest_arrow_and_no_flow_is_too_fast() -> None:
    arrows = (Vector(0.1, 0.5, 0.0, 0.2), Vector(0.4, 0.5, 0.0, -0.2), Vector(0.8, 0.5, 2.0, 0.0))
    drawn = with_drawn_motion(memory(), Hints(arrows), river(), everywhere(), RATE)
    motion = seen(drawn)
    assert motion[17, 5, 1] == pytest.approx(1.28, abs=0.05)
    assert motion[14, 22, 1] == pytest.approx(-1.28, abs=0.05)
    assert motion[16, 45, 0] == pytest.approx(MAX_FLOW, rel=0.05)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("vector", [(0, 0, 0, 0), (1, 1, 2, 2), (0, 1, -2, 2), (1, 0, 0, -1e-9)])
def test_arrows_in_the_corners_are_allowed(vector: tuple[float, float, float, float]) -> None:
    drawn = with_drawn_motion(memory(), Hints((Vector(*vector),)), river(), everywhere(), RATE)
    row, column = round(vector[1] * (ROWS - 1)), round(vector[0] * (COLUMNS - 1))
    assert drawn[0, 2, row, column] > 0.9
    assert np.isfinite(drawn).all()


def test_a_graph_reads_hints_as_a_small_picture() -> None:
    strokes = (Stroke("still", 0.1, ((0.0, 0.0),)), Stroke("moving", 0.001, ((1.0, 1.0),)))
    raster = to_raster(Hints((Vector(0.5, 0.25, 0.1, -0.2),), strokes), (1, 5, 16, 28), 8, RATE)
    assert raster.dtype == np.float32
    assert raster[0, :, 4, 14] == pytest.approx((1.12, -1.28, 1, 0, 0), abs=1e-6)
    assert raster[0, :3].astype(bool).sum() == 3
    assert sorted(zip(*np.nonzero(raster[0, 3]), strict=True)) == [
        (row, column) for row in range(3) for column in range(3) if (row + 0.5) ** 2 + (column + 0.5) ** 2 <= 2.8**2
    ]
    assert list(zip(*np.nonzero(raster[0, 4]), strict=True)) == [(15, 27)], "however small the brush"
    assert not to_raster(Hints(), (1, 5, 16, 28), 8, RATE).any()


def test_a_stroke_is_as_wide_as_the_brush() -> None:
    cover = painted([Stroke("still", 5 / COLUMNS, ((0.25, 0.5), (0.75, 0.5)))], "still", (ROWS, COLUMNS), soft=0.0)
    assert cover[:, 28].sum() == 10
    assert cover[16].sum() == 28 + 10
    assert not painted([Stroke("still", 0.1, ((0.5, 0.5),))], "moving", (ROWS, COLUMNS), soft=1.0).any()


@pytest.mark.parametrize("brush", [None, Stroke("moving", 0.06, ((0.0, 0.5), (0.9, 0.5)))])
def test_what_lies_beyond_the_reach_of_an_arrow_is_not_computed(
    brush: Stroke | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does it change anything: the same comes of the whole picture."""
    arrows = (Vector(0.1, 0.2, 0.05, 0.1), Vector(0.4, 0.5, 0.0, -0.2), Vector(0.8, 0.5, 0.1, 0.0))
    hints = Hints(arrows, () if brush is None else (brush,))
    whole, sizes = (slice(0, ROWS), slice(0, COLUMNS)), []
    distances = drawn_motion._distances
    monkeypatch.setattr(
        drawn_motion, "_distances", lambda costs, *given: (sizes.append(costs.size), distances(costs, *given))[1]
    )
    found = with_drawn_motion(memory(), hints, river(), everywhere(), RATE)
    assert (max(sizes) < ROWS * COLUMNS) == (brush is None), "a brush makes ways cheap, so that arrows reach farther"
    monkeypatch.setattr(drawn_motion, "_within", lambda *_: whole)
    assert np.array_equal(found, with_drawn_motion(memory(), hints, river(), everywhere(), RATE))
