"""The compositing stage against NumPy: smoothing in time, place, edge, light, blend; and the same in each engine."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from runtime.compositing.light import blur_matrices, light_size
from runtime.compositing.placement import matrices, place
from runtime.compositing.stage import (
    CALM,
    HASTE,
    PREFIX,
    build_composite_stage,
    composite_inputs,
    composite_outputs,
)
from runtime.engines.engine import Program
from runtime.engines.table import open_engine

SIZE, MATTE = (64, 48), (16, 12)
HALF = (SIZE[0] // 2, SIZE[1] // 2)


class Stage:
    """A session of the graph; `before` is the state."""

    def __init__(self, pixels: str, *, is_lit: bool = False) -> None:
        model = build_composite_stage(*SIZE, pixels, MATTE, is_lit=is_lit)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.before = np.zeros((1, 1, *MATTE[::-1]), np.float32)

    def run(
        self,
        behind: np.ndarray,
        person: np.ndarray,
        matte: np.ndarray,
        feather: float = 1.0,
        threshold: float = 0.5,
        to: tuple[float, float, float] = (0.0, 0.0, 1.0),
        **light: np.ndarray,
    ) -> np.ndarray:
        rows, columns = matrices(place(*SIZE, *to), SIZE, MATTE, HALF)
        values = {
            "behind": behind[None],
            "person": person[None],
            "matte": np.repeat(matte[None, ..., None], 3, axis=3),
            "control": np.array([[feather, threshold]], np.float32),
            "rows": rows[None, None],
            "columns": columns[None, None],
            "before": self.before,
            **light,
        }
        frame, self.before = self.session.run(None, {PREFIX + name: value for name, value in values.items()})
        return frame[0]

    def settle(self, matte: np.ndarray) -> None:
        """Let the smoothing have ended."""
        self.before = (matte / 255).astype(np.float32)[None, None]


def enlarged(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge bilinearly, half-pixel centres."""

    def places(count: int, source: int) -> np.ndarray:
        return np.clip((np.arange(count) + 0.5) * source / count - 0.5, 0, source - 1)

    columns, rows = places(size[0], plane.shape[1]), places(size[1], plane.shape[0])
    wide = np.stack([np.interp(columns, range(plane.shape[1]), line) for line in plane])
    return np.stack([np.interp(rows, range(plane.shape[0]), line) for line in wide.T], axis=1)


@pytest.mark.parametrize(("feather", "threshold"), [(1.0, 0.5), (0.4, 0.35)])
def test_a_frame_is_what_matte_and_ramp_say(feather: float, threshold: float) -> None:
    random = np.random.default_rng(0)
    behind, person = random.integers(0, 256, (2, 48, 64, 3), np.uint8)
    matte = random.integers(0, 256, MATTE[::-1], np.uint8)
    stage = Stage("rgb")
    stage.settle(matte)
    frame = stage.run(behind, person, matte, feather, threshold)
    large = np.kron(enlarged(matte / 255, (32, 24)), np.ones((2, 2)))
    share = np.clip((large - threshold) / feather + 0.5, 0, 1)[..., None]
    assert share.min() < 0.2 < 0.8 < share.max()
    assert np.abs(frame - (behind + share * (person.astype(float) - behind))).max() <= 0.51


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_inside_is_the_person_and_outside_what_is_behind(pixels: str) -> None:
    random = np.random.default_rng(1)
    shape = (48, 64, 3) if pixels == "rgb" else (72, 64)
    behind, person = random.integers(0, 256, (2, *shape), np.uint8)
    matte = np.zeros(MATTE[::-1], np.uint8)
    matte[:, 8:] = 255
    stage = Stage(pixels)
    stage.settle(matte)
    frame = stage.run(behind, person, matte, feather=0.3)
    planes = [frame, behind, person]
    for left, right, parts in [(28, 36, [part[:48] for part in planes])] + (
        [] if pixels == "rgb" else [(14, 18, [part[48:].reshape(48, 32) for part in planes])]
    ):
        made, before, after = parts
        assert np.array_equal(made[:, :left], before[:, :left])
        assert np.array_equal(made[:, right:], after[:, right:])


