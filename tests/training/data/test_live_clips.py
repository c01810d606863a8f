"""Clips for super-resolution: which are found, how photographs drift, and what is done to the small copies."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.training.data.test_pictures import write_photo
from training.data.live_clips import SPARE, LiveClipSampler, damaged, drifting, read_clips, split_clips, through_h264

SIDE, COUNT = 64, 4


def write_video(path: Path, seed: int, size: tuple[int, int] = (160, 112), frames: int = 12) -> None:
    """Write a video of a texture that drifts."""
    random = np.random.default_rng(seed)
    texture = cv2.resize(random.integers(0, 256, (40, 60, 3), np.uint8), (480, 320), interpolation=cv2.INTER_CUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            part = np.ascontiguousarray(texture[number : number + size[1], 2 * number : 2 * number + size[0]])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("live")
    for number in range(5):
        write_video(folder / f"{number}.mp4", number)
    write_video(folder / "small.mp4", 9, (80, 64))
    write_video(folder / "short.mp4", 9, frames=2)
    (folder / "broken.mp4").write_bytes(b"no video")
    write_photo(folder / "photo.png", 7, (320, 224))
    (folder / "captions.csv").write_text("file,caption,scene,licence,source\n0.mp4,a texture,place,CC0-1.0,a test\n")
    return folder


def test_what_is_large_and_long_enough_is_found(folder: Path) -> None:
    clips = read_clips([folder], SIDE, COUNT, 3, 0)
    assert {clip.name for clip in clips} == {*(f"{number}.mp4" for number in range(5)), "photo.png"}
    assert {clip.frames.shape for clip in clips} == {(COUNT, SIDE + SPARE, SIDE + SPARE, 3)}
    first = next(clip for clip in clips if clip.name == "0.mp4")
    assert (first.scene, first.licence, first.source) == ("place", "CC0-1.0", "a test")
    assert sum(clip.name == "photo.png" for clip in clips) == 1
    assert all(
        np.array_equal(one.frames, two.frames)
        for one, two in zip(clips, read_clips([folder], SIDE, COUNT, 3, 0), strict=True)
    )
    trained, held = split_clips(clips)
    assert {clip.name for clip in held} == {"photo.png"}  # the fifth scene by name: 1 2 3 4 photo place
    assert len(trained) + len(held) == len(clips)


def test_folders_without_clips_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no video or photograph of at least 96 pixels and 4 frames"):
        read_clips([tmp_path], SIDE, COUNT, 3, 0)
    with pytest.raises(ValueError, match="no folder"):
        read_clips([tmp_path / "none"], SIDE, COUNT, 3, 0)


def test_pairs_are_the_same_in_every_run_and_fit(folder: Path) -> None:
    sampler = LiveClipSampler(read_clips([folder], SIDE, COUNT, 3, 0), SIDE, 3, 5)
    small, large = sampler.batch(2, 3)
    assert small.shape == (3, 3, 3, 32, 32)
    assert large.shape == (3, 3, 3, 64, 64)
    again = LiveClipSampler(read_clips([folder], SIDE, COUNT, 3, 0), SIDE, 3, 5).batch(2, 3)
    assert small.equal(again[0])
    assert large.equal(again[1])
    reduced = large.unflatten(3, (32, 2)).unflatten(5, (32, 2)).mean(dim=(4, 6))
    assert (small - reduced).abs().mean() < 0.06


def test_a_photograph_drifts_a_little() -> None:
    photo = cv2.resize(np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8), (400, 300))
    clip = drifting(photo, 96, 6, np.random.default_rng(2))
    assert clip.shape == (6, 96, 96, 3)
    changes = np.abs(np.diff(clip.astype(float), axis=0)).mean(axis=(1, 2, 3))
    assert changes.min() > 0
    assert changes.max() < 0.8 * np.abs(clip - clip.mean()).mean()


def test_damage_differs_and_a_worse_quality_costs_more() -> None:
    clip = drifting(
        cv2.resize(np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8), (400, 300)),
        96,
        4,
        np.random.default_rng(2),
    )
    made = [damaged(clip, np.random.default_rng(number)) for number in range(6)]
    assert {part.shape for part in made} == {(4, 48, 48, 3)}
    assert len({part.tobytes() for part in made}) == 6
    errors = [np.abs(through_h264(clip, quality).astype(float) - clip).mean() for quality in (15, 25, 35)]
    assert errors[0] < errors[1] < errors[2]
