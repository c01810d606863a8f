"""Footage: clips drawn from a folder of videos or shards. A clip depends on (seed, number of the sample) alone.

Legend: B clips of a batch, T frames of a clip, H height, W width as the generator sees them; h, w as they are stored.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, overload

import cv2
import numpy as np
import torch

from training.config import FootageConfig
from training.data.remote_files import Address, cache_folder, path_to_place
from training.data.remote_shards import copy_shards
from training.data.shards import (
    INDEX,
    JOURNAL,
    ShardIndex,
    ShardReader,
    default_workers,
    print_report,
    read_captions,
    read_index,
    write_shards,
)
from training.data.takes import ShardSettings, TakeRecord, UnreadableTakeError

__all__ = [
    "Batch",
    "Clip",
    "ClipSampler",
    "FootageLibrary",
    "Span",
    "Spans",
    "Take",
    "cache_folder",
    "open_footage",
    "read_captions",
    "split",
    "zoomed",
]

SPEED_SHARE = (0.1, 10.0)  # limits of a take's speed over the mean speed, for `motion_weight`
MAX_UNREADABLE = 16  # unreadable records in a row before training stops


@dataclass(frozen=True)
class Take:
    """A stretch of a video without a cut."""

    video: str
    scene: str
    caption: str
    label: str
    licence: str
    source: str
    first: int  # number of its first frame within the video
    length: int  # frames
    total: int  # frames of the whole video
    height: int
    width: int
    fps: float  # of the video


class Clip(NamedTuple):
    """A piece of one take as the generator sees it."""

    frames: np.ndarray  # (T, 3, H, W) uint8 RGB: the frames at the offsets asked for
    flow: np.ndarray  # (2, H / 4, W / 4) float32: mean optical flow over the horizon, pixels of H x W per frame
    caption: str
    scene: str
    label: str
    name: str  # of the video
    sway: np.ndarray  # (1, H / 4, W / 4) float32: swing about the mean motion (root mean square), pixels of H x W


class Batch(NamedTuple):
    """Clips for one iteration."""

    frames: torch.Tensor  # (B, T, 3, H, W) uint8 RGB: the frames at the offsets asked for
    flow: torch.Tensor  # (B, 2, H / 4, W / 4) float32: mean optical flow over the horizon, pixels of H x W per frame
    captions: list[str]
    scenes: list[str]
    labels: list[str]
    names: list[str]  # of the videos
    sway: torch.Tensor  # (B, 1, H / 4, W / 4) float32: swing about the mean motion (root mean square), pixels of H x W


class FootageLibrary:
    """The takes of a folder of shards; picklable. Metadata are in memory, frames are read on request."""

    def __init__(self, index: ShardIndex) -> None:
        assert isinstance(index.path, Path), "shards at an address are copied first"
        self.path, self.settings = index.path, index.settings
        self._videos = {
            key: index.videos[key]
            for key in ("file", "scene", "caption", "label", "licence", "source", "fps", "frames")
        }
        self._takes = index.takes
        self._reader = ShardReader(self.path, [shard["file"] for shard in index.shards])
        self._forget()

    def _forget(self) -> None:
        self._last: OrderedDict[int, TakeRecord] = OrderedDict()
        self._lock, self._process = Lock(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key not in ("_last", "_lock", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def __len__(self) -> int:
        """Return how many takes there are."""
        return len(self._takes["video"])

    def take(self, index: int) -> Take:
        """Return the metadata of take number `index`."""
        row = int(self._takes["video"][index])
        facts: dict[str, Any] = {key: column[row] for key, column in self._videos.items()}
        facts |= {key: int(self._takes[key][index]) for key in ("first", "length", "height", "width")}
        return Take(video=facts.pop("file"), total=facts.pop("frames"), **facts)

    def scenes(self) -> list[str]:
        """Return the scene of every take."""
        return [self._videos["scene"][row] for row in self._takes["video"].tolist()]

    def lengths(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return for every take its first frame's number, its length and the video's length, in frames."""
        totals = np.array(self._videos["frames"], np.int64)[self._takes["video"]]
        return self._takes["first"], self._takes["length"], totals

    def record(self, index: int) -> TakeRecord:
        """Return a take's record; raises UnreadableTakeError if it cannot be read."""
        if self._process != os.getpid():
            self._forget()
        with self._lock:
            record = self._last.get(index)
            if record is None:
                record = self._reader.read(int(self._takes["shard"][index]), int(self._takes["record"][index]))
                expected = tuple(int(self._takes[key][index]) for key in ("length", "height", "width"))
                if (len(record), record.height, record.width) != expected:
                    raise UnreadableTakeError(
                        f"{self.path}: take {index} is not the one in the index; shard the footage again"
                    )
                self._last[index] = record
                if len(self._last) > 2:
                    self._last.popitem(last=False)
        return record

    def frames(self, index: int, numbers: Sequence[int]) -> np.ndarray:
        """Return frames of take `index`, counted from its first one: (N, h, w, 3) uint8 RGB."""
        record = self.record(index)
        return np.stack([record.frame(number) for number in numbers])

    def mean_flow(self, index: int, start: int, horizon: int) -> np.ndarray:
        """Return the mean optical flow of take `index` over `horizon` frames: (h // 4, w // 4, 2) float32, pixels."""
        return self.record(index).mean_flow(start, horizon)

    def provenance(self) -> list[tuple[str, str, str]]:
        """Return (video, licence, source) of every video that has a take, sorted."""
        rows = np.unique(self._takes["video"]).tolist()
        return sorted((self._videos["file"][r], self._videos["licence"][r], self._videos["source"][r]) for r in rows)


