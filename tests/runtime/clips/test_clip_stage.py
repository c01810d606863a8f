"""The clip stage against NumPy, and the same in each engine."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.clips.stage import PREFIX, build_clip_stage, clip_inputs, clip_output
from runtime.engines.engine import Program
from runtime.engines.table import open_engine
from tests.runtime.clips.clip_of_waves import waves
from tests.streaming.doubles import to_i420

SIZE, MOVES = (64, 48), (16, 12)


def run(engine: str, pixels: str, first: np.ndarray, second: np.ndarray, moves: np.ndarray) -> np.ndarray:
    graph = build_clip_stage(*SIZE, pixels, MOVES, 4).SerializeToString()
    program = Program(graph, clip_inputs(*SIZE, pixels, MOVES), (clip_output(*SIZE, pixels),))
    session = open_engine(engine).open(program, "fp32", 1, None)
    try:
        for name, value in (("first", first[None]), ("second", second[None]), ("moves", moves)):
            session.write(PREFIX + name, value)
        session.run()
        return session.read(f"{PREFIX}frame")[0].copy()
    finally:
        session.close()


def still(share: float) -> np.ndarray:
    moves = np.zeros((1, 5, MOVES[1], MOVES[0]), np.float32)
    moves[0, 4] = share
    return moves


def pictures(pixels: str) -> tuple[np.ndarray, np.ndarray]:
    first, second = waves(2, *SIZE, period=4)
    return (first, second) if pixels == "rgb" else (to_i420(first), to_i420(second))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_what_does_not_move_is_blended_exactly(engine: str, pixels: str) -> None:
    first, second = pictures(pixels)
    assert np.array_equal(run(engine, pixels, first, second, still(1)), first)
    assert np.array_equal(run(engine, pixels, first, second, still(0)), second)
    blend = run(engine, pixels, first, second, still(0.25))
    assert np.abs(blend - (0.25 * first + 0.75 * second)).max() <= 0.51


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_whole_pixels_are_moved_exactly(engine: str, pixels: str) -> None:
    first, second = pictures(pixels)
    moves = still(1)
    moves[0, 0], moves[0, 1] = 6, -4  # to the right, and up
    found = run(engine, pixels, first, second, moves)
    rows, columns = slice(8, SIZE[1] - 8), slice(8, SIZE[0] - 8)
    wanted = np.roll(first[: SIZE[1]], (-4, 6), axis=(0, 1))
    assert np.array_equal(found[rows, columns], wanted[rows, columns])
    if pixels == "i420":
        chroma, moved = (x[SIZE[1] :].reshape(2, SIZE[1] // 2, SIZE[0] // 2) for x in (first, found))
        inside = (slice(None), slice(4, -4), slice(4, -4))
        assert np.array_equal(moved[inside], np.roll(chroma, (-2, 3), axis=(1, 2))[inside])


def test_each_side_has_its_own_moves() -> None:
    first, second = pictures("rgb")
    moves = still(0)
    moves[0, 2] = 5
    found = run("onnxruntime", "rgb", first, second, moves)
    assert np.array_equal(found[:, 8:-8], np.roll(second, 5, axis=1)[:, 8:-8])


def test_beyond_an_edge_the_edge_is_repeated() -> None:
    first, second = pictures("rgb")
    moves = still(1)
    moves[0, 0] = 8
    found = run("onnxruntime", "rgb", first, second, moves)
    assert np.array_equal(found[:, :8], np.repeat(first[:, :1], 8, axis=1))
