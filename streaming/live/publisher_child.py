"""The child process of a live stream: frames from the parent -> H.264 and sound -> a server or a folder.

python -m streaming.live.publisher_child      (started by `streaming.live.publisher`)

It receives a `PublishJob` for each attempt to connect, then frames: {"slot": N} with I420 data, and {"sound": BYTES} if
as many bytes of sound follow them. It sends
{"state": "ready"} when it has loaded, {"state": "on air"} or {"error": REASON} for each attempt, and about once a
second {"sent": BYTES}, for HLS with {"kept": FRAMES}. A stream that breaks ends the process with an error, status 1.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EIO, ENETUNREACH, EPIPE, ETIMEDOUT
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av

import streaming.live.ffmpeg_stream  # noqa: F401 - loaded before the first job arrives
from streaming.live.publisher import CONNECT_S, ON_AIR, READY, PublishJob, from_message
from streaming.process.child import ParentPipe

_CLEAR = {ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, EPIPE, ETIMEDOUT}  # errors with a sufficient name


def main() -> int:
    """Connect as often as the parent asks, and publish the frames that follow.

    Returns:
        The exit status: 0 after a stream that was ended by the parent, else 1.
    """
    logging.getLogger("libav").addHandler(logging.NullHandler())  # `_reason` reports its messages
    av.logging.set_level(av.logging.ERROR)
    parent = ParentPipe()
    _say(parent, {"state": READY})
    while (message := parent.receive()) is not None:
        status = _publish(PublishJob(**message[0]), parent)
        if status is not None:
            return status
        gc.collect()  # a refused attempt leaves encoders in reference cycles, which hold megabytes
    return 1


def _publish(job: PublishJob, parent: ParentPipe) -> int | None:
    """Make one attempt and publish until the end; return the exit status, None after a refusal."""
    with av.logging.Capture() as log:
        stream: Any = None
        try:
            stream = _connect(job)
            _say(parent, {"state": ON_AIR, **_counters(stream)})
            report_every = ceil(Fraction(job.fps))
            number = 0
            while (message := parent.receive()) is not None:
                stream.send(*from_message(*message, stream.shape))
                number += 1
                if number % report_every == 0:
                    _say(parent, _counters(stream))
                log.clear()
            stream.close()
            _say(parent, _counters(stream))
        except (av.FFmpegError, OSError) as error:
            counters = {} if stream is None else _counters(stream)
            _say(parent, {**counters, "error": " ".join(_reason(error, log).split())})
            return None if stream is None else 1
        return 0


def _connect(job: PublishJob) -> Any:
    """Make the job's stream, e.g. an `FFmpegStream`; end the process if that hangs."""
    module, _, name = job.stream.partition(":")
    with Path(os.devnull).open("w") as devnull:
        # A timer of Python would not do: PyAV holds Python's lock while it connects.
        faulthandler.dump_traceback_later(CONNECT_S + 1, exit=True, file=devnull)
        try:
            return getattr(importlib.import_module(module), name)(job)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _counters(stream: Any) -> dict[str, int]:
    return {"sent": stream.sent_bytes, **({} if stream.num_kept is None else {"kept": stream.num_kept})}


def _say(parent: ParentPipe, fields: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the parent has ended, which the end of its messages shows
        parent.send(fields)


def _reason(error: Exception, log: Sequence[tuple[int, str, str]]) -> str:
    """Return one sentence about an error, from its name and from libavformat's log."""
    name, number = getattr(error, "strerror", None) or str(error), getattr(error, "errno", None)
    logged = [text for _, source, text in log if source != "tee"]  # the tee muxer's messages contain the URL
    if logged and isinstance(error, av.FFmpegError) and number not in _CLEAR:
        return logged[0]
    return f"the server closed the connection ({name})" if number == EIO or isinstance(error, EOFError) else name


if __name__ == "__main__":
    sys.exit(main())
