"""Errors of sinks; all others are `ValueError` or one of the runtime's two errors.

SinkError              a sink cannot be opened, or failed during the show
└── ReaderGoneError    the reader of a pipe has closed it: the show ends with status 0
ClosedError            the user has closed a sink: it ends, the others go on; not an error
"""

from __future__ import annotations


class SinkError(Exception):
    """A sink failed; the message never holds a stream key."""


class ReaderGoneError(SinkError):
    """The other end of a pipe was closed, as `| head` does: the show ends with status 0."""


class ClosedError(Exception):
    """The user has closed a sink; not an error."""


def explain(error: Exception) -> str:
    """Return an error in one sentence.

    Args:
        error: MemoryError, ImportError, OSError, or Python's RuntimeError about threads get a sentence of their own;
            of any other, its own text is returned.
    """
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        return (
            "there is not enough memory, or no room for another thread: close other programs, or raise this process's "
            "limits (ulimit -v, ulimit -u)"
        )
    if isinstance(error, ImportError):
        return f"a library cannot be loaded ({error}): install it again, or give this process more memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error)
