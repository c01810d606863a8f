"""Clips of every kind, in a generator: what is seen, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from runtime import Generator
from runtime.clips.clip_frames import ClipFrames, read_clip
from runtime.clips.clip_source import varies
from runtime.clips.high_range import ToStandardRange, to_standard
from tests import moving
from tests.runtime.clips import clip_files
from tests.runtime.clips.clip_files import PLAYED, REFUSED
from tests.runtime.clips.clip_of_waves import waves
from tests.streaming.doubles import to_i420

SIZE, SMALL = (128, 72), (64, 36)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generator]:
    folder = moving.build(tmp_path_factory.mktemp("moving") / "moving")
    with Generator.open(folder, engine="onnxruntime", size=SIZE) as opened:
        yield opened


def read(path: Path, pixels: str = "rgb") -> ClipFrames:
    return read_clip(path, SIZE, SMALL, fps=30.0, pixels=pixels)


@pytest.mark.parametrize("kind", PLAYED)
def test_it_plays(kind: str, generator: Generator, tmp_path: Path) -> None:
    make, expected = PLAYED[kind]
    generator.condition(clip=make(tmp_path))
    assert generator.scene is not None
    assert generator.scene.clip is not None
    assert expected in generator.scene.clip.summary
    frames = np.stack([frame.copy() for frame in islice(generator, 60)])
    assert frames.max() > 60, "it is not black"
    assert np.abs(frames[1:].astype(int) - frames[:-1]).max() > 2, "it moves"


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused(kind: str, generator: Generator, tmp_path: Path) -> None:
    make, expected = REFUSED[kind]
    with pytest.raises(ValueError, match=expected) as refusal:
        generator.condition(clip=make(tmp_path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_a_portrait_is_cropped_around_its_middle(tmp_path: Path, pixels: str) -> None:
    clip = read(clip_files.portrait(tmp_path), pixels)
    whole = waves(40, 72, 128)[3].astype(float)
    middle = whole[64 - 20 : 64 + 21].mean(axis=(0, 1))  # 72 x 40.5 of 72 x 128
    if pixels == "rgb":
        assert np.abs(clip.frames[3].mean(axis=(0, 1)) - middle).max() < 2
    else:
        wanted = to_i420(np.broadcast_to(middle, (72, 128, 3)).astype(np.uint8))
        assert abs(clip.frames[3][:72].mean() - wanted[:72].mean()) < 2
        assert abs(clip.frames[3][72:].mean() - wanted[72:].mean()) < 2
    assert np.abs(clip.small[3].mean(axis=(0, 1)) - middle).max() < 3, "what is compared is cropped alike"


def test_what_was_filmed_sideways_stands_upright(tmp_path: Path) -> None:
    clip = read(clip_files.turned(tmp_path))
    assert np.abs(clip.frames[5].astype(float) - waves(40)[5]).mean() < 4


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    clip = read(clip_files.transparent(tmp_path))
    assert clip.frames[5][:, :39].max() == 0
    assert np.array_equal(clip.frames[5][:, 41:], waves(40)[5][:, 41:])


def test_every_eighth_of_240_frames_is_used(tmp_path: Path) -> None:
    clip = read(clip_files.fast(tmp_path))
    wanted = waves(320, period=240.0)[::8]
    assert clip.frames.shape == wanted.shape
    assert np.abs(clip.frames.astype(int) - wanted).mean() < 1, "the container rounds times to milliseconds"


def test_what_comes_before_the_damage_is_used(tmp_path: Path) -> None:
    clip = read(clip_files.damaged(tmp_path))
    assert 20 < len(clip.frames) < 45
    assert np.array_equal(clip.frames[:20], waves(60)[:20])


def test_high_range_becomes_standard() -> None:
    # PQ codes 0.5807 for 203 cd/m2, reference white; HLG 0.75 (ITU-R BT.2408).
    for transfer, white in ((16, 0.5807), (18, 0.75)):
        levels = np.array([[0.0] * 3, [white / 2] * 3, [white] * 3, [1.0] * 3])
        found = to_standard(levels, transfer)
        assert found[0].max() == 0
        assert found[2] == pytest.approx(0.953, abs=0.004), "(0.7 + 0.3 (1 - 1 / e)) ** (1 / 2.4)"
        assert found[3] == pytest.approx(1, abs=0.02)
        assert np.ptp(found, axis=1).max() < 0.01, "grey stays grey"
        table = ToStandardRange.of(transfer)
        picture = np.full((2, 2, 3), round(white * 255), np.uint8)
        assert table.convert(picture) == pytest.approx(255 * 0.953, abs=6), "interpolated"


def test_when_a_rate_varies() -> None:
    assert not varies([number / 30 for number in range(40)])
    assert not varies([round(number / 240, 3) for number in range(40)]), "milliseconds are rounded"
    assert varies([*(number / 30 for number in range(20)), *(1 + number / 15 for number in range(20))])
    assert not varies([0.0, 1.0])
