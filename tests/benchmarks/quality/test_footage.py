"""Windows are spread over videos and time, never cross the split, and never pad."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.quality.footage import choose_windows, footage_settings, read_clips, usable_frames
from training.config import FootageConfig as Settings

SETTINGS = Settings(short_side=72, crop_min=64, crop_max=72, horizon_frames=8)


class Shelf:
    """A library of takes of given lengths, one video each, whose frames show their number."""

    path = Path("shelf")

    def __init__(self, lengths: list[int], scenes: list[str] | None = None) -> None:
        self._lengths = lengths
        self._scenes = scenes or [f"scene{number}" for number in range(len(lengths))]

    def lengths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lengths = np.array(self._lengths)
        return np.zeros_like(lengths), lengths, lengths

    def scenes(self) -> list[str]:
        return self._scenes

    def __len__(self) -> int:
        return len(self._lengths)

    def take(self, index: int) -> Any:
        return SimpleNamespace(
            video=f"{index}.mp4", scene=self._scenes[index], label="", caption="", height=72, width=100
        )

    def record(self, index: int) -> Any:
        return SimpleNamespace(frame=lambda number: np.full((72, 100, 3), number, np.uint8))


def choose(shelf: Shelf, side: str = "heldout", settings: Settings = SETTINGS, **changes: Any) -> Any:
    wanted = {"count": 8, "frames": 64, "height": 48, "width": 64, "seed": 0} | changes
    return choose_windows(shelf, settings, side, **wanted)  # type: ignore[arg-type]


def test_clip_length_is_as_wanted_or_a_multiple_of_eight() -> None:
    assert [usable_frames(length, 64) for length in (200, 64, 63, 40, 17, 7)] == [64, 64, 56, 40, 16, 0]
    assert usable_frames(200, 20) == 20


def test_windows_are_spread_evenly_and_the_same_every_time() -> None:
    shelf = Shelf([200] * 10)
    chosen, others, too_short = choose(shelf)
    assert choose(shelf) == (chosen, others, too_short)
    assert Counter(window.video for window in chosen).most_common() == Counter(w.video for w in others).most_common()
    assert sorted(Counter(window.video for window in chosen).values()) == [4, 4]  # two of ten scenes are held out
    starts = sorted(window.first for window in (*chosen, *others) if window.video == chosen[0].video)
    assert starts[0] < 20
    assert starts[-1] > 116
    assert len(set(starts)) == 8
    for window in chosen:
        assert 0 <= window.first <= 200 - 64
        assert 0 <= window.top <= 72 - window.height
        assert 0 <= window.left <= 100 - window.width
        assert window.width / window.height == pytest.approx(64 / 48, rel=0.03)


def test_both_sides_have_no_scene_in_common() -> None:
    shelf = Shelf([100] * 12, [f"scene{number // 2}" for number in range(12)])
    heldout, training = (choose(shelf, side, count=12)[0] for side in ("heldout", "train"))
    assert not {window.scene for window in heldout} & {window.scene for window in training}


def test_held_out_time_comes_after_the_gap_and_is_never_padded() -> None:
    time = Settings(short_side=72, crop_min=64, crop_max=72, horizon_frames=8, holdout="time")
    chosen, _, too_short = choose(Shelf([300, 200, 60]), settings=time)
    assert too_short == []  # four frames are left of the third: split() itself passes over it
    assert Counter(window.frames for window in chosen) == {48: 4, 32: 4}
    for window in chosen:
        total = 300 if window.video == "0.mp4" else 200
        assert window.first >= 0.8 * total + 8
        assert window.first + window.frames <= total


def test_short_videos_are_named() -> None:
    time = Settings(short_side=72, crop_min=64, crop_max=72, horizon_frames=8, holdout="time")
    chosen, _, too_short = choose(Shelf([300, 100]), settings=time)  # 12 frames are left of the second
    assert too_short == ["1.mp4"]
    assert {window.video for window in chosen} == {"0.mp4"}


def test_more_videos_than_clips() -> None:
    chosen, others, _ = choose(Shelf([100] * 40), count=5)
    assert len({window.video for window in chosen}) == len(chosen) == len(others) == 5


def test_clips_are_the_windows_frames_at_the_bundle_size() -> None:
    shelf = Shelf([100] * 4)
    chosen, _, _ = choose(shelf, count=2)
    seen: list[int] = []
    real = read_clips(shelf, chosen, 48, 64, lambda: seen.append(1))  # type: ignore[arg-type]
    assert real.clips[0].shape == (64, 48, 64, 3)
    assert real.clips[0][:, 20, 30, 0].tolist() == list(range(chosen[0].first, chosen[0].first + 64))
    assert real.lengths == [64, 64]
    assert len(seen) == 2


def test_settings_come_from_the_training_and_from_the_user() -> None:
    known = {"holdout": "time", "holdout_fraction": 0.3, "short_side": 208, "crop_min": 136, "crop_max": 208, "new": 1}
    found = footage_settings(known, {"holdout_fraction": 0.25, "crop_min": None})
    assert (found.holdout, found.holdout_fraction, found.crop_min, found.short_side) == ("time", 0.25, 136, 208)
    assert footage_settings(None, {}) == Settings()
    small = footage_settings(None, {"short_side": 96})
    assert (small.crop_min, small.crop_max, small.short_side) == (96, 96, 96)
    with pytest.raises(ValueError, match="holdout_fraction"):
        footage_settings(None, {"holdout_fraction": 2.0})
