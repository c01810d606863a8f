"""What the command lines of the export have in common."""

from __future__ import annotations

import re


def to_size(text: str) -> tuple[int, int]:
    """Read "WxH" in pixels.

    Raises:
        ValueError: it is not of that form.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", text)
    if match is None:
        raise ValueError(f"--size must be WxH in pixels, e.g. 640x360, got {text!r}")
    width, height = (int(part) for part in match.groups())
    return width, height


def to_list(text: str) -> tuple[str, ...]:
    """Read names with commas between, each once, in their order."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
