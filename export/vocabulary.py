"""Writes the text files of a bundle: the training's word vectors, reduced to the most common tokens.

The tokenizer splits rarer words into pieces that are in the vocabulary. This saves two thirds of the size. All words of
the training captions are kept: split into pieces, "waterfall" and "candles" selected scenes with neither.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from runtime.prompts.tokenizer_checks import read_tokenizer
from training.data.words import DESCRIPTION, WordVectors

TOKENS = 10_000
FILES = {"tokenizer": "text/tokenizer.json", "vectors": "text/vectors.npy", "scales": "text/scales.npy"}


def write_vocabulary(
    words: Path, folder: Path, captions: Collection[str] = (), tokens: int = TOKENS
) -> tuple[dict[str, Any], WordVectors]:
    """Write a bundle's `text/`.

    Args:
        words: folder written by `python -m training words`.
        folder: the bundle.
        captions: words of the training captions, which are all kept.
        tokens: number of tokens to keep of a WordPiece vocabulary; other kinds are kept completely.

    Returns:
        The manifest entry `text`, and the vocabulary of the bundle.

    Raises:
        ValueError: the folder is missing or damaged, or the runtime does not support its tokenizer.
    """
    WordVectors.open(words)  # checks every file
    facts = json.loads((words / DESCRIPTION).read_text(encoding="utf-8"))
    tokenizer = json.loads((words / "tokenizer.json").read_text(encoding="utf-8"))
    vectors, scales = np.load(words / "vectors.npy"), np.load(words / "scales.npy")
    if tokenizer["model"]["type"] == "WordPiece":
        kept = most_common_tokens(tokenizer, tokens, captions)
        tokenizer["model"]["vocab"] = {token: place for place, (token, _) in enumerate(kept)}
        rows = [row for _, row in kept]
        vectors, scales = vectors[rows], scales[rows]
        places = tokenizer["model"]["vocab"]
        added = [item for item in tokenizer.get("added_tokens") or [] if item["content"] in places]
        tokenizer["added_tokens"] = [{**item, "id": places[item["content"]]} for item in added]
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    try:
        read_tokenizer(text, len(vectors))
    except ValueError as error:
        raise ValueError(f"{words} cannot go into a bundle: {error}") from error
    (folder / "text").mkdir(exist_ok=True)
    (folder / FILES["tokenizer"]).write_text(text, encoding="utf-8")
    np.save(folder / FILES["vectors"], vectors)
    np.save(folder / FILES["scales"], scales)
    source = facts.get("source") or {}
    entry = {
        **FILES,
        "licence": str(source.get("licence") or "not stated"),
        "source": str(source.get("name") or "not stated"),
    }
    return entry, WordVectors(text, vectors, scales, "")


def most_common_tokens(tokenizer: dict[str, Any], tokens: int, captions: Collection[str] = ()) -> list[tuple[str, int]]:
    """Return (token, row) of the first tokens of a WordPiece vocabulary, which is sorted by frequency.

    Special tokens, captions and single characters are always kept, so every word can be spelled.
    """
    rows = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {item["content"] for item in tokenizer.get("added_tokens") or []} | {tokenizer["model"].get("unk_token")}
    special |= {word.strip(".,;:!?()'\"").lower() for word in captions}
    always = [item for item in rows if item[0] in special or len(item[0].removeprefix("##")) == 1]
    known = {token for token, _ in always}
    rest = [item for item in rows if item[0] not in known][: max(0, tokens - len(always))]
    return sorted([*always, *rest], key=lambda item: item[1])
