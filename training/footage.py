"""Footage: a folder of videos -> clips, decoded once and drawn by (seed, iteration) alone.

Legend: T frames, H height, W width of a clip as the generator sees it.
"""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from rich.progress import Progress

from training.config import Footage

SUFFIXES = {".mp4", ".mkv", ".mov", ".avi", ".webm", ".mpg", ".mpeg", ".m4v", ".ts", ".gif"}
MAX_FRAMES = 20_000  # of one video at the decoded size; longer footage belongs in several files


@dataclass(frozen=True)
class Video:
    """One decoded video; arrays are memory-mapped, so a large folder costs address space and not memory."""

    name: str
    scene: str
    licence: str
    source: str
    frames: np.ndarray  # (T, h, w, 3) uint8 RGB
    flows: np.ndarray  # (T - 1, h // 4, w // 4, 2) float16: optical flow to the next frame, pixels of the decoded video
    first: int  # the split: frames from here
    last: int  # to here (exclusive) may be drawn


class Batch(NamedTuple):
    """Clips for one iteration, as float32 arrays."""

    first: np.ndarray  # (B, 3, H, W) RGB in [0, 1]
    frames: np.ndarray  # (B, N, 3, H, W): the frames at the offsets asked for
    flow: np.ndarray  # (B, 2, H / 4, W / 4): mean optical flow over the horizon, pixels per frame
    names: list[str]


def cache_folder() -> Path:
    """Return the folder where decoded footage is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "everframe" / "footage"


def read_captions(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of `captions.csv` by file name; an empty dictionary where there is none."""
    path = folder / "captions.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if rows and "file" not in rows[0]:
        raise ValueError(f"{path} has the columns {', '.join(rows[0])}; expected one called file")
    return {row["file"]: row for row in rows}


def load_footage(folder: Path, config: Footage, split: str, cache: Path | None = None) -> list[Video]:
    """Decode every video of a folder once and return those of one split; the held-out one may be empty.

    Args:
        folder: videos, and optionally `captions.csv` with `file` and any of `caption`, `scene`, `licence`, `source`.
        config: sizes and the rule of the split.
        split: "train" or "heldout".
        cache: where decoded arrays are kept; `cache_folder()` if not given.

    Raises:
        ValueError: no folder, no video that can be read, or nothing to train on.
    """
    if not folder.is_dir():
        raise ValueError(f"no footage at {folder}: name a folder with videos in it")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"{folder} has no videos: expected files such as .mp4, .mkv, .mov, .webm or .avi")
    captions = read_captions(folder)
    cache = cache or cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    decoded, skipped = [], []
    with Progress(transient=True) as progress:
        for path in progress.track(paths, description=f"footage from {folder.name}"):
            try:
                decoded.append((path, *_decoded(path, config.short_side, cache)))
            except (av.error.FFmpegError, ValueError) as error:
                skipped.append(f"{path.name}: {error}")
    for line in skipped:
        print(f"skipped {line}")
    videos = []
    held = _held_out_scenes([captions.get(path.name, {}).get("scene") or path.stem for path, *_ in decoded], config)
    for path, frames, flows in decoded:
        row = captions.get(path.name, {})
        scene = row.get("scene") or path.stem
        first, last = 0, len(frames)
        if config.holdout == "scene":
            if (scene in held) != (split == "heldout"):
                continue
        else:
            # A gap of one horizon: no clip of the one split may end among the frames of the other.
            border = int(len(frames) * (1 - config.holdout_fraction))
            first, last = (0, border) if split == "train" else (min(border + config.horizon_frames, len(frames)), last)
        if last - first <= config.horizon_frames:
            if config.holdout == "scene" or split == "train":
                print(f"skipped {path.name}: {last - first} frames, the horizon needs {config.horizon_frames + 1}")
            continue
        videos.append(
            Video(path.name, scene, row.get("licence") or "", row.get("source") or "", frames, flows, first, last)
        )
    if not videos and split == "train":
        raise ValueError(
            f"{folder} has no clip of {config.horizon_frames + 1} frames to train on: "
            "add longer videos or lower footage.horizon_frames"
        )
    return videos


def _held_out_scenes(scenes: Sequence[str], config: Footage) -> set[str]:
    # By digest and not by shuffle, so that new footage does not move old scenes from one side to the other.
    unique = sorted(set(scenes), key=lambda scene: hashlib.sha256(scene.encode()).hexdigest())
    return set(unique[: max(1, round(len(unique) * config.holdout_fraction))] if len(unique) > 1 else ())


