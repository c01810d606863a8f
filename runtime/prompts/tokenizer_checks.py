"""Checks of a bundle's tokenizer.json: only parts whose time and memory grow linearly with the text are allowed.

The library tokenizers holds Python's lock while it runs, which stops frames, and ends the process if it runs out of
memory. An untrusted tokenizer could cause both: two normalisers that replace each letter by a thousand, a pattern that
backtracks, a word of unlimited length.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Mapping
from typing import Any

from runtime.bundle.strict_json import describe, nearest

_NORMALIZERS = {"BertNormalizer", "Lowercase", "NFC", "NFD", "NFKC", "NFKD", "Nmt", "Precompiled", "Replace", "Strip"}
_NORMALIZERS |= {"StripAccents"}
_PRE_TOKENIZERS = {"BertPreTokenizer", "ByteLevel", "CharDelimiterSplit", "Digits", "Metaspace", "Punctuation"}
_PRE_TOKENIZERS |= {"Split", "UnicodeScripts", "Whitespace", "WhitespaceSplit"}
_POST_PROCESSORS = {"BertProcessing", "ByteLevel", "RobertaProcessing", "TemplateProcessing"}
_MODELS = {"BPE", "Unigram", "WordLevel", "WordPiece"}
_PATTERNS = (" {2,}", r"\s+")  # regular expressions that SentencePiece's converters write
_CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Regular expressions at which a text is split into words: CLIP's, as two converters write them.
WORD_PATTERNS = (_CLIP_WORDS, r"<\|startoftext\|>|<\|endoftext\|>|" + _CLIP_WORDS)
_MAX_REPLACEMENTS = 16
_MAX_ADDED_TOKENS, _MAX_ADDED_CHARS = 10_000, 2**16
_MAX_TOKEN_CHARS = 256
_MAX_UNIGRAM_CHARS = 64  # of a token; Unigram looks up tokens of every length at every letter
_MAX_AFFIX_CHARS = 16  # of a prefix or suffix of word pieces
_MAX_WORD_CHARS = 200  # of a word that WordPiece looks up in pieces; BERT reads 100
_MAX_SPECIAL = 16  # tokens around a text
_MAX_PIECE_BYTES = 40  # that a precompiled normaliser makes of a character; Unicode's longest are 33


def read_tokenizer(text: str, tokens: int, *, has_specials: bool = False) -> tuple[str, Mapping[str, Any]]:
    """Check a tokenizer.json.

    Args:
        text: the file.
        tokens: number of tokens that have a vector, or with `has_specials` that may exist.
        has_specials: whether the special tokens around a text are wanted.

    Returns:
        The JSON of the same tokenizer without truncation and padding, and without special tokens unless they are
        wanted; and its model.

    Raises:
        ValueError: it is damaged, has unsupported parts, or has tokens beyond the number.
    """
    try:
        value = json.loads(text)
        model = value["model"]
        if not isinstance(model, dict):
            raise TypeError("its model is not an object")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"it is not a readable tokenizer: {error!r}") from error
    _check_parts(value.get("normalizer"), "normalizer", "normalizers", _NORMALIZERS)
    _check_parts(value.get("pre_tokenizer"), "pre-tokenizer", "pretokenizers", _PRE_TOKENIZERS)
    _check_model(model, tokens, "that are read" if has_specials else "that have a vector")
    added = value.get("added_tokens") or []
    contents = [_text_of(item, "content") for item in _list(added, "list of added tokens")]
    if len(added) > _MAX_ADDED_TOKENS or sum(map(len, contents)) > _MAX_ADDED_CHARS:
        raise ValueError(
            f"it adds {len(contents)} tokens; at most {_MAX_ADDED_TOKENS} with {_MAX_ADDED_CHARS} characters are read"
        )
    parts = {key: value.get(key) for key in ("normalizer", "pre_tokenizer", "model")}
    if has_specials:
        parts["post_processor"] = value.get("post_processor")
        _check_parts(parts["post_processor"], "post-processor", "processors", _POST_PROCESSORS)
    return json.dumps({"version": "1.0", "added_tokens": added} | parts), model


def _check_parts(value: Any, what: str, key: str, known: Collection[str]) -> None:
    """Check a part or a sequence of parts; each may appear once, so that their growth does not multiply."""
    if value is None:
        return
    is_sequence = isinstance(value, dict) and value.get("type") == "Sequence"
    items = _list(value.get(key), what) if is_sequence else [value]
    kinds = [_kind(item, what, known) for item in items]
    for kind in {kind for kind in kinds if kind != "Replace"}:
        if kinds.count(kind) > 1:
            raise ValueError(f'it has {kinds.count(kind)} {what}s "{kind}"; one is read')
    if len(kinds) > _MAX_REPLACEMENTS + len(known):
        raise ValueError(f"it has {len(kinds)} {what}s; at most {_MAX_REPLACEMENTS + len(known)} are read")
    for kind, item in zip(kinds, items, strict=True):
        if kind == "Replace":
            _check_replacement(item)
        elif kind == "Precompiled":
            _check_precompiled(item)
        elif kind == "Split":
            _check_split(item)
        elif kind == "TemplateProcessing":
            _check_template(item)


def _check_replacement(item: Mapping[str, Any]) -> None:
    """Check that a replacement does not make a text longer."""
    pattern, content = item.get("pattern"), _text_of(item, "content")
    kind, wanted = next(iter(pattern.items()), ("", "")) if isinstance(pattern, dict) else ("", "")
    is_short = isinstance(wanted, str) and 0 < len(wanted) <= _MAX_TOKEN_CHARS and len(content) <= len(wanted)
    if not (kind == "String" and is_short) and not (kind == "Regex" and wanted in _PATTERNS and len(content) <= 1):
        raise ValueError(
            f'its normalizer "Replace" puts {describe(content)} for {describe(pattern)}: the replacement must not '
            f"be longer; the regular expressions allowed are {' and '.join(map(repr, _PATTERNS))}, for one character"
        )


def _check_split(item: Mapping[str, Any]) -> None:
    """Check that a text is split at a fixed text or at a regular expression that is known to be quick."""
    pattern = item.get("pattern")
    kind, wanted = next(iter(pattern.items()), ("", "")) if isinstance(pattern, dict) else ("", "")
    is_text = kind == "String" and isinstance(wanted, str) and 0 < len(wanted) <= _MAX_TOKEN_CHARS
    if not is_text and not (kind == "Regex" and wanted in WORD_PATTERNS):
        raise ValueError(
            f'its pre-tokenizer "Split" splits at {describe(pattern)}: expected a text, or the regular expression of '
            "CLIP"
        )


def _check_template(item: Mapping[str, Any]) -> None:
    """Check that a template has the text once, and few special tokens."""
    specials = item.get("special_tokens")
    if not isinstance(specials, dict) or len(specials) > _MAX_SPECIAL:
        raise ValueError(f'its post-processor has the "special_tokens" {describe(specials)}; at most {_MAX_SPECIAL}')
    for value in specials.values():
        ids = value.get("ids") if isinstance(value, dict) else None
        if len(_list(ids, "list of a special token's ids")) > _MAX_SPECIAL:
            raise ValueError(f"its post-processor has a special token of {len(ids or [])} tokens")
    for key in ("single", "pair"):
        pieces = _list(item.get(key), f'template "{key}"')
        texts = [piece for piece in pieces if isinstance(piece, dict) and "Sequence" in piece]
        if len(pieces) > _MAX_SPECIAL or (key == "single" and len(texts) != 1):
            raise ValueError(
                f'its template "{key}" has {len(pieces)} parts and the text {len(texts)} times; expected the text '
                f"once in at most {_MAX_SPECIAL} parts"
            )


def _check_precompiled(item: Mapping[str, Any]) -> None:
    """Check that SentencePiece's table (a trie, then texts that end in a zero byte) holds only short texts."""
    try:
        table = base64.b64decode(_text_of(item, "precompiled_charsmap"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f'the table of its normalizer "Precompiled" cannot be read: {error}') from error
    texts = table[4 + int.from_bytes(table[:4], "little") :]
    longest = max(map(len, texts.split(b"\0")))
    if longest > _MAX_PIECE_BYTES:
        raise ValueError(
            f'its normalizer "Precompiled" makes {longest} bytes of a character; at most {_MAX_PIECE_BYTES}'
        )


def _check_model(model: Mapping[str, Any], tokens: int, limit: str) -> None:
    kind = _kind(model, "model", _MODELS)
    vocabulary = model.get("vocab")
    if kind == "Unigram":
        names = [item[0] if isinstance(item, list) and item else None for item in _list(vocabulary, "vocabulary")]
        places = list(range(len(names)))
    else:
        if not isinstance(vocabulary, dict):
            raise ValueError(f"its vocabulary is {describe(vocabulary)}, expected an object")
        names, places = list(vocabulary), list(vocabulary.values())
    longest = _MAX_UNIGRAM_CHARS if kind == "Unigram" else _MAX_TOKEN_CHARS
    if not all(isinstance(name, str) and len(name) <= longest for name in names):
        raise ValueError(f"it has tokens that are not strings or longer than {longest} characters")
    if not all(isinstance(place, int) and 0 <= place < tokens for place in places):
        raise ValueError(f"it has tokens beyond the {tokens} {limit}")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key) is not None and len(_text_of(model, key)) > _MAX_AFFIX_CHARS:
            raise ValueError(f'its "{key}" is longer than {_MAX_AFFIX_CHARS} characters')
    if kind == "BPE" and (prefix := model.get("continuing_subword_prefix")):
        for merge in _list(model.get("merges"), "list of merges"):
            second = (
                merge.split(" ")[-1]
                if isinstance(merge, str)
                else merge[-1]
                if isinstance(merge, list) and merge
                else None
            )
            if not isinstance(second, str) or not second.startswith(prefix):
                raise ValueError(f"its merge {describe(merge)} does not go on with {describe(prefix)}")
    word = model.get("max_input_chars_per_word")
    if kind == "WordPiece" and not (isinstance(word, int) and 0 <= word <= _MAX_WORD_CHARS):
        raise ValueError(f'its "max_input_chars_per_word" is {describe(word)}; at most {_MAX_WORD_CHARS} are read')
    if model.get("dropout"):
        raise ValueError("its dropout must be null, so that a text always has the same vector")


def _kind(item: Any, what: str, known: Collection[str]) -> str:
    """Return the type of a part."""
    kind = item.get("type") if isinstance(item, dict) else None
    if not isinstance(kind, str) or kind not in known:
        raise ValueError(f"its {what} {describe(kind)} is not one that is read {nearest(str(kind), known)}")
    return kind


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"its {what} is {describe(value)}, expected a list")
    return value


def _text_of(item: Any, key: str) -> str:
    value = item.get(key) if isinstance(item, dict) else None
    if not isinstance(value, str):
        raise ValueError(f'its "{key}" is {describe(value)}, expected a text')
    return value
