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
