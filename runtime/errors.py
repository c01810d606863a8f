"""The two errors of the runtime; a user's bad value is a plain ValueError.

BundleError   the bundle on disk is broken, incomplete, or written to another contract
EngineError   no engine can run the bundle as asked, or a running one failed
"""

from __future__ import annotations

_MAX_CHARACTERS = 2000  # of a message


def printable(text: str) -> str:
    """Return a text that is safe to write to a terminal.

    Args:
        text: may hold anything, such as names out of a stranger's bundle.

    Returns:
        The text with escapes (backslash, x1b) for control characters, line breaks among them, for marks that change the
        direction of writing, and for whatever else cannot be seen.
    """
    return "".join(part if part.isprintable() else ascii(part)[1:-1] for part in text)


class _MessageError(Exception):
    """An error whose message may be written to a terminal, whatever names are in it."""

    def __init__(self, message: str) -> None:
        text = printable(" ".join(message.split()))
        super().__init__(text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}...")


class BundleError(_MessageError):
    """A bundle breaks the contract of docs/bundle.md; the message names the file or key and what was expected."""


class EngineError(_MessageError):
    """An engine is missing, cannot do what was asked, or failed; the message says what to install or to change."""
