"""Clips without footage: textures that move steadily, sample by sample the same whoever asks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from training.data.footage import Batch, Span

CAPTIONS = ("a red square", "two blue balls", "green hills far away", "a candle burning")


class FakeSpans(list[Span]):
    """As many scenes as there are captions, all of them equally long unless told otherwise."""

    def __init__(self, lengths: Sequence[int] = (40,) * len(CAPTIONS)) -> None:
        super().__init__(Span(number, 0, length) for number, length in enumerate(lengths))
        self.library = self

    def scenes(self) -> list[str]:
        """Return the scene of every take."""
        return [f"scene {number}" for number in range(len(self))]


class FakeClips:
    """What a `ClipSampler` gives, made up.

    Args:
        side: of the frames, pixels.
        seed: other seeds, other clips.
    """

    def __init__(self, side: int = 64, seed: int = 0) -> None:
        self.height, self.width, self.seed = side, side, seed
        self.spans = FakeSpans()
        self.offsets: list[list[int]] = []  # what was asked for

    def span(self, number: int) -> Span:
        """Return where a sample is from: every scene in its turn."""
        return self.spans[number % len(self.spans)]

    def collate(self, numbers: Sequence[int], offsets: Sequence[int]) -> tuple[Batch, list[str]]:
        """Return the samples of these numbers, and that all of them could be read."""
        self.offsets.append(list(offsets))
        size, cells = (self.height, self.width), (self.height // 4, self.width // 4)
        frames = np.empty((len(numbers), len(offsets), 3, *size), np.uint8)
        flow = np.empty((len(numbers), 2, *cells), np.float32)
        for row, number in enumerate(numbers):
            rng = np.random.default_rng((self.seed, number))
            coarse = rng.uniform(20, 235, (3, self.height // 4, self.width // 4)).astype(np.uint8)
            scene = coarse.repeat(4, axis=1).repeat(4, axis=2)
            x, y = rng.integers(-2, 3, 2).tolist()
            flow[row] = np.reshape((x, y), (2, 1, 1))
            for column, offset in enumerate(offsets):
                frames[row, column] = np.roll(scene, (y * offset, x * offset), axis=(1, 2))
        names = [f"{number}.mp4" for number in numbers]
        captions = [CAPTIONS[number % len(CAPTIONS)] for number in numbers]
        sway = torch.full((len(numbers), 1, *cells), 0.3)
        return Batch(
            torch.from_numpy(frames), torch.from_numpy(flow), captions, names, [""] * len(names), names, sway
        ), []

    def draw(self, iteration: int, batch: int, offsets: Sequence[int]) -> Batch:
        """Return samples `iteration * batch` and the `batch - 1` after it."""
        return self.collate(range(iteration * batch, (iteration + 1) * batch), offsets)[0]
