"""The compositing stage against NumPy: smoothing in time, edge, blend."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from runtime.compositing.stage import CALM, HASTE, PREFIX, build_composite_stage

SIZE, MATTE = (64, 48), (16, 12)


class Stage:
    """A session of the graph; `before` is the state."""

    def __init__(self, pixels: str) -> None:
        model = build_composite_stage(*SIZE, pixels, MATTE)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.before = np.zeros((1, 1, *MATTE[::-1]), np.float32)

    def run(
        self, behind: np.ndarray, person: np.ndarray, matte: np.ndarray, feather: float = 1.0, threshold: float = 0.5
    ) -> np.ndarray:
        values = {
            "behind": behind[None],
            "person": person[None],
            "matte": np.repeat(matte[None, ..., None], 3, axis=3),
            "control": np.array([[feather, threshold]], np.float32),
            "before": self.before,
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