class Span(NamedTuple):
    """A take, or the part of it that belongs to one side of the split."""

    take: int  # its number in the library
    first: int  # first frame, counted within the take
    last: int  # last frame (exclusive)


class Spans(Sequence[Span]):
    """The spans of one side of the split, stored as columns."""

    def __init__(self, library: FootageLibrary, takes: np.ndarray, first: np.ndarray, last: np.ndarray) -> None:
        self.library, self.takes, self.first, self.last = library, takes, first, last

    def __len__(self) -> int:
        return len(self.takes)

    @overload
    def __getitem__(self, index: int) -> Span: ...
    @overload
    def __getitem__(self, index: slice) -> Spans: ...
    def __getitem__(self, index: int | slice) -> Span | Spans:
        if isinstance(index, slice):
            return Spans(self.library, self.takes[index], self.first[index], self.last[index])
        return Span(int(self.takes[index]), int(self.first[index]), int(self.last[index]))

    def of(self, videos: Sequence[str]) -> Spans:
        """Return the spans of some videos."""
        keep = np.array([self.library.take(int(take)).video in set(videos) for take in self.takes], bool)
        return Spans(self.library, self.takes[keep], self.first[keep], self.last[keep])

    def provenance(self) -> list[tuple[str, str, str]]:
        """Return (video, licence, source) of every video in these spans, sorted."""
        takes = [self.library.take(int(take)) for take in self.takes]
        return sorted({(take.video, take.licence, take.source) for take in takes})


def open_footage(
    path: Path, config: FootageConfig, cache: Path | None = None, workers: int | None = None
) -> FootageLibrary:
    """Open a folder of shards, or a folder of videos, which is first converted to shards in the cache.

    Args:
        path: shards written by `python -m training shard`, or a folder with videos at any depth. Shards at an address
            (s3://bucket/shards as a path) are copied to the cache once.
        config: `crop_max` is at most the short side of the shards; videos are decoded at `short_side`.
        cache: folder for shards of folders of videos; `cache_folder()` if not given.
        workers: processes that decode; one per core if not given.

    Raises:
        ValueError: there is no footage or no take, or the shards are unfinished, damaged or too small.
    """
    place = path_to_place(path)
    if isinstance(place, Address):
        path = copy_shards(place, cache)
    if (path / INDEX).exists() or (path / JOURNAL).exists():
        index = read_index(path)
        if index.settings.short_side < config.crop_max:
            raise ValueError(
                f"the shards at {place} have a short side of {index.settings.short_side} pixels, footage.crop_max is "
                f"{config.crop_max}: lower crop_max or shard the footage with --short-side {config.crop_max}"
            )
        return FootageLibrary(index)
    settings = ShardSettings(short_side=config.short_side)
    key = hashlib.sha256(
        f"{os.path.realpath(path)}|{json.dumps(asdict(settings))}".encode(errors="surrogateescape")
    ).hexdigest()[:24]
    out = (cache or cache_folder()) / key
    before = (out / INDEX).stat().st_mtime_ns if (out / INDEX).exists() else None
    index = write_shards([path], out, settings, default_workers() if workers is None else workers, prune=True)
    if (out / INDEX).stat().st_mtime_ns != before:
        print_report(index)
    return FootageLibrary(index)


