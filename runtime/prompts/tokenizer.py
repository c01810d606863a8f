"""A bundle's tokenizer in the package tokenizers; all that the library raises, its panics included, is one exception.

text -> normaliser -> words -> tokens [-> begin token, tokens, end token, cut to a length]
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import read_file
from runtime.errors import BundleError, EngineError
from runtime.prompts.tokenizer_checks import read_tokenizer

_EXTRA = "pip install everframe[cpu]"
_MAX_CHARACTERS = 2000
_MAX_TOKENIZER_BYTES = 64 * 2**20


def check_text(text: str) -> str:
    """Check a text.

    Args:
        text: 1 to 2,000 characters, not only white space.

    Returns:
        The same text.

    Raises:
        ValueError: it is not a string, empty, too long, or has unpaired surrogates.
    """
    if not isinstance(text, str):
        raise ValueError(f"a text must be a string, got {type(text).__name__}")
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"the text has {len(text)} characters; at most {_MAX_CHARACTERS} are read: shorten it")
    if not text.strip():
        raise ValueError("the text is empty: describe a scene, or leave the text out")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the text is not valid Unicode (an unpaired surrogate): type it again")
    return text


class Tokens(NamedTuple):
    """The ids of a text's tokens, and the end of the text that they leave out, "" for none."""

    ids: list[int]
    rest: str


class Tokenizer:
    """A tokenizer of a bundle.

    Args:
        text: a tokenizer.json.
        tokens: its ids are below this number.
        length: at most so many tokens of a text are returned, with the special tokens of its post-processor; None for
            all, without special tokens.

    Attributes:
        model: the part "model" of the file.

    Raises:
        EngineError: the package tokenizers is not installed.
        ValueError: the tokenizer is damaged, has unsupported parts or tokens beyond the number, or its special tokens
            leave no room.
    """

    def __init__(self, text: str, tokens: int, length: int | None = None) -> None:
        checked, self.model = read_tokenizer(text, tokens, has_specials=length is not None)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no extra threads for a batch of one
        try:
            import tokenizers
        except ImportError as error:
            raise EngineError(f"a text needs the package tokenizers: {_EXTRA}") from error
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(checked)
            largest = max(self._tokenizer.get_vocab().values(), default=-1)
            num_special = self._tokenizer.num_special_tokens_to_add(is_pair=False)
            unknown = self.model.get("unk_token")
            is_lost = unknown is not None and self._tokenizer.token_to_id(unknown) is None
            if length is not None and num_special < length:
                self._tokenizer.enable_truncation(length)
            self._tokenizer.encode_batch(["a"])  # some damage is found only here
        except BaseException as error:
            raise ValueError(f"it is not a readable tokenizer: {library_reason(error)}") from error
        if is_lost:
            raise ValueError(f"its unknown token {unknown!r} is not in its vocabulary")
        if largest >= tokens:
            what = "have a vector" if length is None else "are read"
            raise ValueError(f"it has tokens beyond the {tokens} that {what}")
        if length is not None and num_special >= length:
            raise ValueError(f"it adds {num_special} special tokens, which leave no room for a text in {length} tokens")
        self._has_specials = length is not None

    @property
    def unknown(self) -> int | None:
        """The id of the token for what is unknown, or None."""
        unknown = self.model.get("unk_token")
        # Unigram gives the id of its unknown token, the other models its text.
        found = self.model.get("unk_id") if unknown is None else self._tokenizer.token_to_id(unknown)
        return None if found is None else int(found)

    @property
    def size(self) -> int:
        """The number of tokens, as the highest id plus one."""
        return 1 + int(max(self._tokenizer.get_vocab().values(), default=-1))

    def encode(self, text: str) -> Tokens:
        """Return the tokens of a text of any content.

        Raises:
            BundleError: the tokenizer fails.
        """
        try:
            # encode_batch, because the library releases Python's lock only for a batch.
            found = self._tokenizer.encode_batch([text], add_special_tokens=self._has_specials)[0]
            rest = _rest(text, found)
        except BaseException as error:
            raise BundleError(f"the tokenizer fails: {library_reason(error)}; export the bundle again") from error
        return Tokens(list(found.ids), rest)


def read_tokenizer_file(folder: Path, manifest: Manifest, name: str) -> str:
    """Read a tokenizer.json of a bundle; its hash and size are checked before.

    Raises:
        BundleError: it is missing, changed, too large, or not UTF-8.
    """
    spec = manifest.files[name]
    if spec.size_bytes > _MAX_TOKENIZER_BYTES:
        raise BundleError(f"{name} is larger than {_MAX_TOKENIZER_BYTES} bytes; a tokenizer is some millions")
    try:
        return read_file(folder, name, spec).decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{name} cannot be used: it is not UTF-8 ({error.reason}); export the bundle again"
        ) from error


def _rest(text: str, found: Any) -> str:
    """Return the end of a text that was cut off."""
    for part in found.overflowing:
        for (start, _), is_special in zip(part.offsets, part.special_tokens_mask, strict=True):
            if not is_special:
                return text[start:].strip()
    return ""


def library_reason(error: BaseException) -> str:
    """Return the message of an error of tokenizers in one line; other errors are raised again.

    The library raises plain Exception, or a PanicException, which is only a BaseException, if its Rust code panics.
    """
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error
    return " ".join(str(error).split())[:300]