def test_what_hardly_changes_is_smoothed_and_what_changes_much_is_not() -> None:
    stage = Stage("rgb")
    plain = np.zeros((48, 64, 3), np.uint8)
    stage.before[:] = 0.5
    stage.run(plain, plain, np.full(MATTE[::-1], 138, np.uint8))
    change = 138 / 255 - 0.5
    assert stage.before[0, 0, 5, 5] == pytest.approx(0.5 + change * (CALM + HASTE * change), abs=1e-5)
    stage.before[:] = 0
    stage.run(plain, plain, np.full(MATTE[::-1], 255, np.uint8))
    assert np.all(stage.before == 1), "a hand that appears is there at once"


def test_two_people_are_both_shown() -> None:
    matte = np.zeros(MATTE[::-1], np.uint8)
    matte[4:, 1:5] = matte[4:, 11:15] = 255
    stage = Stage("rgb")
    stage.settle(matte)
    frame = stage.run(np.zeros((48, 64, 3), np.uint8), np.full((48, 64, 3), 200, np.uint8), matte, feather=0.3)
    for left, right, level in ((6, 18, 200), (24, 40, 0), (46, 58, 200)):
        assert np.all(frame[22:, left:right] == level)
    assert np.all(frame[:12] == 0)


def test_the_matte_moves_and_shrinks_with_the_person() -> None:
    person, behind = np.full((48, 64, 3), 200, np.uint8), np.full((48, 64, 3), 10, np.uint8)
    matte = np.full(MATTE[::-1], 255, np.uint8)
    stage = Stage("rgb")
    stage.settle(matte)
    frame = stage.run(behind, person, matte, 0.3, to=(0.25, -0.125, 0.5))
    expected = behind.copy()
    expected[18:42, 32:] = 200  # 32 x 24 pixels, its lower edge 6 pixels above the frame's
    assert np.array_equal(frame, expected)


def light_of(tone: tuple[float, ...], seed: int = 4) -> dict[str, np.ndarray]:
    """Return the inputs of a lit stage: small copies drawn from noise, and a tone with its wrap."""
    wide, high = light_size(MATTE)
    far, near = np.random.default_rng(seed).uniform(0, 255, (2, 1, 3, high, wide)).astype(np.float32)
    rows, columns = matrices(place(*SIZE, 0.0, 0.0, 1.0), SIZE, MATTE, (wide, high))
    places = {"light_rows": rows[None, None], "light_columns": columns[None, None]}
    return {"far": far, "near": near, "tone": np.array([tone], np.float32), **places}


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_a_lit_frame_is_what_tone_and_blurs_say(pixels: str) -> None:
    random = np.random.default_rng(2)
    shape = (48, 64, 3) if pixels == "rgb" else (72, 64)
    behind, person = random.integers(100, 156, (2, *shape), np.uint8)
    light = light_of((0.9, 8.0, -6.0, 4.0, 0.3))
    matte = random.integers(0, 256, MATTE[::-1], np.uint8)
    stage = Stage(pixels, is_lit=True)
    stage.settle(matte)
    frame = stage.run(behind, person, matte, feather=1.0, **light).astype(float)

    down, across = blur_matrices(*SIZE, MATTE)
    share = light["light_rows"][0, 0] @ (matte / 255) @ light["light_columns"][0, 0]
    shift = np.array([8.0, -6.0, 4.0])[:, None, None]
    around = down @ share @ across
    own = down @ ((light["near"][0] * 0.9 + shift) * share) @ across / np.maximum(around, 0.05)
    added = shift + 0.3 * np.minimum(2 - 2 * around, 1) * (down @ light["far"][0] @ across - own)
    large = [np.kron(enlarged(plane, HALF), np.ones((2, 2))) for plane in added]
    alpha = np.kron(enlarged(matte / 255, HALF), np.ones((2, 2)))
    if pixels == "rgb":
        lit = 0.9 * person + np.stack(large, axis=2)
        expected = behind + alpha[..., None] * (lit - behind)
    else:
        chroma = np.concatenate([plane[::2, ::2] for plane in large[1:]]).reshape(24, 64)
        lit = 0.9 * person + np.concatenate([large[0], chroma])
        small = np.concatenate([alpha[::2, ::2]] * 2).reshape(24, 64)
        expected = behind + np.concatenate([alpha, small]) * (lit - behind)
    assert np.abs(frame - expected).max() <= 0.55


