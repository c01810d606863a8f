"""Word vectors of a training run -> the text files of a bundle, cut to the words that a small generator can tell apart.

Only the commonest tokens go into a bundle: a rarer word is then read as the pieces that it is made of, by the same
tokenizer, and two thirds of the size are saved. The words of the training's own captions all stay, whatever their
place: read as pieces, "waterfall" and "candles" chose scenes with neither.
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
        words: the folder that `python -m training words` wrote.
        folder: the bundle's.
        captions: words that the training's captions are made of, which all stay.
        tokens: how many are kept of a WordPiece vocabulary, the commonest first; another kind is kept whole.

    Returns:
        The manifest's entry `text`, and the words as the bundle has them.

    Raises:
        ValueError: the folder is missing or damaged, or its tokenizer is made of parts that the runtime does not read.
    """
    WordVectors.open(words)  # checks every file
    facts = json.loads((words / DESCRIPTION).read_text(encoding="utf-8"))
    tokenizer = json.loads((words / "tokenizer.json").read_text(encoding="utf-8"))
    vectors, scales = np.load(words / "vectors.npy"), np.load(words / "scales.npy")
    if tokenizer["model"]["type"] == "WordPiece":
        kept = commonest(tokenizer, tokens, captions)
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


def commonest(tokenizer: dict[str, Any], tokens: int, captions: Collection[str] = ()) -> list[tuple[str, int]]:
    """Return (token, row) of a WordPiece vocabulary's commonest tokens, which come first in it.

    Single characters, and what stands for unknown words, stay whatever their place: every word can be spelled.
    """
    rows = sorted(tokenizer["model"]["vocab"].items(), key=lambda item: item[1])
    special = {item["content"] for item in tokenizer.get("added_tokens") or []} | {tokenizer["model"].get("unk_token")}
    special |= {word.strip(".,;:!?()'\"").lower() for word in captions}
    always = [item for item in rows if item[0] in special or len(item[0].removeprefix("##")) == 1]
    known = {token for token, _ in always}
    rest = [item for item in rows if item[0] not in known][: max(0, tokens - len(always))]
    return sorted([*always, *rest], key=lambda item: item[1])