def _decoded(path: Path, short_side: int, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{short_side}|1".encode()).hexdigest()[:24]
    frames_path, flows_path = cache / f"{key}.frames.npy", cache / f"{key}.flows.npy"
    if not flows_path.exists():  # written last, so where it is the frames are whole
        frames = _decode(path, short_side)
        flows = _optical_flow(frames)
        for target, array in ((frames_path, frames), (flows_path, flows)):
            partial = target.with_suffix(".partial")
            with partial.open("wb") as file:
                np.save(file, array)
            partial.replace(target)
    return np.load(frames_path, mmap_mode="r"), np.load(flows_path, mmap_mode="r")


def _decode(path: Path, short_side: int) -> np.ndarray:
    frames = []
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("no video stream")
        for frame in container.decode(video=0):
            scale = short_side / min(frame.width, frame.height)
            size = (max(short_side, round(frame.width * scale)), max(short_side, round(frame.height * scale)))
            picture = frame.to_ndarray(format="rgb24")
            method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
            frames.append(cv2.resize(picture, size, interpolation=method))
            if len(frames) >= MAX_FRAMES:
                break
    if len(frames) < 2 or len({frame.shape for frame in frames}) != 1:
        raise ValueError(f"{len(frames)} frames of one size were expected to be 2 or more")
    return np.stack(frames)


def _optical_flow(frames: np.ndarray) -> np.ndarray:
    # DIS (Kroeger et al. 2016): dense, milliseconds per pair, good enough to be averaged over a clip.
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = frames.shape[1] // 4, frames.shape[2] // 4
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    out = np.empty((len(frames) - 1, height, width, 2), np.float16)
    for index in range(len(out)):
        dense = flow.calc(grey[index], grey[index + 1], None)
        out[index] = np.clip(cv2.resize(dense, (width, height), interpolation=cv2.INTER_AREA), -100, 100)
    return out


class ClipSampler:
    """Draws clips: which one comes depends on (seed, iteration) alone, so a resumed run goes on as if never stopped."""

    def __init__(self, videos: Sequence[Video], config: Footage, height: int, width: int, seed: int) -> None:
        self.config, self.height, self.width, self.seed = config, height, width, seed
        scenes: dict[str, list[Video]] = {}
        for video in videos:
            scenes.setdefault(video.scene, []).append(video)
        self.scenes = [scenes[name] for name in sorted(scenes)]

    def draw(self, iteration: int, batch: int, offsets: Sequence[int]) -> Batch:
        """Return `batch` clips, scene by scene with equal chance.

        Args:
            iteration: number of the training iteration, from 0.
            batch: how many clips.
            offsets: frames to return, counted from the clip's first frame; at most `horizon_frames`.
        """
        rng = np.random.default_rng((self.seed, iteration))
        clips = [self._clip(rng, offsets) for _ in range(batch)]
        return Batch(
            np.stack([clip[0] for clip in clips]),
            np.stack([clip[1] for clip in clips]),
            np.stack([clip[2] for clip in clips]),
            [clip[3] for clip in clips],
        )

    def _clip(self, rng: np.random.Generator, offsets: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        videos = self.scenes[rng.integers(len(self.scenes))]
        video = videos[rng.integers(len(videos))]
        horizon = self.config.horizon_frames
        start = int(rng.integers(video.first, video.last - horizon))
        full_height, full_width = video.frames.shape[1:3]
        height = min(int(rng.integers(self.config.crop_min, self.config.crop_max + 1)), full_height)
        width = min(round(height * self.width / self.height), full_width)
        top = int(rng.integers(full_height - height + 1))
        left = int(rng.integers(full_width - width + 1))
        flip = self.config.flip and bool(rng.integers(2))

        def cut(index: int) -> np.ndarray:
            crop = video.frames[index, top : top + height, left : left + width]
            picture = cv2.resize(crop, (self.width, self.height), interpolation=cv2.INTER_AREA)
            picture = picture[:, ::-1] if flip else picture
            return np.ascontiguousarray(picture.transpose(2, 0, 1)).astype(np.float32) / 255.0

        mean = np.asarray(video.flows[start : start + horizon], np.float32).mean(axis=0)
        mean = mean[top // 4 : (top + height) // 4, left // 4 : (left + width) // 4]
        flow = cv2.resize(mean, (self.width // 4, self.height // 4), interpolation=cv2.INTER_AREA)
        flow = flow * np.array([self.width / width, self.height / height], np.float32)
        if flip:
            flow = flow[:, ::-1] * np.array([-1, 1], np.float32)
        frames = np.stack([cut(start + offset) for offset in offsets])
        return cut(start), frames, np.ascontiguousarray(flow.transpose(2, 0, 1)), video.name
