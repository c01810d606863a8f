"""Real clips: deterministic windows of held-out or training footage, at the bundle's frame size."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.quality.clips import Clip
from benchmarks.quality.networks import MIN_FRAMES

if TYPE_CHECKING:
    import argparse

    from benchmarks.quality.target import QualityTarget
    from training.config import FootageConfig as Settings
    from training.data.footage import FootageLibrary

FRAMES_STEP = 8  # shorter clips are a multiple of this long: what one step of I3D's last layer covers


class ClipWindow(NamedTuple):
    """Where a clip is cut from the footage."""

    video: str
    scene: str
    label: str
    caption: str
    take: int  # its number in the library
    first: int  # frame within the take
    frames: int
    top: int  # of the crop, in pixels of the take
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class RealClips:
    """Windows and their pictures; `clips[i]` is (T_i, H, W, 3) uint8 RGB."""

    windows: list[ClipWindow]
    clips: list[Clip]

    @property
    def scenes(self) -> list[str]:
        """The scene of every clip."""
        return [window.scene for window in self.windows]

    @property
    def labels(self) -> list[str]:
        """The class of every clip, "" where none is known."""
        return [window.label for window in self.windows]

    @property
    def lengths(self) -> list[int]:
        """Frames of every clip."""
        return [window.frames for window in self.windows]


def usable_frames(longest: int, wanted: int) -> int:
    """Return how many frames a clip gets: as wanted, or the largest multiple of 8 in the longest stretch."""
    return wanted if longest >= wanted else longest // FRAMES_STEP * FRAMES_STEP


@dataclass(frozen=True)
class RealFootage:
    """Windows of real clips.

    Args:
        heldout, others, training: windows; row i of `others` is another moment of `heldout`'s video.
        too_short: held-out videos without a window.
        settings: how the footage was split and cut, as plain data.
        read: reads windows; calls its second argument after each.
        captions: of the training footage, to find out which prompts are new.
    """

    heldout: list[ClipWindow]
    others: list[ClipWindow]
    training: list[ClipWindow]
    too_short: list[str]
    settings: Mapping[str, Any]
    read: Callable[[list[ClipWindow], Callable[[], None]], RealClips]
    captions: Sequence[str] = ()


def choose_windows(
    library: FootageLibrary, config: Settings, side: str, *, count: int, frames: int, height: int, width: int, seed: int
) -> tuple[list[ClipWindow], list[ClipWindow], list[str]]:
    """Choose windows evenly spread over the videos of one side of the split and over their time.

    A video has `count / videos` windows, one more or less; with more videos than `count`, a fixed choice of them has
    one each. Crops are as large as in training and drawn from (seed, video, number). Twice as many windows as asked for
    are laid out; every second one goes into the second list: other moments of the same videos.

    Args:
        library: the footage.
        config: says what is held out and how large crops are.
        side: "train" or "heldout".
        count: windows to choose, at least 1.
        frames: of a window; shorter where a video has fewer, never below 16.
        height, width: of the bundle's frame: crops have its aspect.
        seed: of the choice.

    Returns:
        The windows; as many other ones of the same videos, row by row; and the videos that were too short.
    """
    from training.data.footage import split

    spans = split(library, config, side)
    by_video: dict[str, list[tuple[int, int, int]]] = {}
    for number in range(len(spans)):
        take, first, last = spans[number]
        by_video.setdefault(library.take(take).video, []).append((take, first, last))
    stretches, too_short = {}, []
    for video, parts in sorted(by_video.items()):
        length = usable_frames(max(last - first for _, first, last in parts), frames)
        if length < MIN_FRAMES:
            too_short.append(video)
        else:
            stretches[video] = (length, [part for part in parts if part[2] - part[1] >= length])
    videos = sorted(stretches, key=lambda video: _digest(f"{seed}|{video}"))[:count]
    chosen: list[ClipWindow] = []
    others: list[ClipWindow] = []
    for place, video in enumerate(videos):
        share = count // len(videos) + (place < count % len(videos))
        length, parts = stretches[video]
        # All possible first frames, of all stretches one after the other; the windows are evenly spread over them.
        starts = [(take, first) for take, begin, last in parts for first in range(begin, last - length + 1)]
        for number in range(2 * share):
            take, first = starts[int((number + 0.5) / (2 * share) * len(starts))]
            rng = np.random.default_rng((seed, int(_digest(video)[:16], 16), number))
            about = library.take(take)
            crop = _crop(about, config, height, width, rng)
            window = ClipWindow(video, about.scene, about.label, about.caption, take, first, length, *crop)
            (others if number % 2 else chosen).append(window)
    return chosen, others, too_short


def _crop(take: Any, config: Settings, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Return (top, left, height, width) of a random crop with the frame's aspect."""
    side = int(rng.integers(config.crop_min, config.crop_max + 1))
    shrink = min(1.0, take.height / side, take.width / (side * width / height))
    crop_width = min(round(side * shrink * width / height), take.width)
    crop_height = min(round(side * shrink), take.height)
    top, left = int(rng.integers(take.height - crop_height + 1)), int(rng.integers(take.width - crop_width + 1))
    return top, left, crop_height, crop_width


