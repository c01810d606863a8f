"""What may move in a picture and what stands still, drawn by hand: pictures with cells, and crops of them.

Flow of footage says where something moved, not where nothing can: water may be calm, and rock sways in clips that were
made by displacing stills. Some dozens of pictures whose cells a person has marked say it directly.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from training.data.pictures import NamedPicture, read_pictures, to_tensor

MOVES, STANDS, UNSAID = 1, 0, -1
_MARKS = {"M": MOVES, "S": STANDS, ".": UNSAID}
MAX_CELLS = 256  # in a row or a column
MAX_ZOOM = 1.5  # of a crop's scale
MAX_SQUEEZE = 1.8  # of its aspect ratio: pictures of 16:9 are looked at as squares


class MarkedPicture(NamedTuple):
    """A picture whose areas are known.

    Args:
        picture: its pixels and where it is from.
        cells: int8 (rows, columns) over the whole picture: `MOVES`, `STANDS` or `UNSAID`.
    """

    picture: NamedPicture
    cells: npt.NDArray[np.int8]


def read_areas(file: Path, folders: Sequence[Path], min_side: int) -> list[MarkedPicture]:
    """Read a file of areas, and the pictures that it names.

    Args:
        file: TOML with `[[picture]]` entries: `file`, the name of a photograph or of a video, whose first frame it is;
            `cells`, rows of the same length over the whole picture, of "M" (may move), "S" (stands still) and "."
            (not said).
        folders: where the pictures lie, see `read_pictures`.
        min_side: pictures with a smaller side are left out.

    Returns:
        The pictures that were found, in the order of the file.

    Raises:
        ValueError: the file is wrong, or none of its pictures is there.
    """
    cells = _marks(file)
    pictures = {picture.name: picture for picture in read_pictures(folders, min_side, set(cells))}
    return [MarkedPicture(pictures[name], marks) for name, marks in cells.items() if name in pictures]


def names_in(file: Path) -> set[str]:
    """Return the names of the pictures in a file of areas; errors as of `read_areas`."""
    return set(_marks(file))


class AreaSampler:
    """Draws crops of marked pictures; each depends on (seed, number) alone.

    Args:
        pictures: every picture is drawn equally often.
        side: of the crops in pixels, a multiple of 4.
        seed: of the draws.
    """

    def __init__(self, pictures: Sequence[MarkedPicture], side: int, seed: int) -> None:
        self.side, self.seed = side, seed
        self._pictures = [(_reduced(item.picture.pixels, round(side * MAX_ZOOM)), item.cells) for item in pictures]

    def batch(self, number: int, count: int) -> tuple[Tensor, Tensor]:
        """Return pictures, float32 (count, 3, side, side) in [0, 1], and marks, int8 (count, side / 4, side / 4)."""
        random = np.random.default_rng((self.seed, number))
        drawn = [self._crop(random) for _ in range(count)]
        marks = torch.from_numpy(np.stack([marks for _, marks in drawn]))
        return to_tensor([crop for crop, _ in drawn]), marks

    def _crop(self, random: np.random.Generator) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int8]]:
        pixels, cells = self._pictures[int(random.integers(len(self._pictures)))]
        height, width = pixels.shape[:2]
        side, squeeze = self.side * random.uniform(1.0, MAX_ZOOM), MAX_SQUEEZE ** random.uniform(-1.0, 1.0)
        high = min(round(side / min(1.0, squeeze)), height)
        wide = min(round(side * max(1.0, squeeze)), width)
        top, left = int(random.integers(0, height - high + 1)), int(random.integers(0, width - wide + 1))
        part = pixels[top : top + high, left : left + wide]
        crop = cv2.resize(part, (self.side, self.side), interpolation=cv2.INTER_AREA)
        places = (np.arange(self.side // 4) + 0.5) * (4 / self.side)
        rows = ((top + places * high) * (cells.shape[0] / height)).astype(int)
        columns = ((left + places * wide) * (cells.shape[1] / width)).astype(int)
        marks = cells[rows][:, columns]
        if random.random() < 0.5:
            crop, marks = crop[:, ::-1], marks[:, ::-1]
        return _recoloured(crop, random), np.ascontiguousarray(marks)


def area_error(free: Tensor, marks: Tensor) -> Tensor:
    """Return the cross-entropy of how free places are to move; what moves and what stands still weigh the same.

    Args:
        free: (B, 1, h, w) in [0, 1].
        marks: int8 (B, h, w): `MOVES`, `STANDS` or `UNSAID`, which does not count.

    Returns:
        A scalar; 0.69 for a guess of one half everywhere.
    """
    guess = free[:, 0].float().clamp(1e-4, 1 - 1e-4)
    terms = []
    for kind, truth in ((MOVES, 1.0), (STANDS, 0.0)):
        is_kind = (marks == kind).float()
        error = F.binary_cross_entropy(guess, torch.full_like(guess, truth), reduction="none")
        terms.append((error * is_kind).sum() / is_kind.sum().clamp(min=1.0))
    return 0.5 * torch.stack(terms).sum()


def whole_pictures(pictures: Sequence[MarkedPicture], side: int) -> Tensor:
    """Return pictures resized to squares, whatever their shape: float32 (N, 3, side, side) in [0, 1]."""
    return to_tensor([cv2.resize(item.picture.pixels, (side, side), interpolation=cv2.INTER_AREA) for item in pictures])


def marks_of(pictures: Sequence[MarkedPicture], side: int) -> Tensor:
    """Return the marks of `whole_pictures`, int8 (N, side / 4, side / 4)."""
    places = (np.arange(side // 4) + 0.5) * (4 / side)
    marks = [
        item.cells[(places * item.cells.shape[0]).astype(int)][:, (places * item.cells.shape[1]).astype(int)]
        for item in pictures
    ]
    return torch.from_numpy(np.stack(marks))


def _marks(file: Path) -> dict[str, npt.NDArray[np.int8]]:
    """Return the cells of every picture in a file, by its name."""
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8")).get("picture")
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{file} cannot be read as TOML: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{file} has no [[picture]]: name pictures and their cells, see examples/moving-areas.toml")
    return {str(entry.get("file")): _cells(file, entry) for entry in entries}


def _cells(file: Path, entry: Any) -> npt.NDArray[np.int8]:
    name, rows = (entry.get("file"), entry.get("cells")) if isinstance(entry, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(rows, list) or not rows:
        raise ValueError(f"{file} has a [[picture]] without file or cells: give both")
    lengths = {len(row) if isinstance(row, str) else -1 for row in rows}
    if len(lengths) != 1 or not 0 < max(lengths) <= MAX_CELLS or len(rows) > MAX_CELLS:
        raise ValueError(f"{file}: the cells of {name} are not rows of one length, of 1 to {MAX_CELLS} marks")
    if unknown := sorted({mark for row in rows for mark in row} - set(_MARKS)):
        raise ValueError(f'{file}: the cells of {name} have the mark "{unknown[0]}", expected "M", "S" or "."')
    return np.array([[_MARKS[mark] for mark in row] for row in rows], np.int8)


def _reduced(pixels: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Return a picture whose smaller side is at most `side`."""
    share = side / min(pixels.shape[:2])
    if share >= 1:
        return pixels
    size = round(pixels.shape[1] * share), round(pixels.shape[0] * share)
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def _recoloured(crop: npt.NDArray[np.uint8], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a picture with another brightness, contrast and tint: what stands still does so in any light."""
    values = crop.astype(np.float32) / 255
    values = values ** np.float32(random.uniform(0.7, 1.4)) * random.uniform(0.85, 1.15, 3).astype(np.float32)
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * np.float32(random.uniform(0.6, 1.2))
    return np.clip(np.round(255 * values), 0, 255).astype(np.uint8)