def split(library: FootageLibrary, config: FootageConfig, side: str) -> Spans:
    """Return the spans of one side of the split; the held-out side may be empty.

    Args:
        library: the footage.
        config: `holdout` is "scene" (whole scenes are held out) or "time" (the end of every video is).
        side: "train" or "heldout".

    Raises:
        ValueError: nothing to train on.
    """
    if side not in ("train", "heldout"):
        raise ValueError(f'the side of the split is "{side}", expected "train" or "heldout"')
    first, length, total = library.lengths()
    takes, start, stop = np.arange(len(length)), np.zeros_like(length), length
    if config.holdout == "scene":
        scenes = library.scenes()
        held = _held_out_scenes(scenes, config)
        mine = np.array([(scene in held) == (side == "heldout") for scene in scenes], bool)
    else:
        # A gap of one horizon, so that no clip of one side reaches frames of the other.
        border = (total * (1 - config.holdout_fraction)).astype(np.int64)
        if side == "train":
            stop = np.clip(border - first, 0, length)
        else:
            start = np.clip(border + config.horizon_frames - first, 0, length)
        mine = stop > start
    usable = stop - start > config.horizon_frames
    if side == "train" and (left_out := int((mine & ~usable).sum())):
        print(f"{left_out} of {int(mine.sum())} takes are left out: shorter than {config.horizon_frames + 1} frames")
    keep = mine & usable
    if not keep.any() and side == "train":
        raise ValueError(
            f"{library.path} has no clip of {config.horizon_frames + 1} frames to train on: "
            "add longer videos or lower footage.horizon_frames"
        )
    return Spans(library, takes[keep], start[keep], stop[keep])


def _held_out_scenes(scenes: Sequence[str], config: FootageConfig) -> set[str]:
    # By digest, so that new footage does not move old scenes to the other side.
    unique = sorted(set(scenes), key=lambda scene: hashlib.sha256(scene.encode()).hexdigest())
    return set(unique[: max(1, round(len(unique) * config.holdout_fraction))] if len(unique) > 1 else ())


# The purpose of a random number: the second word of every seed.
_ORDER, _TURN, _CLIP = range(3)


def zoomed(config: FootageConfig, share: float) -> FootageConfig:
    """Return the configuration with crops scaled by `share`, for training on parts of frames."""
    low, high = (max(1, round(side * share)) for side in (config.crop_min, config.crop_max))
    return replace(config, crop_min=low, crop_max=high)


