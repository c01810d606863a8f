"""What can go wrong with a sink; everything else is `ValueError` or one of the runtime's two errors.

SinkError              a sink cannot be opened, or failed while the show was on
└── ReaderGoneError    the one who read a sink has left on purpose: the show ends, and nothing is wrong
ClosedError            somebody has closed a sink: it ends, the show goes on for the others, and nothing is wrong
"""

from __future__ import annotations


class SinkError(Exception):
    """A sink failed; the message says what was got, what was expected and what to do, and holds no stream key."""


class ReaderGoneError(SinkError):
    """The other end of a pipe was closed, as `| head` does: the show ends quietly with status 0."""


class ClosedError(Exception):
    """Whoever looked at a sink has closed it: it is over, and nothing went wrong."""


def explain(error: Exception) -> str:
    """Say in one sentence what the system refused.

    Args:
        error: MemoryError, ImportError, OSError, or Python's RuntimeError about threads; of any other, its own text is
            returned.
    """
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        return (
            "there is not enough memory, or no room for another thread: end other programs, or raise this process's "
            "limits (ulimit -v, ulimit -u)"
        )
    if isinstance(error, ImportError):
        return f"a library cannot be loaded ({error}): install it again, or give this process more memory"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error)
