"""A live stream over RTMP: encoded here, sent to a streaming service, and taken up again whenever the network fails.

No thread sleeps between attempts: the next frame after the waiting time makes the next attempt.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from streaming.errors import SinkError
from streaming.pacing import Clock, SystemClock
from streaming.rtmp_link import Address, RtmpLink
from streaming.sink import Feed, Frame, Sink
from streaming.sinks import mask

if TYPE_CHECKING:  # the encoder is loaded while the engine compiles
    from streaming.flv import FlvEncoder

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
_STEADY_S = 30.0  # a connection that lived this long was a good one: the next wait is short again


class Link(Protocol):
    """A connection that takes FLV tags; `RtmpLink` is one."""

    def send(self, kind: int, timestamp_ms: int, payload: bytes) -> None:
        """Send a tag; raises OSError once the connection is lost."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class RtmpSink(Sink):
    """Publishes to an RTMP server, for as long as the show lasts.

    The first attempt and every later one may fail: the wait doubles up to 30 s, and up to half of it is taken off at
    random, so that a thousand shows do not come back in the same second. Each connection begins a new stream: time 0,
    headers, key frame.

    Args:
        spec: "rtmp://HOST[:PORT]/APP/KEY", or rtmps.
        dial: makes a connection or raises OSError.
        clock: measures the waits.
        rng: draws the jitter.
    """

    def __init__(
        self,
        spec: str,
        *,
        dial: Callable[[Address], Link] = RtmpLink,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = mask(spec)
        self._address = Address.parse(spec)
        self._dial = dial
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._link: Link | None = None
        self._encoder: FlvEncoder | None = None
        self._state = "not connected yet"
        self._trouble = ""
        self._wait_s = FIRST_WAIT_S
        self._next_attempt_s: float | None = None
        self._since_s = 0.0
        self._num_connections = 0

    def open(self, feed: Feed) -> None:
        """Nothing to claim: the server may come and go."""
        self._feed = feed

    def start(self) -> None:
        """Load the encoder."""
        import streaming.flv  # noqa: F401

    def write(self, frame: Frame) -> bool:
        """Send a frame, connecting first where that is due."""
        import av

        from streaming.flv import FlvEncoder

        if self._link is None and not self._connect():
            return False
        assert self._link is not None
        try:
            if self._encoder is None:
                self._encoder = FlvEncoder(self._feed)
            tags = self._encoder.encode(frame)
        except av.FFmpegError as error:
            raise SinkError(f"sink {self.name} failed: the encoder says {error.strerror}") from error
        try:
            for tag in tags:
                self._link.send(tag.kind, tag.timestamp_ms, tag.payload)
        except OSError as error:
            self._hang_up(error)
            return False
        return True

    def close(self) -> None:
        """Take leave of the server."""
        if self._link is not None:
            self._link.close()

    def state(self) -> str:
        """Return whether the stream is on, or why not."""
        return self._state

    def result(self) -> str:
        """Return how often the stream had to be begun, and what went wrong last."""
        count = f"{self._num_connections} connection{'' if self._num_connections == 1 else 's'}"
        return f"{count}, last trouble: {self._trouble}" if self._trouble else count

    def _connect(self) -> bool:
        if self._next_attempt_s is not None and self._clock.now() < self._next_attempt_s:
            return False
        try:
            self._link = self._dial(self._address)
        except OSError as error:
            self._postpone(error)
            return False
        self._since_s = self._clock.now()
        self._num_connections += 1
        self._state = "on air"
        return True

    def _hang_up(self, error: OSError) -> None:
        assert self._link is not None
        self._link.close()
        self._link = self._encoder = None
        if self._clock.now() - self._since_s >= _STEADY_S:
            self._wait_s = FIRST_WAIT_S
        self._postpone(error)

    def _postpone(self, error: OSError) -> None:
        wait_s = self._wait_s * (1 - self._rng.random() / 2)
        self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s)
        self._next_attempt_s = self._clock.now() + wait_s
        self.errors += 1
        reason = " ".join(str(error.strerror or error).split())
        for secret in (self._address.key, self._address.key.partition("?")[0]):
            reason = reason.replace(secret, "***")
        self._trouble = reason
        self._state = f"no connection ({reason}), trying again in {wait_s:.1f} s"
