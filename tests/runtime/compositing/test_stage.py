"""The compositing stage against NumPy: guided filter, smoothing in time, edge, blend."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from runtime.compositing.stage import CALM, EPSILON, HASTE, PREFIX, RADIUS, build_composite_stage

SIZE, MATTE = (64, 48), (32, 24)
LUMA = np.array([0.2126, 0.7152, 0.0722])


class Stage:
    """A session of the graph; `before` is the state."""

    def __init__(self, pixels: str) -> None:
        model = build_composite_stage(*SIZE, pixels, MATTE)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        self.before = np.zeros((1, 1, *MATTE[::-1]), np.float32)

    def run(
        self, behind: np.ndarray, person: np.ndarray, guide: np.ndarray, matte: np.ndarray, feather: float = 1.0
    ) -> np.ndarray:
        values = {
            "behind": behind[None],
            "person": person[None],
            "guide": guide[None],
            "matte": np.repeat(matte[None, ..., None], 3, axis=3),
            "control": np.array([[feather, 0.5]], np.float32),
            "before": self.before,
        }
        frame, self.before = self.session.run(None, {PREFIX + name: value for name, value in values.items()})
        return frame[0]


def smooth(seed: int, size: tuple[int, int]) -> np.ndarray:
    """Return a smooth picture in colour, uint8."""
    random = np.random.default_rng(seed)
    coarse = random.uniform(0, 255, (4, 4, 3))
    rows, columns = np.linspace(0, 3, size[1]), np.linspace(0, 3, size[0])
    by_row = np.stack([np.interp(rows, range(4), coarse[:, i, c]) for i in range(4) for c in range(3)], axis=1)
    by_row = by_row.reshape(size[1], 4, 3)
    picture = np.stack(
        [[np.interp(columns, range(4), line[:, c]) for c in range(3)] for line in by_row]
    )  # (rows, 3, columns)
    return picture.transpose(0, 2, 1).round().astype(np.uint8)


def box(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    found = np.empty_like(plane)
    for y in range(height):
        for x in range(width):
            found[y, x] = plane[max(0, y - RADIUS) : y + RADIUS + 1, max(0, x - RADIUS) : x + RADIUS + 1].mean()
    return found


def enlarged(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Enlarge bilinearly, half-pixel centres."""

    def places(count: int, source: int) -> np.ndarray:
        return np.clip((np.arange(count) + 0.5) * source / count - 0.5, 0, source - 1)

    columns, rows = places(size[0], plane.shape[1]), places(size[1], plane.shape[0])
    wide = np.stack([np.interp(columns, range(plane.shape[1]), line) for line in plane])
    return np.stack([np.interp(rows, range(plane.shape[0]), line) for line in wide.T], axis=1)


def test_a_frame_is_what_the_guided_filter_says() -> None:
    behind, person, guide = smooth(1, SIZE), smooth(2, SIZE), smooth(2, MATTE)
    matte = np.zeros(MATTE[::-1], np.uint8)
    matte[6:18, 8:24] = 255
    stage = Stage("rgb")
    stage.before = (matte / 255).astype(np.float32)[None, None]  # a matte that stands still
    frame = stage.run(behind, person, guide, matte)
    alpha, luma = matte / 255.0, (guide @ LUMA) / 255
    scale = (box(luma * alpha) - box(luma) * box(alpha)) / (box(luma * luma) - box(luma) ** 2 + EPSILON)
    offset = box(alpha) - scale * box(luma)
    blocks = [np.kron(enlarged(box(part), (32, 24)), np.ones((2, 2))) for part in (scale, offset)]
    share = np.clip(blocks[0] * (person @ LUMA) / 255 + blocks[1] - 0.5 + 0.5, 0, 1)[..., None]
    wanted = behind + share * (person.astype(float) - behind)
    assert np.abs(frame - wanted).max() <= 1
    assert share[24, 32] > 0.85
    assert share[2, 2] < 0.05


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_inside_is_the_person_and_outside_what_is_behind(pixels: str) -> None:
    shape = (48, 64, 3) if pixels == "rgb" else (72, 64)
    behind, person = np.full(shape, 60, np.uint8), np.full(shape, 180, np.uint8)
    matte = np.zeros(MATTE[::-1], np.uint8)
    matte[:, 16:] = 255
    stage, guide = Stage(pixels), np.full((24, 32, 3), 128, np.uint8)
    for _ in range(8):
        frame = stage.run(behind, person, guide, matte, feather=0.3)
    luma = frame[:48] if pixels == "i420" else frame[..., 0]
    assert np.all(luma[:, :16] == 60)
    assert np.all(luma[:, 48:] == 180)
    assert np.all(np.diff(luma.astype(int), axis=1) >= 0)
    if pixels == "i420":
        for plane in frame[48:].reshape(2, 24, 32):
            assert np.all(plane[:, :8] == 60)
            assert np.all(plane[:, 24:] == 180)


def test_luma_in_i420_is_read_as_that_of_the_guide() -> None:
    """The same person in RGB and I420 has the same edge."""
    grey = np.linspace(16, 235, 64).round()
    person_y = np.repeat(grey[None], 48, axis=0)
    rgb = np.repeat(np.round((person_y - 16) / 219 * 255)[..., None], 3, axis=2).astype(np.uint8)
    i420 = np.concatenate([person_y, np.full((24, 64), 128)]).astype(np.uint8)
    guide = rgb[::2, ::2]
    matte = np.where(guide[..., 0] > 128, 255, 0).astype(np.uint8)
    shares = []
    for pixels, person in (("rgb", rgb), ("i420", i420)):
        stage = Stage(pixels)
        stage.before = (matte / 255).astype(np.float32)[None, None]
        black = np.zeros_like(person)
        frame = stage.run(black, person, guide, matte)
        plane = frame[:48] if pixels == "i420" else frame[..., 0]
        whole = person[:48] if pixels == "i420" else person[..., 0]
        shares.append(plane[:, 20:] / whole[:, 20:])
    assert np.abs(shares[0] - shares[1]).max() < 0.03


def test_what_hardly_changes_is_smoothed_and_what_changes_much_is_not() -> None:
    stage = Stage("rgb")
    plain, guide = np.zeros((48, 64, 3), np.uint8), np.full((24, 32, 3), 128, np.uint8)
    stage.run(plain, plain, guide, np.full((24, 32), 128, np.uint8))
    stage.before[:] = 0.5
    stage.run(plain, plain, guide, np.full((24, 32), 138, np.uint8))
    change = 138 / 255 - 0.5
    assert stage.before[0, 0, 5, 5] == pytest.approx(0.5 + change * (CALM + HASTE * change), abs=1e-5)
    stage.before[:] = 0
    stage.run(plain, plain, guide, np.full((24, 32), 255, np.uint8))
    assert np.all(stage.before == 1), "a hand that appears is there at once"