def test_light_bleeds_over_the_edge_and_not_further() -> None:
    size, matte_size = (256, 144), (64, 36)
    wide, high = light_size(matte_size)
    matte = np.zeros((36, 64), np.float32)
    matte[:, :32] = 1
    down, across = blur_matrices(*size, matte_size)
    rows, columns = matrices(place(*size, 0.0, 0.0, 1.0), size, matte_size, (wide, high))
    around = down @ (rows @ matte @ columns) @ across
    amount = np.minimum(2 - 2 * around, 1)[high // 2]
    assert np.all(amount[wide // 2 :] == 1), "outside the edge all of it"
    assert 0.1 < amount[wide // 2 - 1] < 0.9
    assert np.all(amount[: wide // 2 - 4] < 0.01)


def test_light_stays_within_the_levels() -> None:
    stage = Stage("rgb", is_lit=True)
    plain = np.full((48, 64, 3), 200, np.uint8)
    for added, level in ((90.0, 255), (-250.0, 0)):
        stage.settle(np.full(MATTE[::-1], 255, np.uint8))
        light = light_of((1.0, added, added, added, 0.0))
        assert np.all(stage.run(plain, plain, np.full(MATTE[::-1], 255, np.uint8), **light) == level)


@pytest.mark.parametrize("is_lit", [False, True])
@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_every_engine_makes_the_same_frames(pixels: str, is_lit: bool) -> None:
    random = np.random.default_rng(3)
    shape = (48, 64, 3) if pixels == "rgb" else (72, 64)
    behind, person = random.integers(0, 256, (2, *shape), np.uint8)
    mattes = random.integers(0, 256, (3, *MATTE[::-1]), np.uint8)
    rows, columns = matrices(place(*SIZE, 0.1, 0.05, 0.7), SIZE, MATTE, HALF)
    light = light_of((0.8, 20.0, -10.0, 5.0, 0.6))
    inputs = composite_inputs(*SIZE, pixels, MATTE, is_lit=is_lit)
    graph = build_composite_stage(*SIZE, pixels, MATTE, is_lit=is_lit).SerializeToString()
    outputs, states = composite_outputs(*SIZE, pixels, MATTE), ((f"{PREFIX}before", f"{PREFIX}after"),)
    made = {}
    for name in ("onnxruntime", "openvino"):
        engine = open_engine(name)
        if (why := engine.available()) is not None:
            pytest.skip(why)
        session = engine.open(Program(graph, inputs, outputs, states), "fp32", 1, None)
        values = {"behind": behind[None], "person": person[None], "control": np.array([[0.5, 0.35]], np.float32)}
        values |= {"rows": rows[None, None], "columns": columns[None, None]}
        values |= light if is_lit else {}
        for key, value in values.items():
            session.write(PREFIX + key, value)
        frames = []
        for matte in mattes:
            session.write(f"{PREFIX}matte", np.repeat(matte[None, ..., None], 3, axis=3))
            session.run()
            frames.append(session.read(f"{PREFIX}frame").copy())
        made[name] = np.stack(frames).astype(int)
        session.close()
    assert np.abs(made["onnxruntime"] - made["openvino"]).max() <= 1
