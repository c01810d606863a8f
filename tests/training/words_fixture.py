"""A folder of token vectors made on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from training.data.words import write_words


def make_words(path: Path, texts: Sequence[str], dimensions: int = 16) -> Path:
    """Write WORDS over the words of `texts`, lower-cased, with vectors from a fixed seed; returns `path`."""
    found = sorted({word for text in texts for word in text.lower().split()})
    vocabulary = {word: number for number, word in enumerate(["[UNK]", *found])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    vectors = np.random.default_rng(0).normal(size=(len(vocabulary), dimensions))
    write_words(path, tokenizer.to_str(), vectors, {"source": {"name": "a test", "licence": "none"}})
    return path
