"""The child process behind a live stream: frames on standard input -> H.264 and silence -> libavformat -> a URL.

python -m streaming.live.publisher_child      (started by `streaming.live.publisher`, which holds the other end)

Standard input is a line of JSON for each attempt to connect (`PublishJob`); the frames follow the one that succeeds,
up to the end of file: the slot's number in 8 bytes, then I420. Standard output is a line each: "ready" once everything
is loaded, then "on air" or the reason why not; about once a second "sent N", in bytes, and of HLS "kept N", in frames.
A stream that breaks is told as its reason, and ends the process with status 1.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EIO, ENETUNREACH, EPIPE, ETIMEDOUT
from fractions import Fraction
from io import BufferedReader
from math import ceil
from typing import TYPE_CHECKING

import av
import numpy as np

from streaming.live.ffmpeg_stream import FFmpegStream
from streaming.live.publisher import CONNECT_S, KEPT, ON_AIR, READY, SENT, SLOT, PublishJob
from streaming.sinks.sink import Frame

if TYPE_CHECKING:
    from streaming.live.whip_stream import WhipStream

_CLEAR = {ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, EPIPE, ETIMEDOUT}  # errors whose names say it all


def main() -> int:
    """Try to connect as often as standard input asks for it, and publish what comes then.

    Returns:
        The exit status: 0 after a stream that came to its end, else 1.
    """
    logging.getLogger("libav").addHandler(logging.NullHandler())  # what it says is told by `_reason`, or not at all
    av.logging.set_level(av.logging.ERROR)
    inlet = os.fdopen(0, "rb", closefd=False)
    _say(READY)
    for line in inlet:
        status = _publish(PublishJob(**json.loads(line)), inlet)
        if status is not None:
            return status
        gc.collect()  # what was refused leaves encoders behind that hold each other, and megabytes
    return 1


def _publish(job: PublishJob, inlet: BufferedReader) -> int | None:
    """Make one attempt, and see the stream through; return the exit status, None after a refusal."""
    with av.logging.Capture() as log:
        is_on_air = False
        try:
            stream = _connect(job)
            is_on_air = True
            _say(ON_AIR)
            told_every = ceil(Fraction(job.fps))
            for number, frame in enumerate(_frames(inlet, stream.shape), 1):
                stream.send(frame)
                if number % told_every == 0:
                    _say_figures(stream)
                log.clear()
            stream.close()
            _say_figures(stream)
        except (av.FFmpegError, OSError) as error:
            if is_on_air:
                _say_figures(stream)
            _say(_reason(error, log))
            return 1 if is_on_air else None
        return 0


def _connect(job: PublishJob) -> FFmpegStream | WhipStream:
    signal.alarm(ceil(CONNECT_S) + 1)  # nothing else ends an attempt that hangs, once nobody is left who would kill us
    try:
        if job.muxer == "whip":
            from streaming.live.whip_stream import WhipStream  # aiortc takes a while, and may not be installed

            return WhipStream(job)
        return FFmpegStream(job)
    finally:
        signal.alarm(0)


def _frames(inlet: BufferedReader, shape: tuple[int, int]) -> Iterator[Frame]:
    """Yield frames to the end of the file; each is valid until the next one is asked for."""
    picture = np.empty(shape, np.uint8)
    while len(head := inlet.read(SLOT.size)) == SLOT.size and inlet.readinto(picture.data) == picture.nbytes:
        yield Frame(picture, *SLOT.unpack(head))


def _say_figures(stream: FFmpegStream | WhipStream) -> None:
    _say(f"{SENT}{stream.sent_bytes}")
    if stream.num_kept is not None:
        _say(f"{KEPT}{stream.num_kept}")


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more, which the end of the file will tell
        os.write(1, " ".join(text.split()).encode() + b"\n")


def _reason(error: Exception, log: Sequence[tuple[int, str, str]]) -> str:
    """Say in one sentence what went wrong, from the system's name for it and what libavformat has logged."""
    name, number = getattr(error, "strerror", None) or str(error), getattr(error, "errno", None)
    told = [text for _, source, text in log if source != "tee"]  # which would repeat the URL
    if told and isinstance(error, av.FFmpegError) and number not in _CLEAR:
        return told[0]
    return f"the server has broken off ({name})" if number == EIO or isinstance(error, EOFError) else name


if __name__ == "__main__":
    sys.exit(main())
