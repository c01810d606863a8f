"""Errors of sinks; other errors are `ValueError` or one of the runtime's two.

SinkError              a sink cannot be opened, or failed during the show
└── ReaderGoneError    the reader of a pipe has closed it: the show ends without an error
ClosedError            a user has closed a sink: it ends without an error, and the show continues
"""

from __future__ import annotations


class SinkError(Exception):
    """A sink failed; the message says what was got, what was expected and what to do, and contains no stream key."""


class ReaderGoneError(SinkError):
    """The other end of a pipe was closed, as `| head` does: the show ends with status 0."""


class ClosedError(Exception):
    """A user has closed a sink, e.g. its window; this is not an error."""


def explain(error: Exception) -> str:
    """Return one sentence about an error of the system.

    Args:
        error: MemoryError, ImportError, OSError, or Python's RuntimeError about threads; for others, `str(error)` is
            returned.
    """
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        return (
            "there is not enough memory, or there are too many threads: end other programs, or raise this process's "
            "limits (ulimit -v, ulimit -u)"
        )
    if isinstance(error, ImportError):
        return f"a library cannot be loaded ({error}): install it again, or give this process more memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error)
