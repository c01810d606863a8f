"""What the stage needs to light a person: small copies of the frames, and the tone of what is behind."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.compositing.light import Light, blur_matrices
from runtime.compositing.placement import place
from tests.streaming.doubles import to_i420

SIZE, MATTE = (128, 96), (64, 48)
WHOLE = place(*SIZE, 0.0, 0.0, 1.0)


def frame(rgb: tuple[int, int, int], pixels: str, contrast: int = 0) -> np.ndarray:
    """Return a plain frame, or one with stripes of this much more and less than the colour."""
    picture = np.zeros((96, 128, 3), np.uint8)
    picture[:] = rgb
    picture[np.arange(96) % 32 < 16] += np.uint8(contrast)
    picture[np.arange(96) % 32 >= 16] -= np.uint8(contrast)
    return picture if pixels == "rgb" else to_i420(picture)


def left_half() -> np.ndarray:
    matte = np.zeros((48, 64), np.uint8)
    matte[:, :32] = 255
    return matte


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_without_tone_the_person_stays_as_it_is(pixels: str) -> None:
    behind, person = frame((200, 220, 250), pixels), frame((90, 80, 70), pixels)
    light = Light(*SIZE, pixels, MATTE)
    light.see(person, left_half(), WHOLE)
    found = light.update(behind, 0.25, 0.0)
    assert np.allclose(found["tone"], [[1, 0, 0, 0, 0.25]])
    for name, whole in (("far", behind), ("near", person)):
        assert found[name].shape == (1, 3, 24, 32)
        assert found[name].dtype == np.float32
        colour = whole[0, 0] if pixels == "rgb" else (whole[0, 0], whole[96, 0], whole[120, 0])
        assert np.all(found[name][0] == np.array(colour, np.float32)[:, None, None])


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_tone_moves_mean_and_contrast(pixels: str) -> None:
    behind, person = frame((200, 150, 100), pixels, contrast=24), frame((80, 100, 90), pixels, contrast=20)
    found = []
    for tone in (1.0, 0.5):
        light = Light(*SIZE, pixels, MATTE)
        light.see(person, left_half(), WHOLE)
        found.append(light.update(behind, 0.0, tone))
    (whole, half) = (one["tone"][0] for one in found)
    assert whole[0] == pytest.approx(1.2, abs=0.04), "levels of luma are rounded"
    far, near = (found[0][name][0].mean((1, 2)) for name in ("far", "near"))
    assert np.abs(near * whole[0] + whole[1:4] - far).max() < 1
    assert half[0] == pytest.approx((1 + whole[0]) / 2)
    assert np.abs(near * half[0] + half[1:4] - (far + near) / 2).max() < 1


def test_only_the_person_has_the_persons_tone() -> None:
    person = frame((100, 100, 100), "rgb")
    person[:, 64:] = 255
    for matte, to, mean in (
        (left_half(), WHOLE, 100),
        (left_half()[:, ::-1], WHOLE, 255),
        (np.full((48, 64), 255, np.uint8), place(*SIZE, 0.25, 0.0, 0.5), 255),
    ):
        light = Light(*SIZE, "rgb", MATTE)
        light.see(person, matte, to)
        tone = light.update(frame((50, 50, 50), "rgb"), 0.0, 1.0)["tone"][0]
        assert tone[0] * mean + tone[1] == pytest.approx(50, abs=0.5)


def test_tone_does_not_pump_and_outlasts_an_empty_frame() -> None:
    light = Light(*SIZE, "rgb", MATTE)
    dark, bright, person = (frame((level, level, level), "rgb") for level in (40, 240, 120))

    def shown(behind: np.ndarray) -> float:
        tone = light.update(behind, 0.0, 1.0)["tone"][0]
        return float(tone[0] * 120 + tone[1])

    light.see(person, left_half(), WHOLE)
    first, flash = shown(dark), shown(bright)
    assert abs(flash - first) < 0.1 * 200
    light.see(person, np.zeros((48, 64), np.uint8), WHOLE)
    assert shown(bright) == flash
    light.see(person, left_half(), WHOLE)
    for _ in range(200):
        later = shown(bright)
    assert later == pytest.approx(240, abs=1)


def test_nobody_has_no_tone_yet() -> None:
    light = Light(*SIZE, "rgb", MATTE)
    light.see(frame((120, 120, 120), "rgb"), np.zeros((48, 64), np.uint8), WHOLE)
    assert np.allclose(light.update(frame((40, 40, 40), "rgb"), 0.0, 1.0)["tone"], [[1, 0, 0, 0, 0]])


def test_the_blur_keeps_means_and_is_as_wide_either_way() -> None:
    down, across = blur_matrices(1280, 720, (256, 144))
    assert (down.shape, across.shape) == ((72, 72), (128, 128))
    plain = np.full((72, 128), 7.0, np.float32)
    assert np.allclose(down @ plain @ across, plain, atol=1e-4)
    dot = np.zeros((72, 128), np.float32)
    dot[36, 64] = 1
    spot = down @ dot @ across
    assert np.allclose(spot[36, 60:69], spot[32:41, 64], atol=1e-6)
