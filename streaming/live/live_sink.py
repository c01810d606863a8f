"""A live stream to a server: encoded and sent by a child process, which reconnects when the network fails.

A subclass parses a protocol's address; everything else is here. No thread sleeps between attempts: the first frame
after the waiting time makes the next attempt.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from runtime.masking import mask
from streaming.errors import SinkError
from streaming.live.presets import PRESETS
from streaming.live.publisher import PublisherProcess, PublishJob
from streaming.output.pacing import Clock, SystemClock
from streaming.sinks.sink import Frame, Sink, StreamFormat
from streaming.sound.reader import SoundReader
from streaming.sound.timeline import Samples

FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 1.0
_SOUND_AHEAD_S = 0.06  # beyond a frame's end: an encoder and two muxers hold one packet each, of 21 ms
_STEADY_S = 30.0  # a connection that lasted this long resets the wait


@dataclass(frozen=True)
class StreamTarget:
    """Where a live stream goes, and in which format.

    Args:
        url: for libavformat.
        muxer: libavformat's name of the format, e.g. "flv".
        audio: codec of the audio track, which is silent unless the show has a sound.
        options: of the muxer and of the network protocol.
        secrets: what must not be shown; none may be empty.
        profile: of H.264; "baseline" is for browsers, and no preset changes it.
        stream: "module:Class" of what publishes it in the child process.
        close_s: how long the end of the stream may take, in seconds.
    """

    url: str = field(repr=False)
    muxer: str
    audio: str = "aac"
    options: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    profile: str = "high"
    stream: str = PublishJob.stream
    close_s: float = PublishJob.close_s


class Publisher(Protocol):
    """What can publish one uninterrupted stream; see `PublisherProcess`.

    Attributes:
        is_alive: whether it can connect, or is connected.
        sent_bytes: of video and audio so far.
        num_kept: how many of the frames are certainly stored; None if that cannot be known.
    """

    is_alive: bool
    sent_bytes: int
    num_kept: int | None

    def wait_ready(self) -> None:
        """Wait until it can connect without delay; raises OSError if it never can."""
        ...

    def connect(self) -> bool:
        """Begin to connect, or check on the attempt; return whether the stream is on air; raises OSError if refused."""
        ...

    def send(self, frame: Frame, sound: Samples | None = None) -> None:
        """Send a frame and its sound; raises OSError once the stream is lost."""
        ...

    def close(self) -> None:
        """End the stream and release everything; raises OSError if its end is lost."""
        ...


class LiveSink(Sink):
    """Publishes to a server until the show ends.

    Any attempt to connect may fail. The wait before the next one doubles from 0.25 s to 1 s, less a random part of up
    to half, so that many shows do not reconnect at the same moment. Each connection begins a new stream: time 0,
    headers, key frame.

    Args:
        spec: the value of --to.
        dial: makes a publisher, or raises OSError.
        clock: measures the waits.
        rng: draws the jitter.

    Raises:
        SinkError: the spec is not a valid address.
    """

    def __init__(
        self,
        spec: str,
        *,
        dial: Callable[[PublishJob], Publisher] = PublisherProcess,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.name = mask(spec)
        self._target = self.to_target(spec)
        self._dial = dial
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._publisher: Publisher | None = None
        self._is_on_air = False
        self._state = "not connected yet"
        self._last_error = ""
        self._wait_s = FIRST_WAIT_S
        self._next_attempt_s: float | None = None
        self._since_s = 0.0
        self._num_connections = 0
        self.sent_bytes: int = 0
        self._sent_before = 0  # by earlier publishers
        self._num_sent = 0  # frames, by this publisher
        self._sound: SoundReader | None = None

    @staticmethod
    @abstractmethod
    def to_target(spec: str) -> StreamTarget:
        """Parse the value of --to.

        Raises:
            SinkError: it is not a valid address. The message shows no secret.
        """

    def open(self, feed: StreamFormat) -> None:
        """Prepare the job; the server is not needed yet."""
        target, rules = self._target, PRESETS.get(feed.preset)
        self._job = PublishJob(
            target.url,
            target.muxer,
            feed.width,
            feed.height,
            str(feed.fps),
            target.audio,
            target.options,
            target.profile if rules is None or target.profile == "baseline" else rules.profile,
            None if rules is None else rules.bitrate(feed.height, feed.fps),
            None if rules is None else 1000 * rules.audio_kbits,
            feed.encoder,
            target.stream,
            target.close_s,
            feed.sound is not None,
            feed.chain,
        )
        if feed.sound is not None:
            self._sound = feed.sound.reader(feed.fps, ahead_s=_SOUND_AHEAD_S)

    def start(self) -> None:
        """Load the child process, which connects when there is a frame to send."""
        try:
            self._publisher = self._dial(self._job)
            self._publisher.wait_ready()
        except OSError as error:
            raise SinkError(
                f"sink {self.name} cannot start: {error}; check that PyAV is installed correctly"
            ) from error

    def write(self, frame: Frame) -> bool:
        """Send a frame if connected; otherwise connect if the wait is over."""
        try:
            if self._publisher is None:
                self._publisher = self._dial(self._job)  # it loads during the wait
            if not self._is_on_air and not self._connect(self._publisher):
                return False
            self._publisher.send(frame, None if self._sound is None else self._sound.read(frame.slot))
            self._num_sent += 1
            self.sent_bytes = self._sent_before + self._publisher.sent_bytes
        except OSError as error:
            self._postpone(error)
            return False
        return True

    def close(self) -> None:
        """End the stream; if its end is lost, that counts as an error."""
        if self._publisher is None:
            return
        try:
            self._publisher.close()
        except OSError as error:
            self.errors += 1
            self._last_error = self._to_reason(error)
            self._count_lost(self._publisher)

    def is_up(self) -> bool:
        """Return whether the stream is on air."""
        return self._is_on_air

    def state(self) -> str:
        """Return whether the stream is on air, or why not."""
        return self._state

    def result(self) -> str:
        """Return the number of connections and the last error."""
        count = f"{self._num_connections} connection{'' if self._num_connections == 1 else 's'}"
        return f"{count}, last error: {self._last_error}" if self._last_error else count

    def _connect(self, publisher: Publisher) -> bool:
        if self._next_attempt_s is not None and self._clock.now() < self._next_attempt_s:
            return False
        self._state = f"connecting again ({self._last_error})" if self._last_error else "connecting"
        if publisher.connect():
            self._is_on_air = True
            self._since_s = self._clock.now()
            self._num_connections += 1
            if self._sound is not None:
                self._sound.restart()
            self.reconnects = self._num_connections - 1
            self._state = "on air"
        return self._is_on_air

    def _postpone(self, error: OSError) -> None:
        reason = self._to_reason(error)
        # The same error again is not counted: a server that is down for an hour is one error.
        self.errors += self._is_on_air or reason != self._last_error
        if self._is_on_air and self._clock.now() - self._since_s >= _STEADY_S:
            self._wait_s = FIRST_WAIT_S
        self._is_on_air = False
        if self._publisher is not None and not self._publisher.is_alive:
            self._count_lost(self._publisher)
            self._publisher.close()
            self._publisher = None
            self._sent_before = self.sent_bytes
        wait_s = self._wait_s * (1 - self._rng.random() / 2)
        self._wait_s = min(LONGEST_WAIT_S, 2 * self._wait_s)
        self._next_attempt_s = self._clock.now() + wait_s
        self._last_error = reason
        self._state = f"no connection ({reason}), trying again in {wait_s:.1f} s"

    def _count_lost(self, publisher: Publisher) -> None:
        if publisher.num_kept is not None:
            self.lost += self._num_sent - publisher.num_kept
        self._num_sent = 0

    def _to_reason(self, error: OSError) -> str:
        reason = " ".join(str(error.strerror or error).split())
        for secret in sorted(self._target.secrets, key=len, reverse=True):  # one may contain another
            reason = reason.replace(secret, "***")
        return reason
