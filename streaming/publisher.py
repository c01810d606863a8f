"""The child process behind a live stream: frames on standard input -> H.264 and silence -> libavformat -> a URL.

python -m streaming.publisher      (started by `streaming.publishing`, which holds the other end)

Standard input is a line of JSON for each attempt to connect (see `Job`); behind the one that succeeds stand the frames,
up to the end of file: the slot's number in 8 bytes, then I420. Standard output is a line each: "ready" once everything
is loaded, then "on air" or the reason why not. A stream that breaks is told alike, and ends the process with status 1.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from errno import ECONNREFUSED, ECONNRESET, EHOSTUNREACH, EIO, ENETUNREACH, EPIPE, ETIMEDOUT
from fractions import Fraction
from io import BufferedReader
from math import ceil
from typing import Any

import av
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.format import Flags as FormatFlags

from streaming.h264 import KEY_INTERVAL_S, add_video, to_video_frame
from streaming.publishing import CONNECT_S, ON_AIR, READY, SLOT, Job
from streaming.sink import Feed, Frame
from streaming.timeline import open_timeline

_SAMPLE_RATE = 48_000
_BITS_PER_PIXEL = 0.12
_MIN_BITRATE, _MAX_BITRATE = 400_000, 6_000_000  # bit/s; services advise up to 6 Mbit/s for 1080p
_PRIMING = 3  # audio frames until the encoder has nothing but silence in it
_PACKETS_AHEAD = 2  # of silence: each of the two muxers keeps a picture until it has seen later sound
_CLEAR = {ECONNREFUSED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, EPIPE, ETIMEDOUT}  # errors whose names say it all


class Stream:
    """One unbroken stream that is on air; its time begins at 0 with the first frame, which is a key frame.

    Args:
        job: what to publish, and where.

    Raises:
        av.FFmpegError: the encoder, the network or the server did not do as they should.
        OSError: likewise.
    """

    def __init__(self, job: Job) -> None:
        self.shape = job.height * 3 // 2, job.width  # of a frame
        self._feed = feed = Feed("", job.width, job.height, Fraction(job.fps), "i420", dict)
        # The plain muxer would not take options of the network (PyAV 18); what the tee muxer is told, it hands on.
        # Packets come in the order of their time, and none has to wait for more than the one behind it.
        self._container = av.open(
            to_tee(job.url, {"f": job.muxer, "flush_packets": "1", **job.options}),
            "w",
            format="tee",
            container_options={"max_interleave_delta": "1"},
        )
        bitrate = round(min(max(_BITS_PER_PIXEL * feed.width * feed.height * feed.fps, _MIN_BITRATE), _MAX_BITRATE))
        options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "profile": "high",
            "bf": "0",
            "sc_threshold": "0",  # key frames when their time has come, and at no other
            "forced-idr": "1",
            "b": str(bitrate),
            "maxrate": str(bitrate),
            "bufsize": str(bitrate),
        }
        self._video = add_video(self._container, feed, options)
        self._video.codec_context.gop_size = 2**15  # key frames are asked for by the clock, below
        self._audio: Any = None
        if job.audio is not None:
            self._audio = self._container.add_stream(job.audio, rate=_SAMPLE_RATE, layout="stereo")
        if FormatFlags.global_header.value & av.format.ContainerFormat(job.muxer, "w").flags:  # the tee does not ask
            for stream in self._container.streams:
                stream.codec_context.flags |= CodecFlags.global_header.value
        self._container.start_encoding()
        if self._audio is not None:
            self._silence = _encode_silence(self._audio.codec_context)
        self._note = open_timeline()
        self._first: int | None = None
        self._key = 0
        self._num_audio = 0

    def send(self, frame: Frame) -> None:
        """Encode a frame and send it, with as much silence as reaches it.

        Args:
            frame: I420, later than the one before.

        Raises:
            av.FFmpegError: the connection is lost, or the encoder failed.
        """
        if self._first is None:
            self._first = self._key = frame.slot
        is_key = frame.slot == self._first or frame.slot - self._key >= ceil(KEY_INTERVAL_S * self._feed.fps)
        if is_key:
            self._key = frame.slot
        slot = frame.slot - self._first
        arrived_ns = time.monotonic_ns()
        packets = self._video.encode(to_video_frame(frame, self._feed, slot, is_key=is_key))
        encoded_ns = time.monotonic_ns()
        self._container.mux(packets)
        self._note(frame.slot, arrived_ns, encoded_ns)
        if self._audio is not None:
            self._send_silence_until(slot / self._feed.fps)

    def close(self) -> None:
        """Send what is still held, and take leave of the server.

        Raises:
            av.FFmpegError: the server did not wait for that.
        """
        self._container.close()

    def _send_silence_until(self, moment_s: Fraction) -> None:
        size = self._audio.codec_context.frame_size
        while (self._num_audio - _PACKETS_AHEAD) * Fraction(size, _SAMPLE_RATE) <= moment_s:
            packet = av.Packet(self._silence)
            packet.stream = self._audio
            packet.time_base = Fraction(1, _SAMPLE_RATE)
            packet.pts = packet.dts = self._num_audio * size
            packet.duration = size
            packet.is_keyframe = True
            self._container.mux(packet)
            self._num_audio += 1


def to_tee(url: str, options: Mapping[str, str]) -> str:
    """Write a URL and its options as the tee muxer reads them, which takes two layers of quoting off the options."""

    def quote(text: str) -> str:
        return re.sub(r"([\\'|:=\[\]\s])", r"\\\1", text)

    return quote(f"[{':'.join(f'{name}={quote(value)}' for name, value in options.items())}]") + quote(url)


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
        status = _publish(Job(**json.loads(line)), inlet)
        if status is not None:
            return status
        gc.collect()  # what was refused leaves encoders behind that hold each other, and megabytes
    return 1


def _publish(job: Job, inlet: BufferedReader) -> int | None:
    """Make one attempt, and see the stream through; return the exit status, None after a refusal."""
    with av.logging.Capture() as log:
        is_on_air = False
        try:
            stream = _connect(job)
            is_on_air = True
            _say(ON_AIR)
            for frame in _frames(inlet, stream.shape):
                stream.send(frame)
                log.clear()
            stream.close()
        except (av.FFmpegError, OSError) as error:
            _say(_reason(error, log))
            return 1 if is_on_air else None
        return 0


def _connect(job: Job) -> Stream:
    signal.alarm(ceil(CONNECT_S) + 1)  # nothing else ends an attempt that hangs, once nobody is left who would kill us
    try:
        return Stream(job)
    finally:
        signal.alarm(0)


def _frames(inlet: BufferedReader, shape: tuple[int, int]) -> Iterator[Frame]:
    """Yield frames to the end of the file; each is valid until the next one is asked for."""
    picture = np.empty(shape, np.uint8)
    while len(head := inlet.read(SLOT.size)) == SLOT.size and inlet.readinto(picture.data) == picture.nbytes:
        yield Frame(picture, *SLOT.unpack(head))


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more, which the end of the file will tell
        os.write(1, " ".join(text.split()).encode() + b"\n")


def _reason(error: Exception, log: Sequence[tuple[int, str, str]]) -> str:
    """Say in one sentence what went wrong, from the system's name for it and what libavformat has logged."""
    name, number = getattr(error, "strerror", None) or str(error), getattr(error, "errno", None)
    told = [text for _, source, text in log if source != "tee"]  # which would repeat the URL
    if told and number not in _CLEAR:
        return told[0]
    return f"the server has broken off ({name})" if number == EIO or isinstance(error, EOFError) else name


def _encode_silence(context: Any) -> bytes:
    """Encode silence once; every packet of it is the same."""
    packets: list[bytes] = []
    for index in range(_PRIMING + 2):
        sound = av.AudioFrame.from_ndarray(np.zeros((2, context.frame_size), np.float32), "fltp", "stereo")
        sound.sample_rate = _SAMPLE_RATE
        sound.pts = index * context.frame_size
        packets += [bytes(packet) for packet in context.encode(sound)]
    return packets[-1]


if __name__ == "__main__":
    sys.exit(main())
