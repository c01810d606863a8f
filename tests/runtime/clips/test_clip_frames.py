"""Reading clips: rates, sizes, cuts, black, stills, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime.clips.clip_frames import ClipFrames, check_readable, read_clip
from tests.runtime.clips.clip_of_waves import waves, write
from tests.streaming.doubles import to_i420

SIZE, SMALL = (128, 72), (64, 36)


def read(clip: Any, **how: Any) -> ClipFrames:
    return read_clip(clip, SIZE, SMALL, fps=30.0, **how)


def test_a_clip_is_read_as_it_is(tmp_path: Path) -> None:
    frames = waves(40)
    clip = read(write(tmp_path / "a.mkv", frames))
    assert np.array_equal(clip.frames, frames)
    assert clip.fps == 30
    assert clip.notes == ()
    assert clip.small.shape == (40, 36, 64, 3)
    assert np.abs(clip.small[7].astype(float) - frames[7].reshape(36, 2, 64, 2, 3).mean(axis=(1, 3))).max() <= 2
    assert np.array_equal(read(frames).frames, frames), "an array"


def test_frames_in_i420(tmp_path: Path) -> None:
    frames = waves(14)
    clip = read(write(tmp_path / "a.mkv", frames), pixels="i420")
    assert clip.frames.shape == (14, 108, 128)
    assert np.abs(clip.frames[3].astype(int) - to_i420(frames[3])).max() <= 3


def test_small_frames_of_the_frames_size_are_their_own(tmp_path: Path) -> None:
    clip = read_clip(write(tmp_path / "a.mkv", waves(14)), SIZE, SIZE, fps=30.0)
    assert np.array_equal(clip.small, clip.frames)
    assert not np.array_equal(clip.small[0], clip.small[13])


def test_rates(tmp_path: Path) -> None:
    frames = waves(40)
    assert read(write(tmp_path / "slow.mkv", frames, fps=15)).fps == 15
    fast = read(write(tmp_path / "fast.mkv", frames, fps=60))
    assert fast.fps == 30
    assert np.array_equal(fast.frames, frames[::2])
    almost = read(write(tmp_path / "almost.mkv", frames, fps=29))
    assert (almost.fps, len(almost.frames)) == (30, 40), "every frame is played, a little faster"


def test_a_varying_rate_becomes_even(tmp_path: Path) -> None:
    frames = waves(40)
    times = [*range(20), *range(20, 60, 2)]  # the second half is half as fast
    clip = read(write(tmp_path / "vary.mkv", frames, times=times))
    twice = [number for number in range(1, len(clip.frames)) if np.array_equal(*clip.frames[number - 1 : number + 1])]
    assert len(twice) > 5, "frames of the slow half are shown longer"


def test_a_long_clip_is_cut_off(tmp_path: Path) -> None:
    clip = read(write(tmp_path / "a.mkv", waves(60)), max_bytes=20 * 128 * 72 * 3)
    assert len(clip.frames) == 20
    assert clip.notes == ("its first 0.7 s are used",)


def test_the_longest_take_without_a_cut_is_used(tmp_path: Path) -> None:
    frames = np.concatenate([255 - waves(15), waves(40), np.zeros((20, 72, 128, 3), np.uint8)])
    clip = read(write(tmp_path / "cuts.mkv", frames))
    assert np.array_equal(clip.frames, waves(40))
    assert clip.notes == ("it has cuts or black frames: the part from 0.5 to 1.8 s is used",)


def test_fast_motion_is_no_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (30, 9, 16, 3)).astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)
    assert len(read(write(tmp_path / "noise.mkv", noise)).frames) == 30


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_an_animated_picture(tmp_path: Path, kind: str) -> None:
    pictures = [Image.fromarray(frame) for frame in waves(20)]
    pictures[0].save(tmp_path / f"a.{kind}", save_all=True, append_images=pictures[1:], duration=50)
    clip = read(tmp_path / f"a.{kind}")
    assert len(clip.frames) == 20
    assert clip.fps == pytest.approx(20)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (waves(5), "has 5 frames, at least 12 are needed"),
        (np.zeros((20, 72, 128, 3), np.uint8), "is black"),
        (np.repeat(waves(1), 20, axis=0), "nothing moves"),
        (np.concatenate([waves(8), 255 - waves(8), waves(8)]), "the longest part"),
    ],
)
def test_what_cannot_play_on_is_refused(tmp_path: Path, frames: np.ndarray, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        read(write(tmp_path / "bad.mkv", frames))


def test_files_that_are_no_clips_are_refused(tmp_path: Path) -> None:
    Image.fromarray(waves(1)[0]).save(tmp_path / "a.jpg")
    (tmp_path / "text.mp4").write_text("no video")
    for name, expected in (("a.jpg", "give it as an image"), ("text.mp4", "cannot be used"), ("none.mp4", "no clip")):
        with pytest.raises(ValueError, match=expected):
            read(tmp_path / name)
    with pytest.raises(ValueError, match="must be uint8"):
        read(waves(20).astype(np.float32))
    with pytest.raises(ValueError, match="must be a path or a uint8 array, got int"):
        read(5)
    with pytest.raises(ValueError, match=r"frames of 128x72 are too large to keep a clip: 3 of them take 0 MiB"):
        read(waves(20), max_bytes=3 * 128 * 72 * 3)


def test_a_still_beginning_is_named(tmp_path: Path) -> None:
    frames = np.concatenate([np.repeat(waves(1), 30, axis=0), waves(30)])
    with pytest.raises(ValueError, match=r"nothing moves in the first 0\.8 s of"):
        read(write(tmp_path / "late.mkv", frames), max_bytes=25 * 128 * 72 * 3)


def test_reading_can_be_given_up(tmp_path: Path) -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 5:
            raise ValueError("this generator is closed")

    with pytest.raises(ValueError, match="this generator is closed"):
        read(write(tmp_path / "a.mkv", waves(40)), check=check)
    assert len(calls) == 6


def test_the_first_frames_are_checked(tmp_path: Path) -> None:
    check_readable(write(tmp_path / "a.mkv", waves(14)))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(ValueError, match="it is no video that FFmpeg can decode"):
        check_readable(tmp_path / "text.mp4")
