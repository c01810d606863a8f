"""Strict reading of JSON objects: an unknown key is an error that names the nearest known key."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from runtime.errors import BundleError

_MAX_SHOWN = 64


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown word.

    Args:
        word: the unknown word.
        known: the known words.

    Returns:
        `(did you mean "x"?)` if a known word is similar, else a list of the known words.
    """
    names = sorted(known)
    # Comparing thousands of names of a bundle would be too slow.
    close = difflib.get_close_matches(word, names, n=1) if len(names) <= _MAX_SHOWN and len(word) <= 256 else []
    if close:
        return f'(did you mean "{close[0]}"?)'
    shown = ", ".join(names[:_MAX_SHOWN]) + (f" and {len(names) - _MAX_SHOWN} more" if names[_MAX_SHOWN:] else "")
    return f"(known: {shown or 'none'})"


class StrictJson:
    """A JSON object that is read key by key.

    Args:
        value: result of `json.loads`.
        where: path of the object for messages, e.g. `bundle.json: frame`.
        keys: all keys that the object may have.

    Raises:
        BundleError: `value` is not an object, or has a key that is not in `keys`.
    """

    def __init__(self, value: Any, where: str, keys: Iterable[str]) -> None:
        if not isinstance(value, Mapping):
            raise BundleError(f"{where} must be an object, got {describe(value)}")
        self._value = value
        self.where = where
        known = set(keys)
        for key in value:
            if key not in known:
                raise BundleError(f'{where} has the unknown key "{_shorten(str(key))}" {nearest(str(key), known)}')

    def has(self, key: str) -> bool:
        """Return whether the object has this key."""
        return key in self._value

    def get(self, key: str) -> Any:
        """Return the value of a required key, of any type.

        Raises:
            BundleError: the key is missing.
        """
        if key not in self._value:
            raise BundleError(f'{self.where} lacks the key "{key}"; see docs/bundle.md')
        return self._value[key]

    def text(self, key: str, pattern: str | None = None) -> str:
        """Return a required string; `pattern`, if given, must match all of it."""
        value = self.get(key)
        if not isinstance(value, str):
            raise self._error(key, "a string", value)
        if pattern is not None and re.fullmatch(pattern, value) is None:
            raise self._error(key, f"a string like {pattern}", value)
        return value

    def choice(self, key: str, choices: Iterable[str]) -> str:
        """Return a required string that is one of `choices`."""
        value, known = self.text(key), list(choices)
        if value not in known:
            raise BundleError(f'{self.where}: "{key}" is the unknown "{_shorten(value)}" {nearest(value, known)}')
        return value

    def boolean(self, key: str) -> bool:
        """Return a required true or false."""
        value = self.get(key)
        if not isinstance(value, bool):
            raise self._error(key, "true or false", value)
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Return a required whole number in [low, high]."""
        value = self.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._error(key, f"a whole number from {low} to {high}", value)
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """Return a required finite number in [low, high]; a whole number stays an int."""
        value = self.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise self._error(key, "a number", value)
        if isinstance(value, int) and abs(value) > 2**53:
            raise self._error(key, "a number of at most 2^53", value)
        if not math.isfinite(value) or not low <= value <= high:
            raise self._error(key, f"a finite number from {low} to {high}", value)
        return value

    def items(self, key: str) -> list[Any]:
        """Return a required list."""
        value = self.get(key)
        if not isinstance(value, list):
            raise self._error(key, "a list", value)
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        """Return a required object as a dict."""
        value = self.get(key)
        if not isinstance(value, dict):
            raise self._error(key, "an object", value)
        return value

    def _error(self, key: str, expected: str, value: Any) -> BundleError:
        return BundleError(f'{self.where}: "{key}" must be {expected}, got {describe(value)}')


def describe(value: Any) -> str:
    """Return a value for a message, cut to 60 characters."""
    return _shorten(repr(value))


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
