"""Pairs of small, damaged pictures and the large ones they were made from, for training the enlarger.

Pictures are photographs and first frames of videos. Every fifth scene is held out.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.model.enlarger import FACTOR

HELD_OUT = 5  # one scene in so many
MAX_SIDE = 1920  # pixels; larger photographs are reduced, as their finest detail is the camera's noise
PHOTOS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
VIDEOS = {".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif", ".mpg"}


class NamedPicture(NamedTuple):
    """A picture, uint8 (H, W, 3) RGB, with the name of its file, its scene, licence and source."""

    name: str
    scene: str
    licence: str
    source: str
    pixels: npt.NDArray[np.uint8]


def read_pictures(folders: Sequence[Path], min_side: int, names: Collection[str] = ()) -> list[NamedPicture]:
    """Read the photographs, and the first frame of each video, of some folders.

    A CSV file beside them (`file[,scene,licence,source,...]`) says what shows the same scene, and where pictures are
    from; otherwise each file is a scene of its own.

    Args:
        folders: searched without their subfolders.
        min_side: pictures with a smaller side are left out.
        names: of the files that are read; empty for all.

    Raises:
        ValueError: a folder is missing, or there is no picture of that size (and with one of the names).
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"no folder {folder}: name one with photographs or videos")
        rows = read_rows(folder)
        for path in sorted(folder.iterdir()):
            if names and path.name not in names:
                continue
            pixels = read_picture(path)
            if pixels is not None and min(pixels.shape[:2]) >= min_side:
                row = rows.get(path.name, {})
                scene, licence, source = (row.get(key) or "" for key in ("scene", "licence", "source"))
                found.append(NamedPicture(path.name, scene or path.stem, licence, source, pixels))
    if not found:
        which = " that was named" if names else ""
        raise ValueError(
            f"{', '.join(map(str, folders))} has no picture{which} with sides of at least {min_side} pixels: add "
            "larger ones" + (", or another folder" if names else "")
        )
    return found


def split_pictures(pictures: Sequence[NamedPicture]) -> tuple[list[NamedPicture], list[NamedPicture]]:
    """Return those to train on and those held out, every `HELD_OUT`-th scene in the order of their names."""
    scenes = sorted({picture.scene for picture in pictures})
    held = set(scenes[HELD_OUT - 1 :: HELD_OUT])
    return (
        [picture for picture in pictures if picture.scene not in held],
        [picture for picture in pictures if picture.scene in held],
    )


class PairSampler:
    """Draws pairs; each depends on (seed, number) alone.

    Args:
        pictures: to draw from, in proportion to their pixels.
        side: of the large crops in pixels, a multiple of `FACTOR`.
        seed: of the draws.
    """

    def __init__(self, pictures: Sequence[NamedPicture], side: int, seed: int) -> None:
        self.pictures, self.side, self.seed = pictures, side, seed
        areas = np.array([picture.pixels.shape[0] * picture.pixels.shape[1] for picture in pictures], np.float64)
        self._shares = areas / areas.sum()

    def batch(self, number: int, count: int) -> tuple[Tensor, Tensor]:
        """Return (small, large): float32 (count, 3, side / FACTOR, side / FACTOR) and (count, 3, side, side)."""
        random = np.random.default_rng((self.seed, number))
        large = [self._crop(random) for _ in range(count)]
        small = [damaged(crop, random) for crop in large]
        return to_tensor(small), to_tensor(large)

    def _crop(self, random: np.random.Generator) -> npt.NDArray[np.uint8]:
        picture = self.pictures[random.choice(len(self.pictures), p=self._shares)].pixels
        height, width = picture.shape[:2]
        reach = max(1.0, min(2.0, min(height, width) / self.side, max(height, width) / 1280))
        taken = min(round(self.side * random.uniform(1.0, reach)), height, width)
        top, left = (int(random.integers(0, space - taken + 1)) for space in (height, width))
        crop = picture[top : top + taken, left : left + taken]
        if taken != self.side:
            crop = cv2.resize(crop, (self.side, self.side), interpolation=cv2.INTER_AREA)
        return crop[:, ::-1] if random.random() < 0.5 else crop


def damaged(large: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a picture at 1 / FACTOR of the size with the faults of painted ones: soft, with dots of noise.

    Args:
        large: uint8 (H, W, 3), sides multiples of FACTOR.
        random: draws how soft it is (a Gaussian of up to 3.5 large pixels) and how noisy (up to 5 levels).
    """
    height, width = large.shape[:2]
    soft = cv2.GaussianBlur(large, (0, 0), max(0.1, random.uniform(-0.5, 3.5)))
    small = cv2.resize(soft, (width // FACTOR, height // FACTOR), interpolation=cv2.INTER_AREA).astype(np.float32)
    dots = random.standard_normal(small.shape[:2]).astype(np.float32)
    dots += cv2.GaussianBlur(dots, (0, 0), 0.8)  # dots of one to two pixels
    colour = random.standard_normal(small.shape).astype(np.float32) * 0.4
    small += np.float32(random.uniform(0.0, 5.0)) * (dots[..., None] + colour)
    return np.clip(np.round(small), 0, 255).astype(np.uint8)


def to_tensor(pictures: Sequence[npt.NDArray[np.uint8]]) -> Tensor:
    """Return pictures of one size, uint8 (H, W, 3), as float32 (B, 3, H, W) in [0, 1]."""
    stacked = np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))
    return torch.from_numpy(stacked).float() / 255.0


def read_rows(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of a folder's CSV files (file[,scene,licence,source,...]), by the names of files."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8-sig", newline="") as file:
            found |= {row["file"]: row for row in csv.DictReader(file) if row.get("file")}
    return found


def read_picture(path: Path) -> npt.NDArray[np.uint8] | None:
    """Return the picture in a file, or the first frame of a video, uint8 (H, W, 3) RGB; None if it has none."""
    pixels: npt.NDArray[np.uint8] | None = None
    if path.suffix.lower() in PHOTOS:
        content = np.fromfile(path, np.uint8)
        data = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
        pixels = None if data is None else np.asarray(cv2.cvtColor(data, cv2.COLOR_BGR2RGB), np.uint8)
    elif path.suffix.lower() in VIDEOS:
        try:
            with av.open(str(path)) as container:
                frame = next(container.decode(video=0), None)
                pixels = None if frame is None else frame.to_ndarray(format="rgb24")
        except (av.FFmpegError, IndexError):  # broken, or without pictures
            return None
    if pixels is not None and (longest := max(pixels.shape[:2])) > MAX_SIDE:
        size = tuple(max(1, round(side * MAX_SIDE / longest)) for side in pixels.shape[1::-1])
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    return pixels
