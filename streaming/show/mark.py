"""The mark of a show: which payload its frames carry, and how that is told."""

from __future__ import annotations

from runtime.marking.payload import format_payload, new_payload

RELIABLE_SIDE = 256  # pixels of the shorter side from which a mark is read after a codec, see docs/verify.md


def show_mark(*, no_mark: bool, payload: int | None) -> int | None:
    """Return the payload of a show: the given one, else a random one; None with `no_mark`."""
    if no_mark:
        return None
    return new_payload() if payload is None else payload


def to_text(mark: int | None) -> str:
    """Return a payload as the summary and the page's API show it: 12 hexadecimal digits, or "none"."""
    return "none" if mark is None else format_payload(mark)


def to_invitation(mark: int | None, width: int, height: int) -> str:
    """Return the line of the show's beginning.

    Args:
        mark: payload; None for no mark.
        width, height: of the frames in pixels.
    """
    if mark is None:
        return "mark: none (--no-mark): nobody can tell from the frames that they are generated"
    text = f"mark: {format_payload(mark)}, in every frame"
    if min(width, height) < RELIABLE_SIDE:
        least = f"{RELIABLE_SIDE} x {RELIABLE_SIDE}"
        return f"{text}; {width} x {height} is too small to read it reliably, which takes {least}"
    return f"{text}; everframe verify reads it from recordings and streams"
