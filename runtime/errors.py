"""The errors of the runtime; a bad value from a user is a plain ValueError.

BundleError   the bundle on disk is damaged, incomplete, or has another schema
EngineError   no engine can run the bundle as requested, or a running one failed
"""

from __future__ import annotations

_MAX_CHARACTERS = 2000  # of a message


def printable(text: str) -> str:
    """Return a text that is safe to write to a terminal.

    Args:
        text: any text, such as a name from an untrusted bundle.

    Returns:
        The text with escapes such as backslash x1b in place of all characters that are not printable: control
        characters, line breaks, marks that change the direction of writing.
    """
    return "".join(part if part.isprintable() else ascii(part)[1:-1] for part in text)


class _MessageError(Exception):
    """An error whose message is safe to write to a terminal."""

    def __init__(self, message: str) -> None:
        text = printable(" ".join(message.split()))
        super().__init__(text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}...")


class BundleError(_MessageError):
    """A bundle breaks a rule of docs/bundle.md; the message names the file or key and what was expected."""


class EngineError(_MessageError):
    """An engine is missing, does not support the request, or failed; the message says what to install or change."""
