"""A folder of word vectors with a WordPiece tokenizer, as sentence encoders have one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors

from training.data.words import write_words

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def make_wordpieces(path: Path, words: Sequence[str], dimensions: int = 16) -> Path:
    """Write WORDS: special tokens, `words` in this order (the commonest first), letters last; returns `path`."""
    tokens = [*SPECIAL, *words, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    assert len(vocabulary) == len(tokens)
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    vectors = np.random.default_rng(3).normal(size=(len(tokens), dimensions))
    write_words(path, tokenizer.to_str(), vectors, {"source": {"name": "a test", "licence": "CC0-1.0"}})
    return path
