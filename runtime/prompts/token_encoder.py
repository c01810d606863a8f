"""Turns a text into the tokens and masks that a condition graph takes (docs/bundle.md, "Tokens")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from runtime.bundle.manifest import Manifest
from runtime.bundle.tensors import TensorSpec
from runtime.bundle.text_spec import MAX_TOKEN_ID, TokenizerSpec
from runtime.engines.engine import Array
from runtime.errors import BundleError
from runtime.prompts.tokenizer import Tokenizer, check_text, read_tokenizer_file

_SHOWN = 120  # characters of what is not read


class EncodedText(NamedTuple):
    """A text as the condition graph takes it.

    Args:
        inputs: input of the graph -> read-only value of its dtype and shape; empty for no text.
        note: one sentence if a part of the text is not read, else "".
    """

    inputs: Mapping[str, Array] = MappingProxyType({})
    note: str = ""


class TokenEncoder:
    """The tokenizers of a bundle.

    Args:
        tokenizers: the entry of the manifest and the tokenizer.json of each.
        inputs: of the condition graph; those with the roles `tokens` and `token_mask` are filled.

    Raises:
        EngineError: the package tokenizers is not installed.
        BundleError: a tokenizer is damaged, has unsupported parts, or does not fit its length.
    """

    def __init__(self, tokenizers: Sequence[tuple[TokenizerSpec, str]], inputs: Sequence[TensorSpec]) -> None:
        self._specs = [spec for spec, _ in tokenizers]
        opened: dict[tuple[str, int], Tokenizer] = {}  # two entries that differ in their padding share one
        for spec, text in tokenizers:
            key = (spec.file, spec.length)
            if key in opened:
                continue
            try:
                opened[key] = Tokenizer(text, MAX_TOKEN_ID, spec.length)
            except ValueError as error:
                raise BundleError(f"{spec.file} cannot be used: {error}; export the bundle again") from error
        self._tokenizers = {spec.name: opened[spec.file, spec.length] for spec in self._specs}
        self._inputs = [item for item in inputs if item.role in ("tokens", "token_mask")]

    def encode(self, text: str | None) -> EncodedText:
        """Return the tokens and masks of a text; a text that is too long loses its end, but not its end token.

        Args:
            text: see `runtime.prompts.tokenizer.check_text`; None for no text, whose tokens are those of "".

        Raises:
            ValueError: the text is invalid.
            BundleError: a tokenizer fails.
        """
        checked = "" if text is None else check_text(text)
        rows: dict[str, tuple[Array, Array]] = {}  # name of the tokenizer -> tokens and mask, int64 (1, L)
        rests: dict[str, str] = {}
        for spec in self._specs:
            ids, rests[spec.name] = self._tokenizers[spec.name].encode(checked)
            tokens, mask = np.full((1, spec.length), spec.pad_id, np.int64), np.zeros((1, spec.length), np.int64)
            tokens[0, : len(ids)], mask[0, : len(ids)] = ids, 1
            rows[spec.name] = tokens, mask
        tokenizers = {item.name: item.tokenizer for item in self._inputs if item.role == "tokens"}
        values: dict[str, Array] = {}
        for item in self._inputs:
            is_mask = item.role == "token_mask"
            row = rows[tokenizers[item.of[0] if is_mask else item.name]]
            values[item.name] = row[is_mask].astype(item.dtype)
            values[item.name].flags.writeable = False
        return EncodedText(
            MappingProxyType(values), _note({name: rest for name, rest in rests.items() if rest}, len(rests))
        )


def open_token_encoder(folder: Path, manifest: Manifest) -> TokenEncoder:
    """Open a bundle's tokenizers; hashes and sizes are checked before anything is read.

    Args:
        folder: of the bundle.
        manifest: of the bundle, with `tokens`.

    Raises:
        BundleError: a file is missing or damaged, or does not fit its entry.
        EngineError: the package tokenizers is not installed.
    """
    assert manifest.tokens is not None, "open_token_encoder() of a bundle without tokenizers"
    assert manifest.condition is not None, "a manifest with tokenizers and without a condition graph"
    texts = {name: read_tokenizer_file(folder, manifest, name) for name in dict.fromkeys(manifest.tokens.files)}
    specs = manifest.tokens.tokenizers
    return TokenEncoder([(spec, texts[spec.file]) for spec in specs], manifest.condition.inputs)


def _note(rests: Mapping[str, str], num_tokenizers: int) -> str:
    """Return what is not read of a text, in one line.

    Args:
        rests: tokenizer -> the end of the text that it has cut off.
        num_tokenizers: of the bundle.
    """
    parts: dict[str, list[str]] = {}
    for name, rest in rests.items():
        line = " ".join(rest.split())
        shown = f'"{line}"' if len(line) <= _SHOWN else f'"{line[: _SHOWN - 3]}..."'
        parts.setdefault(shown, []).append(name)
    if not parts:
        return ""
    if len(parts) == 1 and len(rests) == num_tokenizers:
        return f"the text is too long, its end is not read: {next(iter(parts))}"
    said = [
        f"{' and '.join(names)} leave{'s' if len(names) == 1 else ''} out {shown}" for shown, names in parts.items()
    ]
    return f"the text is too long: {'; '.join(said)}"
