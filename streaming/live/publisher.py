"""A live stream as seen from the show: a child process that encodes, connects and sends, and can be killed any time.

The child is `streaming.live.publisher_child`. libavformat does the network, but through PyAV it holds Python's lock
while it connects: in this process, a server that does not answer would stop the whole show.
"""

from __future__ import annotations

import json
import socket
import ssl
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path

from streaming.output.fan_out import QUEUE_LENGTH
from streaming.output.pacing import Clock, SystemClock
from streaming.process.children import command, environment
from streaming.sinks.sink import Frame

READY, ON_AIR, SENT, KEPT = "ready", "on air", "sent ", "kept "  # whatever else the child says is a reason why not
SLOT = struct.Struct(">Q")  # stands before each frame
CONNECT_S = 5.0  # for the server to agree to take the stream
_SEND_S = 5.0  # for the child to take one frame
_START_S = 30.0  # for the child to be loaded, on a machine that is busy
_PATIENCE_S = 0.25  # for one look at how an attempt goes, at most
_GOODBYE_S = 1.2
FILE_GOODBYE_S = 10.0  # for HLS: what is not written then is lost, and no server keeps us waiting
_ROOTS_OF_TRUST = (  # of Debian, Red Hat, SUSE, and of macOS and Alpine
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_FRAMES_UNDER_WAY = 2  # between the processes, where the system gives that much room


@dataclass(frozen=True)
class PublishJob:
    """What to publish, and where.

    Args:
        url: of the stream, with its key, which no text made from a job shows.
        muxer: libavformat's name of the form, e.g. "flv".
        width: of a frame in pixels, even.
        height: of a frame in pixels, even.
        fps: slots per second, as a fraction: "30000/1001".
        audio: codec of the silent sound track, e.g. "aac", or None for none.
        options: of the muxer and of the network protocol. What neither knows is an error.
        profile: of H.264.
        bitrate: of the picture in bit/s, constant; None for one that suits its size, which is a limit then.
        audio_bitrate: of the sound track in bit/s; None for the codec's own.
        encoder: a name of `streaming.live.encoders`.
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

    def to_line(self) -> bytes:
        """Return the line of JSON that the child reads."""
        return json.dumps(asdict(self)).encode() + b"\n"


def tls_options() -> dict[str, str]:
    """Return options by which libavformat believes no server without a good certificate; by itself it believes all.

    PyAV's copy of GnuTLS knows where Red Hat keeps the roots of trust, and no other system.
    """
    candidates = (ssl.get_default_verify_paths().cafile, *_ROOTS_OF_TRUST)
    found = next((path for path in candidates if path and Path(path).exists()), None)
    return {"tls_verify": "1", **({"ca_file": found} if found else {})}


class PublisherProcess:
    """A child process that can publish one unbroken stream; it is loaded while there is nothing to do for it yet.

    An attempt that was refused costs nothing but itself: the same child makes the next one. A stream that is lost, and
    an attempt without an answer, end the child.

    Args:
        job: what to publish.
        clock: measures how long the child and the server take.

    Attributes:
        is_alive: whether the child can be told to connect, or is connected.
        pid: the child's process id.
        sent_bytes: of picture and sound so far; up to a second old.
        num_kept: frames that lie in complete segments of HLS, up to a second old; None for other streams.

    Raises:
        OSError: the system starts no more processes.
    """

    def __init__(self, job: PublishJob, *, clock: Clock | None = None) -> None:
        self.is_alive = True
        self.sent_bytes = 0
        self.num_kept = 0 if job.muxer == "hls" else None
        self._job = job
        self._clock = clock or SystemClock()
        # A look may last as long as the frames behind find room in the sink's queue.
        self._patience_s = min(_PATIENCE_S, float(QUEUE_LENGTH / Fraction(job.fps)))
        self._is_ready = self._is_asked = self._is_on_air = False
        self._heard = b""
        self._socket, theirs = socket.socketpair()
        frame_bytes = SLOT.size + job.width * job.height * 3 // 2
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _FRAMES_UNDER_WAY * frame_bytes)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command("streaming.live.publisher_child"),
                    stdin=theirs.fileno(),  # whose end it reads once this process is gone, however it went
                    stdout=theirs.fileno(),
                    env=environment(),
                    start_new_session=True,  # Ctrl-C is for the show, which then ends the stream in peace
                )
        except BaseException:
            self._socket.close()
            raise
        self.pid = self._process.pid
        self._deadline_s = self._clock.now() + _START_S

    def wait_ready(self) -> None:
        """Wait until the child is loaded, so that the first frame meets no delay.

        Raises:
            OSError: it could not be loaded; it is not alive any more.
        """
        self._is_ready = self._is_ready or self._hear(_START_S) == READY

    def connect(self) -> bool:
        """Begin an attempt to connect, or see what has become of it; never waits for more than a few frames.

        Returns:
            Whether the stream is on.

        Raises:
            OSError: the attempt has failed, for the reason given, which may hold the key. If the link is still alive,
                the next call begins another one.
        """
        self._is_ready = self._is_ready or self._hear(self._patience_s) == READY
        if self._is_ready and not self._is_asked:
            self._is_asked = True
            self._deadline_s = self._clock.now() + CONNECT_S
            self._tell(self._job.to_line())
        word = self._hear(self._patience_s) if self._is_ready else None
        if word == ON_AIR:
            self._is_on_air = True
        elif word is not None:
            self._is_asked = False
            raise ConnectionError(word)
        elif self._clock.now() >= self._deadline_s:
            self.is_alive = False
            raise TimeoutError("no answer")
        return self._is_on_air

    def send(self, frame: Frame) -> None:
        """Send a frame; the stream is on.

        Args:
            frame: I420 of the job's size, later than the one before.

        Raises:
            OSError: the stream is lost, for the reason given, which may hold the key.
        """
        reason = self._hear(0)
        if reason is None:
            try:
                self._tell(SLOT.pack(frame.slot))
                self._tell(frame.picture.reshape(-1).data)
                return
            except TimeoutError:
                reason = "the network takes no more frames"
            except OSError:
                reason = self._hear(_SEND_S)
        self.is_alive = False
        raise ConnectionError(reason)

    def close(self) -> None:
        """Let a stream that is on come to its end, within 1.2 s (HLS: 10 s); then there is no child any more.

        Raises:
            OSError: the end of the stream is lost, for the reason given, which may hold the key.
        """
        reason = None
        if self._is_on_air and self.is_alive:
            try:
                self._socket.shutdown(socket.SHUT_WR)
                self._process.wait(FILE_GOODBYE_S if self._job.muxer == "hls" else _GOODBYE_S)
                reason = self._hear(0)
            except subprocess.TimeoutExpired:
                reason = "the end of the stream was not taken in time"
            except ConnectionAbortedError as error:  # it has ended, and had nothing to say
                reason = str(error) if self._process.returncode else None
            except OSError as error:
                reason = error.strerror or str(error)
        self.is_alive = False
        self._process.kill()
        self._process.wait()
        self._socket.close()
        if reason is not None:
            raise ConnectionError(reason)

    def _tell(self, data: bytes | memoryview) -> None:
        self._socket.settimeout(_SEND_S)  # for all of it
        self._socket.sendall(data)

    def _hear(self, wait_s: float) -> str | None:
        """Return the child's next line that is no figure, or None if there is none yet."""
        while (line := self._hear_line(wait_s)) is not None and line.startswith((SENT, KEPT)):
            if line.startswith(SENT):
                self.sent_bytes = int(line.removeprefix(SENT))
            else:
                self.num_kept = int(line.removeprefix(KEPT))
        return line

    def _hear_line(self, wait_s: float) -> str | None:
        self._socket.settimeout(wait_s)
        while b"\n" not in self._heard:
            try:
                data = self._socket.recv(4096)
            except (BlockingIOError, TimeoutError):
                return None
            except ConnectionResetError:  # it has left something unread
                data = b""
            if not data:
                self.is_alive = False
                raise ConnectionAbortedError("the process that sends the stream has ended")
            self._heard += data
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()
