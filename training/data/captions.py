"""Vectors of captions for the generator."""

from __future__ import annotations

import torch
from torch import Tensor

from training.data.words import WordVectors

NO_CAPTION = 0.2  # share of captions dropped in training, so that the generator also works without text
DROPPED_WORDS = 0.25


class Captions:
    """Encodes captions and caches their vectors.

    Args:
        words: vectors of words, or None.
        dimensions: of the generator's text input; 0: it takes no text.

    Raises:
        ValueError: the generator takes text and the words are missing or of another size.
    """

    def __init__(self, words: WordVectors | None, dimensions: int) -> None:
        if dimensions and words is None:
            raise ValueError(
                f"the generator takes text (model.text_dimensions is {dimensions}) and no words were given: "
                "pass --words WORDS, or set model.text_dimensions to 0"
            )
        if dimensions and words is not None and words.dimensions != dimensions:
            raise ValueError(
                f"model.text_dimensions is {dimensions} and the word vectors have {words.dimensions}: "
                f"make them with `python -m training words MODEL --out WORDS --dimensions {dimensions}`"
            )
        self.words, self.dimensions = words, dimensions
        self._known: dict[str, Tensor] = {}

    def encode(self, captions: list[str], dropping: bool = False) -> Tensor:
        """Return (B, D) unit vectors, zeros for a caption without a known word.

        Args:
            captions: B texts.
            dropping: drop some words and some whole captions, drawn from torch's global generator.
        """
        if self.words is None or not self.dimensions:
            return torch.zeros(len(captions), self.dimensions)
        if dropping:
            captions = [self._thinned(caption) for caption in captions]
        for caption in captions:
            if caption not in self._known:
                if len(self._known) > 10_000:
                    self._known.clear()
                self._known[caption] = torch.from_numpy(self.words.encode([caption])[0])
        return torch.stack([self._known[caption] for caption in captions])

    def _thinned(self, caption: str) -> str:
        if float(torch.rand(())) < NO_CAPTION:
            return ""
        words = caption.split()
        kept = [
            word for word, number in zip(words, torch.rand(len(words)).tolist(), strict=True) if number > DROPPED_WORDS
        ]
        return " ".join(kept) or caption