class ClipSampler:
    """Draws clips that depend on (seed, number of the sample, offsets) alone, so that a resumed run is exact.

    An epoch visits every scene once, in an order drawn from (seed, epoch); the takes of a scene take turns. With
    `config.motion_weight` takes are drawn independently instead, those that move more often than those that do not.
    """

    def __init__(self, spans: Spans, config: FootageConfig, height: int, width: int, seed: int) -> None:
        self.spans, self.config, self.height, self.width, self.seed = spans, config, height, width, seed
        scenes: dict[str, list[int]] = {}
        every = spans.library.scenes()
        for number, take in enumerate(spans.takes.tolist()):
            scenes.setdefault(every[take], []).append(number)
        self.scenes = names = sorted(scenes)  # an empty split is allowed until something is drawn
        self._scenes = [np.array(scenes[name], np.int64) for name in names]
        self._keys = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self._chances = self._cumulated_chances() if config.motion_weight and len(spans) else None

    def _cumulated_chances(self) -> np.ndarray:
        """Return the running sum of the spans' chances; scenes of equal speed have equal chances."""
        speeds = np.array([self._speed(span) for span in self.spans], np.float64)
        share = np.clip(speeds / max(float(speeds.mean()), 1e-9), *SPEED_SHARE) ** self.config.motion_weight
        for takes in self._scenes:
            share[takes] /= len(takes)
        return np.asarray(np.cumsum(share) / share.sum())

    def _speed(self, span: Span) -> float:
        """Return the mean speed of a span in short sides per frame; 0 if it cannot be read."""
        try:
            record = self.spans.library.record(span.take)
        except UnreadableTakeError:
            return 0.0
        motion = record.motion[span.first : max(span.first + 1, span.last - 1)].astype(np.float32)
        return float(motion.mean()) / min(record.height, record.width) if len(motion) else 0.0

    @property
    def num_scenes(self) -> int:
        """Return the number of samples in an epoch."""
        return len(self._scenes)

    def span(self, index: int) -> Span:
        """Return the span that sample number `index` is cut from."""
        if not self._scenes:
            raise ValueError("there is no footage to draw clips from: this side of the split is empty")
        if self._chances is not None:
            chance = np.random.default_rng((self.seed, _ORDER, index)).random()
            return self.spans[min(int(np.searchsorted(self._chances, chance, side="right")), len(self.spans) - 1)]
        epoch, position = divmod(index, len(self._scenes))
        known, order = self._order
        if known != epoch:
            order = np.random.default_rng((self.seed, _ORDER, epoch)).permutation(len(self._scenes))
            self._order = (epoch, order)
        scene = int(order[position])
        takes = self._scenes[scene]
        turn = np.random.default_rng((self.seed, _TURN, self._keys[scene])).permutation(len(takes))
        return self.spans[int(takes[turn[epoch % len(takes)]])]

    def clip(self, index: int, offsets: Sequence[int]) -> Clip:
        """Return sample number `index`.

        Args:
            index: counted over the whole training, from 0.
            offsets: frames to return, counted from the clip's first frame; 0 to `horizon_frames`.

        Raises:
            UnreadableTakeError: the take is damaged or cannot be read.
            ValueError: an offset is beyond the horizon.
        """
        horizon = self.config.horizon_frames
        if not offsets or min(offsets) < 0 or max(offsets) > horizon:
            raise ValueError(f"offsets are {list(offsets)}, expected one or more from 0 to {horizon}")
        rng = np.random.default_rng((self.seed, _CLIP, index))
        number, first, last = self.span(index)
        record, take = self.spans.library.record(number), self.spans.library.take(number)
        # Take the candidate that moves most, because much footage is still most of the time.
        starts = rng.integers(first, last - horizon, max(1, self.config.candidates)).tolist()
        start = max(starts, key=lambda start: float(record.motion[start : start + horizon].astype(np.float32).mean()))
        height = int(rng.integers(self.config.crop_min, self.config.crop_max + 1))
        shrink = min(1.0, take.height / height, take.width / (height * self.width / self.height))
        width = min(round(height * shrink * self.width / self.height), take.width)
        height = min(round(height * shrink), take.height)
        top = int(rng.integers(take.height - height + 1))
        left = int(rng.integers(take.width - width + 1))
        flip = self.config.flip and bool(rng.integers(2))
        method = cv2.INTER_AREA if width >= self.width else cv2.INTER_LINEAR
        frames = np.empty((len(offsets), 3, self.height, self.width), np.uint8)
        for row, offset in enumerate(offsets):
            crop = record.frame(start + offset)[top : top + height, left : left + width]
            picture = cv2.resize(crop, (self.width, self.height), interpolation=method)
            frames[row] = (picture[:, ::-1] if flip else picture).transpose(2, 0, 1)
        window = np.s_[top // 4 : (top + height) // 4, left // 4 : (left + width) // 4]
        small = (self.width // 4, self.height // 4)
        flow = cv2.resize(record.mean_flow(start, horizon)[window], small, interpolation=cv2.INTER_AREA)
        sway = cv2.resize(record.sway(start, horizon)[window], small, interpolation=cv2.INTER_AREA)
        sway = sway[np.newaxis] * np.float32(self.width / width)
        flow = flow * np.array([self.width / width, self.height / height], np.float32)
        if flip:
            flow = flow[:, ::-1] * np.array([-1, 1], np.float32)
            sway = sway[:, :, ::-1]
        flow = np.ascontiguousarray(flow.transpose(2, 0, 1), np.float32)
        return Clip(
            frames, flow, take.caption, take.scene, take.label, take.video, np.ascontiguousarray(sway, np.float32)
        )

    def collate(self, numbers: Sequence[int], offsets: Sequence[int]) -> tuple[Batch, list[str]]:
        """Return the samples of these numbers as one batch, and messages about unreadable takes.

        An unreadable take is replaced by the sample of a fixed number far ahead, the same in every process and run.
        """
        clips, problems = [], []
        for number in numbers:
            for attempt in range(MAX_UNREADABLE):
                try:
                    clips.append(self.clip(number + attempt * 2**32, offsets))
                    break
                except UnreadableTakeError as error:
                    problems.append(str(error))
            else:
                raise ValueError(f"{MAX_UNREADABLE} takes in a row cannot be read, the last one: {problems[-1]}")
        batch = Batch(
            torch.from_numpy(np.stack([clip.frames for clip in clips])),
            torch.from_numpy(np.stack([clip.flow for clip in clips])),
            [clip.caption for clip in clips],
            [clip.scene for clip in clips],
            [clip.label for clip in clips],
            [clip.name for clip in clips],
            torch.from_numpy(np.stack([clip.sway for clip in clips])),
        )
        return batch, problems

    def draw(self, iteration: int, batch: int, offsets: Sequence[int]) -> Batch:
        """Return samples `iteration * batch` and the `batch - 1` after it as one batch."""
        return self.collate(range(iteration * batch, (iteration + 1) * batch), offsets)[0]