def read_clips(
    library: FootageLibrary,
    windows: list[ClipWindow],
    height: int,
    width: int,
    advance: Callable[[], None] = lambda: None,
) -> RealClips:
    """Read windows at the bundle's frame size, every frame of the video, as training does."""
    from PIL import Image

    clips = []
    for window in windows:
        record = library.record(window.take)
        box = (window.left, window.top, window.left + window.width, window.top + window.height)
        # Area averaging to shrink, as training does; bilinear to enlarge.
        method = Image.Resampling.BOX if window.width >= width else Image.Resampling.BILINEAR
        frames = [
            np.asarray(Image.fromarray(record.frame(window.first + k)).resize((width, height), method, box))
            for k in range(window.frames)
        ]
        clips.append(np.stack(frames))
        advance()
    return RealClips(windows, clips)


def footage_settings(known: dict[str, Any] | None, changes: dict[str, Any]) -> Settings:
    """Return how footage is split and cut: as in training, or the defaults; and the user's changes.

    Args:
        known: the configuration's [footage]; None if the bundle does not have it. Unknown keys are ignored.
        changes: values that are not None replace the others.

    Raises:
        ValueError: a value is out of range.
    """
    from training.config import FootageConfig

    names = {field.name for field in dataclasses.fields(FootageConfig)}
    values = {key: value for key, value in (known or {}).items() if key in names}
    values |= {key: value for key, value in changes.items() if value is not None}
    if "short_side" in changes and changes["short_side"] is not None and changes.get("crop_max") is None:
        values["crop_max"] = min(values.get("crop_max", FootageConfig.crop_max), values["short_side"])
        values["crop_min"] = min(values.get("crop_min", FootageConfig.crop_min), values["crop_max"])
    return FootageConfig(**values)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def find_footage(target: QualityTarget, options: argparse.Namespace, height: int, width: int) -> RealFootage:
    """Split the footage as in training and choose windows.

    Raises:
        ValueError: no held-out video is long enough.
    """
    from training.data.footage import open_footage

    known = target.footage
    if options.config is not None:
        from training.config import load_config

        known = dataclasses.asdict(load_config(options.config).footage)
    changes = {
        "holdout": options.holdout,
        "holdout_fraction": options.holdout_fraction,
        "short_side": options.short_side,
        "crop_min": options.crop_min,
        "crop_max": options.crop_max,
        "horizon_frames": options.footage_horizon,
    }
    settings = footage_settings(dict(known) if known is not None else None, changes)
    library = open_footage(options.data, settings)
    size: dict[str, Any] = {"frames": options.frames, "height": height, "width": width, "seed": options.seed}
    heldout, others, too_short = choose_windows(library, settings, "heldout", count=options.clips, **size)
    if len(heldout) < 2:
        raise ValueError(
            f"{options.data} has {len(heldout)} held-out clips of {MIN_FRAMES} frames or more "
            f"({settings.holdout}, {settings.holdout_fraction:g}): add footage, or set --holdout or "
            "--holdout-fraction as in training"
        )
    training: list[ClipWindow] = []
    if options.train_clips:
        training, _, _ = choose_windows(library, settings, "train", count=options.train_clips, **size)
    return RealFootage(
        heldout,
        others,
        training,
        too_short,
        {**dataclasses.asdict(settings), "height": height, "width": width, "source": _source(target, options)},
        lambda windows, advance: read_clips(library, windows, height, width, advance),
        training_captions(library, settings),
    )


def training_captions(library: FootageLibrary, config: Settings) -> list[str]:
    """Return every caption of the training side once, sorted."""
    from training.data.footage import split

    with contextlib.redirect_stdout(io.StringIO()):  # split() has printed its notes before
        takes = split(library, config, "train").takes.tolist()
    return sorted({caption for take in takes if (caption := library.take(take).caption)})


def _source(target: QualityTarget, options: argparse.Namespace) -> str:
    if options.config is not None:
        return "--config"
    return f"the {target.kind}" if target.footage is not None else "defaults: the bundle does not say"
