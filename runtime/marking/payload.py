"""The payload of a mark: a number of 48 bits, written as 12 hexadecimal digits."""

from __future__ import annotations

import os
import re

BITS = 48
_DIGITS = BITS // 4


def new_payload() -> int:
    """Return a random payload, [0, 2**48)."""
    return int.from_bytes(os.urandom(BITS // 8), "big")


def check_payload(payload: int) -> int:
    """Return a payload as a plain int.

    Raises:
        ValueError: it is not a whole number in [0, 2**48).
    """
    if isinstance(payload, bool) or not isinstance(payload, int) or not 0 <= payload < 2**BITS:
        raise ValueError(f"the payload of a mark must be a whole number from 0 to 2**{BITS} - 1, got {payload!r}")
    return payload


def format_payload(payload: int) -> str:
    """Return a payload as 12 lower-case hexadecimal digits.

    Raises:
        ValueError: it is not a whole number in [0, 2**48).
    """
    return f"{check_payload(payload):0{_DIGITS}x}"


def parse_payload(text: str) -> int:
    """Return the payload of 12 hexadecimal digits, [0, 2**48).

    Raises:
        ValueError: the text is anything else.
    """
    if re.fullmatch(f"[0-9A-Fa-f]{{{_DIGITS}}}", text) is None:
        raise ValueError(f"the payload of a mark is {_DIGITS} hexadecimal digits, e.g. 00c0ffee1234, got {text!r}")
    return int(text, 16)
