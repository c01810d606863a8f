"""Short clips cut out of full-size footage, for training networks of live video, and small, damaged copies of them.

Photographs become clips, too: a slow drift, zoom and turn of a window. Every fifth scene is held out.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.data.pictures import HELD_OUT, PHOTOS, VIDEOS, read_picture, read_rows
from training.model.super_resolution import FACTOR

SPARE = 32  # pixels by which a clip is larger than what is trained on, on each axis
MAX_SHORT = 720  # pixels of the short side; larger footage is reduced, as its finest detail is the camera's
CANDIDATES = 3  # places drawn for a clip; the one with most detail is used
Pixels = npt.NDArray[np.uint8]


class LiveClip(NamedTuple):
    """A clip, uint8 (T, S, S, 3) RGB, with the name of its file, its scene, licence and source."""

    name: str
    scene: str
    licence: str
    source: str
    frames: Pixels


def read_clips(
    places: Sequence[Path], side: int, count: int, each: int, seed: int, short: int = MAX_SHORT
) -> list[LiveClip]:
    """Cut clips out of the videos and photographs of some folders.

    Args:
        places: folders, searched without their subfolders; `captions.csv` or another CSV file says scenes and licences.
        side: of what is trained on, in pixels; clips are `SPARE` larger.
        count: frames of a clip.
        each: clips of a video; photographs have a third as many.
        seed: of the places.
        short: pixels of the short side to which larger videos are reduced.

    Raises:
        ValueError: a folder is missing, or nothing in them is large and long enough.
    """
    found: list[LiveClip] = []
    square = side + SPARE
    for folder in places:
        if not folder.is_dir():
            raise ValueError(f"no folder {folder}: name one with videos or photographs")
        rows = read_rows(folder)
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in VIDEOS)
        for number, path in enumerate(files):
            row = rows.get(path.name, {})
            scene, licence, source = (row.get(key) or "" for key in ("scene", "licence", "source"))
            random = np.random.default_rng((seed, len(found), number))
            for frames in _windows(path, square, count, each, short, random):
                found.append(LiveClip(path.name, scene or path.stem, licence, source, frames))
        photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTOS)
        for number, path in enumerate(photos):
            pixels = read_picture(path)
            if pixels is None or min(pixels.shape[:2]) < 2 * square:
                continue
            row = rows.get(path.name, {})
            scene, licence, source = (row.get(key) or "" for key in ("scene", "licence", "source"))
            random = np.random.default_rng((seed, 1, number))
            for _ in range(max(1, each // 3)):
                frames = drifting(pixels, square, count, random)
                found.append(LiveClip(path.name, scene or path.stem, licence, source, frames))
    if not found:
        raise ValueError(
            f"{', '.join(map(str, places))} has no video or photograph of at least {square} pixels and {count} frames: "
            "name other folders"
        )
    return found


def split_clips(clips: Sequence[LiveClip]) -> tuple[list[LiveClip], list[LiveClip]]:
    """Return those to train on and those held out, every `HELD_OUT`-th scene in the order of their names."""
    scenes = sorted({clip.scene for clip in clips})
    held = set(scenes[HELD_OUT - 1 :: HELD_OUT])
    return [clip for clip in clips if clip.scene not in held], [clip for clip in clips if clip.scene in held]


class LiveClipSampler:
    """Draws pairs of clips; each depends on (seed, number) alone.

    Args:
        clips: to draw from, every scene equally often.
        side: of the large frames in pixels, a multiple of 16.
        count: frames of a pair, at most those of the clips.
        seed: of the draws.
    """

    def __init__(self, clips: Sequence[LiveClip], side: int, count: int, seed: int) -> None:
        self.side, self.count, self.seed = side, count, seed
        scenes: dict[str, list[LiveClip]] = {}
        for clip in clips:
            scenes.setdefault(clip.scene, []).append(clip)
        self._scenes = list(scenes.values())

    def batch(self, number: int, count: int) -> tuple[Tensor, Tensor]:
        """Return (small, large): float32 (count, T, 3, side / FACTOR, side / FACTOR) and (count, T, 3, side, side)."""
        random = np.random.default_rng((self.seed, number))
        large = self.clips(random, count)
        return to_tensor([damaged(clip, random) for clip in large]), to_tensor(large)

    def clips(self, random: np.random.Generator, count: int) -> list[Pixels]:
        """Return clips, uint8 (T, side, side, 3), mirrored and turned."""
        return [self._clip(random) for _ in range(count)]

    def _clip(self, random: np.random.Generator) -> Pixels:
        scene = self._scenes[random.integers(len(self._scenes))]
        frames = scene[random.integers(len(scene))].frames
        first = int(random.integers(len(frames) - self.count + 1))
        top, left = random.integers(0, frames.shape[1] - self.side + 1, 2)
        part = frames[first : first + self.count, top : top + self.side, left : left + self.side]
        if random.random() < 0.5:
            part = part[:, :, ::-1]
        if random.random() < 0.5:
            part = part[::-1]
        return np.ascontiguousarray(np.rot90(part, int(random.integers(0, 2)), (1, 2)))


def damaged(large: Pixels, random: np.random.Generator) -> Pixels:
    """Return a clip, uint8 (T, H, W, 3), at half the size with the faults of cameras and streams.

    Soft (a Gaussian of up to 1.2 large pixels), noisy in half of the clips (up to 4 levels), and in two thirds encoded
    as H.264 as a live stream has it (quality 20 to 34 of x264's scale).
    """
    height, width = (side // FACTOR for side in large.shape[1:3])
    soft, is_area = max(0.1, random.uniform(-0.4, 1.2)), random.random() < 0.5
    noise = max(0.0, random.uniform(-4.0, 4.0))
    small = []
    for frame in large:
        blurred = cv2.GaussianBlur(frame, (0, 0), soft) if soft > 0.2 or not is_area else frame
        reduced = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_AREA if is_area else cv2.INTER_CUBIC)
        if noise:
            grain = random.standard_normal((height, width, 1)) + 0.5 * random.standard_normal((height, width, 3))
            reduced = np.clip(np.rint(reduced + noise * grain), 0, 255).astype(np.uint8)
        small.append(reduced)
    clip = np.stack(small)
    return through_h264(clip, int(random.integers(20, 35))) if random.random() < 2 / 3 else clip


def through_h264(clip: Pixels, quality: int) -> Pixels:
    """Return a clip, uint8 (T, h, w, 3) with even sides, after x264 without delay.

    Args:
        clip: RGB.
        quality: constant rate factor, 0 to 51; higher is worse.
    """
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("libx264", rate=Fraction(30))
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
        stream.options = {"crf": str(quality), "preset": "veryfast", "tune": "zerolatency", "threads": "1"}
        for frame in clip:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        output.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as made:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in made.decode(video=0)])


def drifting(picture: Pixels, side: int, count: int, random: np.random.Generator) -> Pixels:
    """Return a clip (count, side, side, 3) of a window that drifts, zooms and turns slowly over a photograph.

    Args:
        picture: uint8 (H, W, 3), both sides at least 2 * side.
        side: of the frames in pixels.
        count: frames.
        random: draws place and motion: up to 3 pixels, 0.4 % and 0.2 degrees a frame.
    """
    scale = random.uniform(1.0, min(2.0, min(picture.shape[:2]) / (1.5 * side)))  # photograph's pixels for one of ours
    centre = np.array(
        [random.uniform(0.75 * side * scale, length - 0.75 * side * scale) for length in picture.shape[1::-1]]
    )
    step, zoom = random.uniform(-3, 3, 2), random.uniform(-0.004, 0.004)
    turn = np.deg2rad(random.uniform(-0.2, 0.2))
    frames = []
    for number in range(count):
        time = number - (count - 1) / 2
        angle, size = turn * time, scale * (1 + zoom * time) / 2  # drawn at twice the size, then averaged
        matrix = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        corner = centre + scale * step * time - matrix @ np.array([side, side])
        drawn = cv2.warpAffine(
            picture, np.column_stack([matrix, corner]), (2 * side, 2 * side),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT,
        )  # fmt: skip
        frames.append(cv2.resize(drawn, (side, side), interpolation=cv2.INTER_AREA))
    return np.stack(frames)


def _windows(path: Path, side: int, count: int, each: int, short: int, random: np.random.Generator) -> list[Pixels]:
    """Return up to `each` clips of a video, spread over its length; none if it is too small, short or broken."""
    found = []
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            reduction = max(1.0, min(stream.width, stream.height) / short)
            if min(stream.width, stream.height) / reduction < side:
                return []
            start_s, length_s = ((value or 0) / av.time_base for value in (container.start_time, container.duration))
            for number in range(each if length_s else 1):
                wanted_s = start_s + length_s * number / each
                container.seek(int(av.time_base * wanted_s))  # to the key frame before it
                frames: list[Pixels] = []
                for frame in container.decode(stream):
                    if (frame.width, frame.height) != (stream.width, stream.height):
                        break
                    if frame.time is None or frame.time >= wanted_s - 1e-3:
                        frames.append(frame.to_ndarray(format="rgb24"))
                    if len(frames) == count:
                        break
                if len(frames) == count:
                    found.append(_cut(frames, side, reduction, random))
    except (av.FFmpegError, IndexError):
        return found
    return found


def _cut(frames: Sequence[Pixels], side: int, reduction: float, random: np.random.Generator) -> Pixels:
    """Return a square of the frames with much detail, (T, side, side, 3)."""
    height, width = frames[0].shape[:2]
    taken = min(round(side * reduction), height, width)
    places = [
        tuple(int(random.integers(0, length - taken + 1)) for length in (height, width)) for _ in range(CANDIDATES)
    ]

    def detail(place: tuple[int, ...]) -> float:
        part = frames[0][place[0] : place[0] + taken, place[1] : place[1] + taken]
        return float(np.abs(cv2.Laplacian(part, cv2.CV_32F)).mean())

    top, left = max(places, key=detail)
    parts = [frame[top : top + taken, left : left + taken] for frame in frames]
    if taken != side:
        parts = [cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA) for part in parts]
    return np.stack(parts)


def to_tensor(clips: Sequence[Pixels]) -> Tensor:
    """Return clips, uint8 (T, H, W, C), as float32 (B, T, C, H, W) in [0, 1]."""
    stacked = np.ascontiguousarray(np.stack(clips).transpose(0, 1, 4, 2, 3))
    return torch.from_numpy(stacked).float() / 255.0
