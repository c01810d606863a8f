"""A live stream as the show sees it: a child process that encodes, connects and sends, and that can be killed any time.

The child is `streaming.live.publisher_child`. libavformat does the networking, but PyAV holds Python's lock while it
connects: in the show's own process, a server that does not answer would stop the show.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from streaming.output.fan_out import QUEUE_LENGTH
from streaming.output.pacing import Clock, SystemClock
from streaming.process.child import ChildProcess
from streaming.sinks.sink import Frame
from streaming.sound.timeline import Samples, to_samples

READY, ON_AIR = "ready", "on air"  # states that the child reports
CONNECT_S = 5.0  # for the server to accept the stream
_SEND_S = 5.0  # for the child to take a frame
_START_S = 30.0  # for the child to load, on a busy machine
_POLL_S = 0.25  # the longest that one call of `connect` waits
_ROOT_CERTIFICATES = (  # of Debian, Red Hat, SUSE, and of macOS and Alpine
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


@dataclass(frozen=True)
class PublishJob:
    """What to publish, and where.

    Args:
        url: of the stream, with its key, which the job's repr leaves out.
        muxer: libavformat's name of the format, e.g. "flv".
        width: of a frame in pixels, even.
        height: of a frame in pixels, even.
        fps: slots per second, as a fraction: "30000/1001".
        audio: codec of the audio track, e.g. "aac", or None for no audio.
        options: of the muxer and of the network protocol. An unknown option is an error.
        profile: of H.264.
        bitrate: of the video in bit/s, constant; None for a variable one with a limit that suits the frame size.
        audio_bitrate: in bit/s; None for the codec's default.
        encoder: a name of `streaming.live.encoders`.
        stream: "module:Class" of what publishes it in the child, e.g. `streaming.live.ffmpeg_stream:FFmpegStream`.
        close_s: how long the end of the stream may take, in seconds.
        has_sound: whether sound comes with the frames; otherwise the audio track is silent.
        chain: the first line of a chain of segments, of streams that write segments; "" for none.
    """

    url: str = field(repr=False)
    muxer: str
    width: int
    height: int
    fps: str
    audio: str | None = None
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    profile: str = "high"
    bitrate: int | None = None
    audio_bitrate: int | None = None
    encoder: str = "x264"
    stream: str = "streaming.live.ffmpeg_stream:FFmpegStream"
    close_s: float = 1.2
    has_sound: bool = False
    chain: str = ""


def tls_options() -> dict[str, str]:
    """Return options that make libavformat check the server's certificate; by default it accepts any.

    PyAV's copy of GnuTLS finds the root certificates on Red Hat only.
    """
    candidates = (ssl.get_default_verify_paths().cafile, *_ROOT_CERTIFICATES)
    found = next((path for path in candidates if path and Path(path).exists()), None)
    return {"tls_verify": "1", **({"ca_file": found} if found else {})}


def to_message(frame: Frame, sound: Samples | None) -> tuple[Any, ...]:
    """Return a frame and its sound as a message to a child process; `from_message` reads it."""
    fields, picture = {"slot": frame.slot}, frame.picture.reshape(-1).data
    if sound is None or not len(sound):
        return fields, picture
    data = np.ascontiguousarray(sound).reshape(-1).view(np.uint8).data
    return {**fields, "sound": len(data)}, picture, data


def from_message(fields: Mapping[str, Any], data: Any, shape: tuple[int, int]) -> tuple[Frame, Samples]:
    """Return the frame and the sound of a message; views of its data.

    Args:
        fields, data: the message.
        shape: of the frame.
    """
    whole = np.frombuffer(data, np.uint8)
    num = len(whole) - fields.get("sound", 0)
    return Frame(whole[:num].reshape(shape), fields["slot"]), to_samples(whole[num:])


class PublisherProcess:
    """A child process that can publish one uninterrupted stream; it loads before there is anything to send.

    After a refusal the same child can connect again. A lost stream, and an attempt without an answer, end the child.

    Args:
        job: what to publish.
        clock: measures how long the child and the server take.

    Attributes:
        is_alive: whether the child can connect, or is connected.
        pid: the child's process id.
        sent_bytes: of video and audio so far; up to a second old.
        num_kept: frames in complete segments of HLS, up to a second old; None for other streams.

    Raises:
        OSError: the system starts no more processes.
    """

    def __init__(self, job: PublishJob, *, clock: Clock | None = None) -> None:
        self.is_alive = True
        self.sent_bytes = 0
        self.num_kept: int | None = None
        self._job = job
        self._clock = clock or SystemClock()
        # The frames that arrive during one call must fit into the sink's queue.
        self._poll_s = min(_POLL_S, float(QUEUE_LENGTH / Fraction(job.fps)))
        self._is_ready = self._is_asked = self._is_on_air = False
        self._child = ChildProcess("streaming.live.publisher_child")
        self.pid = self._child.pid
        self._deadline_s = self._clock.now() + _START_S

    def wait_ready(self) -> None:
        """Wait until the child has loaded, so that the first frame is not delayed.

        Raises:
            OSError: it failed to load and is not alive any more.
        """
        self._is_ready = self._is_ready or self._is_state(READY, _START_S)

    def connect(self) -> bool:
        """Begin to connect, or check on the attempt; waits for the duration of two frames at most.

        Returns:
            Whether the stream is on air.

        Raises:
            OSError: the attempt failed; the reason may contain the key. If the child is still alive, the next call
                begins another attempt.
        """
        self._is_ready = self._is_ready or self._is_state(READY, self._poll_s)
        if self._is_ready and not self._is_asked:
            self._is_asked = True
            self._deadline_s = self._clock.now() + CONNECT_S
            self._child.send(asdict(self._job))
        if self._is_ready and not self._is_on_air:
            try:
                self._is_on_air = self._is_state(ON_AIR, self._poll_s)
            except ConnectionRefusedError:
                self._is_asked = False
                raise
        if not self._is_on_air and self._clock.now() >= self._deadline_s:
            self.is_alive = False
            raise TimeoutError("no answer")
        return self._is_on_air

    def send(self, frame: Frame, sound: Samples | None = None) -> None:
        """Send a frame; the stream must be on air.

        Args:
            frame: I420 of the job's size, later than the one before.
            sound: of a job with sound, int16 (n, 2): what follows that of the frame before.

        Raises:
            OSError: the stream is lost; the reason may contain the key.
        """
        reason = self._read_error(0)
        if reason is None:
            try:
                self._child.send(*to_message(frame, sound), timeout_s=_SEND_S)
                return
            except TimeoutError:
                reason = "the network takes no more frames"
            except OSError:
                reason = self._read_error(_SEND_S)
        self.is_alive = False
        raise ConnectionError(reason)

    def close(self) -> None:
        """End the stream within the job's `close_s`, then the child.

        Raises:
            OSError: the end of the stream is lost; the reason may contain the key.
        """
        reason = None
        if self._is_on_air and self.is_alive:
            self._child.finish()
            status = self._child.wait(self._job.close_s)
            try:
                reason = "the end of the stream was not sent in time" if status is None else self._read_error(None)
            except ConnectionAbortedError as error:  # it has ended without an error message
                reason = str(error) if status else None
        self.is_alive = False
        self._child.close()
        if reason is not None:
            raise ConnectionError(reason)

    def _is_state(self, state: str, wait_s: float) -> bool:
        """Return whether the child reports a state within some seconds; raise ConnectionRefusedError on an error."""
        message = self._receive(wait_s)
        if message is not None and "error" in message:
            raise ConnectionRefusedError(message["error"])
        return message is not None and message.get("state") == state

    def _read_error(self, wait_s: float | None) -> str | None:
        message = self._receive(wait_s)
        return None if message is None else message.get("error")

    def _receive(self, wait_s: float | None) -> dict[str, Any] | None:
        """Return the child's next message that is not just its counters; None if there is none in time."""
        try:
            while (message := self._child.receive(wait_s)) is not None:
                fields, _ = message
                self.sent_bytes = fields.get("sent", self.sent_bytes)
                self.num_kept = fields.get("kept", self.num_kept)
                if "state" in fields or "error" in fields:
                    return fields
        except ConnectionAbortedError as error:
            self.is_alive = False
            raise ConnectionAbortedError("the process that sends the stream has ended") from error
        return None
