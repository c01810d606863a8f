"""The files of a tokenizer: reads them as text encoders come with them, and writes them into a bundle.

    sources = {"text": read_tokenizer_source(Path("sd-turbo/tokenizer"))}
    manifest["text"] = write_tokenizers(folder, sources, licence="...", source="...")

A folder contains tokenizer.json, or vocab.json and merges.txt of CLIP, and optionally tokenizer_config.json and
special_tokens_map.json, which say how long a text is and which token fills it up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from export.manifest_entries import Entry
from runtime.bundle.tensors import MAX_TOKENS, TensorSpec
from runtime.bundle.text_spec import MAX_TOKEN_ID, MAX_TOKENIZERS, TokenizerSpec
from runtime.errors import BundleError, EngineError
from runtime.prompts.token_encoder import TokenEncoder
from runtime.prompts.tokenizer import Tokenizer, library_reason
from runtime.prompts.tokenizer_checks import WORD_PATTERNS, read_tokenizer

CLIP_LENGTH = 77
_CLIP_BEGIN, _CLIP_END, _CLIP_SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
_TOKENIZER, _VOCABULARY, _MERGES = "tokenizer.json", "vocab.json", "merges.txt"
_SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")
_PADS = ("<pad>", "[PAD]", _CLIP_END, "</s>")  # usual names of the token that fills a text up, the likeliest first
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class TokenizerSource:
    """A tokenizer that was read.

    Args:
        text: its tokenizer.json.
        length: tokens of a text with special tokens and padding.
        pad_id: token that fills a short text up.
    """

    text: str
    length: int
    pad_id: int

    @property
    def size(self) -> int:
        """The number of tokens, as the highest number plus one."""
        return Tokenizer(self.text, MAX_TOKEN_ID, self.length).size


def tokenizer_json(path: Path) -> str:
    """Return a tokenizer.json of the package tokenizers.

    Args:
        path: the file itself, or a folder with it, or with vocab.json and merges.txt of CLIP.

    Raises:
        ValueError: there is none, or it cannot be read.
        EngineError: the package tokenizers is not installed.
    """
    if path.is_file():
        return _read(path)
    if (path / _TOKENIZER).is_file():
        return _read(path / _TOKENIZER)
    if all((path / name).is_file() for name in (_VOCABULARY, _MERGES)):
        return _clip_json(path / _VOCABULARY, path / _MERGES, _pad_token(_settings(path)))
    found = sorted(item.name for item in path.iterdir())[:8] if path.is_dir() else []
    what = f"it holds {', '.join(found) or 'no files'}" if path.is_dir() else "it does not exist"
    raise ValueError(
        f"{path} has no tokenizer: {what}; give {_TOKENIZER}, or a folder with it or with {_VOCABULARY} and {_MERGES} "
        "of CLIP. The package transformers writes it: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
    )


def read_tokenizer_source(path: Path, length: int | None = None) -> TokenizerSource:
    """Read a tokenizer, how long its texts are, and which token fills them up.

    Args:
        path: as of `tokenizer_json`.
        length: of a text in tokens, 1 to 512; None for what the files say, else 77.

    Raises:
        ValueError: there is none, it cannot be read, or it has parts that bundles do not read.
        EngineError: the package tokenizers is not installed.
    """
    text = tokenizer_json(path)
    settings = _settings(path if path.is_dir() else path.parent)
    value = _object(text, path)
    source = TokenizerSource(text, length or _length(value, settings), 0)
    try:
        read_tokenizer(text, MAX_TOKEN_ID, has_specials=True)  # what is read below has the expected types then
    except ValueError as error:
        raise _refusal(path, str(error)) from error
    return check_tokenizer(replace(source, pad_id=_pad_id(value, settings)), path)


def check_tokenizer(source: TokenizerSource, path: Path) -> TokenizerSource:
    """Return a tokenizer that a bundle can contain.

    Args:
        source: what was read.
        path: for messages.

    Raises:
        ValueError: a reader would refuse it.
        EngineError: the package tokenizers is not installed.
    """
    if not 1 <= source.length <= MAX_TOKENS:
        raise ValueError(f"a text has 1 to {MAX_TOKENS} tokens, got {source.length}: give another --text-length")
    if not 0 <= source.pad_id < MAX_TOKEN_ID:
        raise ValueError(f"{path} fills texts up with the token {source.pad_id}, expected 0 to {MAX_TOKEN_ID - 1}")
    spec = TokenizerSpec("text", str(path), source.length, source.pad_id)
    inputs = [TensorSpec("tokens", "int64", (1, source.length), "tokens", tokenizer="text")]
    try:
        TokenEncoder([(spec, source.text)], inputs).encode(None)
    except BundleError as error:
        reason = str(error).removesuffix("; export the bundle again").removeprefix(f"{path} cannot be used: ")
        raise _refusal(path, reason) from error
    return source


def _refusal(path: Path, reason: str) -> ValueError:
    return ValueError(f"{path} cannot be used: {reason}; docs/bundle.md lists the parts that bundles read")


def tokenizer_entry(name: str, source: TokenizerSource) -> Entry:
    """Return the manifest entry of a tokenizer, whose file is text/NAME.json."""
    return {"name": name, "file": f"text/{name}.json", "length": source.length, "pad_id": source.pad_id}


def write_tokenizers(folder: Path, sources: Mapping[str, TokenizerSource], *, licence: str, source: str) -> Entry:
    """Write tokenizers into a bundle; equal ones share a file.

    Args:
        folder: the bundle.
        sources: by the names that inputs refer to, 1 to 3.
        licence: of the tokenizers.
        source: where they come from.

    Returns:
        The manifest's `text`.
    """
    assert 1 <= len(sources) <= MAX_TOKENIZERS, f"{len(sources)} tokenizers"
    (folder / "text").mkdir(exist_ok=True)
    files: dict[str, str] = {}
    entries = []
    for name, item in sources.items():
        entry = tokenizer_entry(name, item)
        if item.text not in files:
            files[item.text] = entry["file"]
            (folder / entry["file"]).write_text(item.text, encoding="utf-8")
        entries.append(entry | {"file": files[item.text]})
    return {"tokenizers": entries, "licence": licence, "source": source}


def _clip_json(vocabulary: Path, merges: Path, pad: str | None) -> str:
    """Return the tokenizer.json of CLIP's files, as the package transformers makes it.

    Args:
        vocabulary, merges: the files.
        pad: the token that fills texts up, None for the end token. It is special: also where a text contains it.
    """
    try:
        from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors
        from tokenizers import Tokenizer as LibraryTokenizer
    except ImportError as error:
        raise EngineError("CLIP's files need the package tokenizers: pip install everframe[cpu]") from error
    names = _object(_read(vocabulary), vocabulary)
    begin, end = names.get(_CLIP_BEGIN), names.get(_CLIP_END)
    has_suffixes = any(name.endswith(_CLIP_SUFFIX) for name in names)
    if not isinstance(begin, int) or not isinstance(end, int) or not has_suffixes:
        raise ValueError(
            f"{vocabulary} is not CLIP's: it lacks {_CLIP_BEGIN}, {_CLIP_END} or tokens that end in {_CLIP_SUFFIX}; "
            "save the tokenizer as tokenizer.json with the package transformers"
        )
    _read(merges)
    try:
        table, pairs = models.BPE.read_file(str(vocabulary), str(merges))
        model = models.BPE(
            table, pairs, unk_token=_CLIP_END, continuing_subword_prefix="", end_of_word_suffix=_CLIP_SUFFIX
        )
        made = LibraryTokenizer(model)
    except BaseException as error:
        raise ValueError(f"{vocabulary} and {merges} cannot be read: {library_reason(error)}") from error
    spaces = normalizers.Replace(Regex(r"\s+"), " ")
    made.normalizer = normalizers.Sequence([normalizers.NFC(), spaces, normalizers.Lowercase()])
    split = pre_tokenizers.Split(Regex(WORD_PATTERNS[1]), "removed", invert=True)
    made.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.post_processor = processors.RobertaProcessing(
        (_CLIP_END, end), (_CLIP_BEGIN, begin), trim_offsets=False, add_prefix_space=False
    )
    made.decoder = decoders.ByteLevel()
    specials = [_CLIP_BEGIN, _CLIP_END, *([pad] if pad in names else [])]
    made.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in specials])
    return str(made.to_str())


def _length(value: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """Return how many tokens a text has, as the files say it; 77 if they do not."""
    truncation = value.get("truncation")
    stated = truncation.get("max_length") if isinstance(truncation, dict) else None
    for length in (settings.get("model_max_length"), stated):
        if isinstance(length, int) and not isinstance(length, bool) and 1 <= length <= MAX_TOKENS:
            return length
    return CLIP_LENGTH


def _pad_id(value: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """Return the token that fills a text up, as the files say it; else that of a usual name, else 0."""
    vocabulary = value["model"]["vocab"]
    if isinstance(vocabulary, list):
        vocabulary = {item[0]: place for place, item in enumerate(vocabulary)}
    added = {item["content"]: item.get("id") for item in value.get("added_tokens") or []}
    names: dict[str, int] = vocabulary | {name: place for name, place in added.items() if isinstance(place, int)}
    pad = _pad_token(settings)
    if pad is not None and pad not in names:
        raise ValueError(f"the token {pad!r}, which fills texts up, is not in the vocabulary of the tokenizer")
    padding = value.get("padding")
    if pad is None and isinstance(padding, dict) and isinstance(padding.get("pad_id"), int):
        return int(padding["pad_id"])
    return int(names[pad] if pad is not None else next((names[name] for name in _PADS if name in names), 0))


def _settings(folder: Path) -> dict[str, Any]:
    """Return what the files of settings say; tokenizer_config.json wins."""
    settings: dict[str, Any] = {}
    for name in reversed(_SETTINGS):
        if (folder / name).is_file():
            settings |= _object(_read(folder / name), folder / name)
    return settings


def _pad_token(settings: Mapping[str, Any]) -> str | None:
    pad = settings.get("pad_token")
    pad = pad.get("content") if isinstance(pad, dict) else pad
    return pad if isinstance(pad, str) else None


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path} is larger than {_MAX_BYTES} bytes: give a tokenizer, not a model")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"{path} cannot be read: {reason}; give a tokenizer") from error


def _object(text: str, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is not a tokenizer: it has no JSON object")
    return value
