"""Waits for a condition."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

WAIT_S = 30.0  # how long a test waits for something that takes milliseconds, before it calls it a failure
_LOOK_S = 0.01


def wait_until(is_true: Callable[[], Any], what: str = "the condition", timeout_s: float = WAIT_S) -> None:
    """Return when a condition is true.

    Raises:
        AssertionError: it is not within the time.
    """
    deadline_s = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline_s, f"{what} did not come true within {timeout_s:g} s"
        time.sleep(_LOOK_S)
