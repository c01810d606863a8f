"""The fan-out: one frame to every sink, each on its own thread with a queue of two.

A slow sink loses its oldest waiting frame, a dead one is left alone; neither costs the show or another sink anything.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streaming.errors import ClosedError, ReaderGoneError, SinkError, explain
from streaming.output.frame_pool import FramePool
from streaming.output.pacing import Clock, SystemClock
from streaming.sinks.sink import Frame, Picture, Sink, StreamFormat

QUEUE_LENGTH = 2
_STUCK_S = 2.0  # a write that lasts longer is told: the sink may come round, and costs nobody else anything meanwhile
_RATE_S = 3.0  # over which a bit rate is taken: more than the two seconds between key frames


@dataclass(frozen=True)
class SinkStats:
    """How one sink is doing.

    Args:
        name: the sink's.
        state: in a few words, with the reason if it is dead.
        is_dead: whether it takes no frames because of an error.
        written: frames delivered.
        dropped: frames that were left out, by the queue or by the sink.
        errors: what went wrong so far.
        result: where the frames went.
        is_up: whether frames get there just now.
        bitrate: of what was sent in the last seconds, in bit/s; None where it is not known.
        reconnects: how often a stream was begun anew.
    """

    name: str
    state: str
    is_dead: bool
    written: int
    dropped: int
    errors: int
    result: str
    is_up: bool = True
    bitrate: int | None = None
    reconnects: int = 0


class SinkThread:
    """One sink with its thread and its queue.

    Args:
        sink: an opened sink, owned from now on.
        clock: tells for how long a write has been going on.
    """

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self.sink = sink
        self._clock = clock
        self._writing_since_s: float | None = None
        self.error: str | None = None
        self.is_reader_gone = False
        self.ready = threading.Event()  # the sink has started, or failed to
        self._queue: deque[Frame] = deque()
        self._wake = threading.Condition()
        self._ending: str | None = None  # None while the show is on, then "keep" or "discard"
        self._num_written = 0
        self._num_left_out = 0
        self._is_done = False
        self._sent: deque[tuple[float, int]] = deque()  # (when, how many bytes until then), of the last seconds
        # A daemon: a sink that hangs in a network call must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether the sink takes no more frames."""
        return self.error is not None or self.is_reader_gone or self._is_done

    def start(self) -> None:
        """Start the thread; if the system starts no more threads, the sink is discarded and `error` says so."""
        try:
            self._thread.start()
        except RuntimeError:
            self.error = f"sink {self.sink.name} cannot be opened: the system starts no more threads"
            self._attempt(self.sink.discard)
            self._is_done = True
            self.ready.set()

    def offer(self, frame: Frame) -> None:
        """Queue a frame without ever waiting; the oldest one makes room."""
        with self._wake:
            if self.is_over or self._ending:
                return
            if len(self._queue) == QUEUE_LENGTH:
                self._queue.popleft()
                self._num_left_out += 1
            self._queue.append(frame)
            self._wake.notify()

    def finish(self, *, keep: bool) -> None:
        """Ask the sink to write what is queued and to close; returns at once."""
        with self._wake:
            self._ending = "keep" if keep else "discard"
            self._wake.notify()

    def join(self, timeout_s: float | None) -> bool:
        """Wait until the sink has closed.

        Returns:
            False if it has not within `timeout_s` seconds.
        """
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def figures(self) -> SinkStats:
        """Return how the sink is doing."""
        if self.error is not None:
            state = f"dead: {self.error}"
        elif self.is_reader_gone:
            state = "the reader has left"
        elif self._is_done:
            state = "closed"
        else:
            state = self.sink.state() if self.ready.is_set() else "opening"
        since_s, stuck_s = self._writing_since_s, 0.0
        if since_s is not None and not self.is_over:
            stuck_s = self._clock.now() - since_s
        if stuck_s >= _STUCK_S:
            state = f"stuck for {stuck_s:.0f} s"
        is_up = self.ready.is_set() and not self.is_over and stuck_s < _STUCK_S and self.sink.is_up()
        is_dead = self.error is not None
        errors, result = self.sink.errors + is_dead, self.sink.result()
        lost = self.sink.lost
        counts = (self._num_written - lost, self._num_left_out + lost, errors)
        return SinkStats(self.sink.name, state, is_dead, *counts, result, is_up, self._bitrate(), self.sink.reconnects)

    def _bitrate(self) -> int | None:
        if (sent_bytes := self.sink.sent_bytes) is None:
            return None
        now_s = self._clock.now()
        self._sent.append((now_s, sent_bytes))
        while len(self._sent) > 2 and now_s - self._sent[1][0] >= _RATE_S:
            self._sent.popleft()
        since_s, first = self._sent[0]
        return round(8 * (sent_bytes - first) / (now_s - since_s)) if now_s > since_s else None

    def _run(self) -> None:
        is_sound = False
        try:
            self._attempt(self._serve)
            is_kept = self.ready.is_set() and self._ending != "discard"
            self._attempt(self.sink.close if is_kept else self.sink.discard)
            is_sound = True
        finally:
            if not is_sound:  # not a SinkError: a fault of ours, and Python prints its trace
                self.error = self.error or "it stopped by a fault of its own; the trace above says where"
            self._is_done = True
            self.ready.set()

    def _attempt(self, step: Callable[[], None]) -> None:
        """Run one step of the sink's life; of several errors the first is the one that is told."""
        try:
            step()
        except ReaderGoneError:
            self.is_reader_gone = True
        except ClosedError:
            pass  # it is closed next, and then it is over
        except SinkError as error:
            self.error = self.error or str(error)
        except (ImportError, MemoryError) as error:
            self.error = self.error or f"sink {self.sink.name} failed: {explain(error)}"

    def _serve(self) -> None:
        self.sink.start()
        self.ready.set()
        while (frame := self._take()) is not None:
            self._writing_since_s = self._clock.now()
            is_delivered = self.sink.write(frame)
            self._writing_since_s = None
            if is_delivered:
                self._num_written += 1
            else:
                with self._wake:
                    self._num_left_out += 1

    def _take(self) -> Frame | None:
        with self._wake:
            self._wake.wait_for(lambda: self._queue or self._ending)
            if self._queue and self._ending != "discard":
                return self._queue.popleft()
            return None


class FanOut:
    """All sinks of a show.

    Args:
        sinks: in the order in which they were asked for.
        clock: tells which of them are stuck.
    """

    def __init__(self, sinks: Sequence[Sink], clock: Clock | None = None) -> None:
        self.lanes: list[SinkThread] = []
        self._clock = clock or SystemClock()
        self._sinks = sinks
        self._pool = FramePool()
        self._last: Frame | None = None
        self._is_closed = False

    def open(self, feed: StreamFormat) -> None:
        """Open every sink and start its thread, or none.

        Raises:
            SinkError: one cannot be opened; those before it are closed again and nothing is left behind.
        """
        opened: list[Sink] = []
        try:
            for sink in self._sinks:
                sink.open(feed)
                opened.append(sink)
        except BaseException:
            for sink in opened:
                sink.discard()
            raise
        self.lanes = [SinkThread(sink, self._clock) for sink in opened]
        for lane in self.lanes:
            lane.start()

    def wait_ready(self) -> None:
        """Wait until every sink has started.

        Raises:
            SinkError: one has not; the caller then closes the fan-out with `keep=False`.
        """
        for lane in self.lanes:
            lane.ready.wait()
        for lane in self.lanes:
            if lane.error is not None:
                raise SinkError(lane.error)

    def put(self, picture: Picture, slot: int) -> None:
        """Give a frame to every sink that is alive, without waiting for any.

        Args:
            picture: uint8, as the feed says; copied once, so that it may change afterwards.
            slot: its place in the show.
        """
        self._last = Frame(self._pool.copy(picture), slot)
        for lane in self.lanes:
            lane.offer(self._last)

    def repeat(self, slot: int) -> None:
        """Give the last picture to every sink again; something must have been put.

        Args:
            slot: its new place in the show.
        """
        assert self._last is not None, "nothing has been shown yet"
        self._last = Frame(self._last.picture, slot)
        for lane in self.lanes:
            lane.offer(self._last)

    @property
    def is_reader_gone(self) -> bool:
        """Whether somebody who read a pipe has left, which ends the show."""
        return any(lane.is_reader_gone for lane in self.lanes)

    @property
    def is_dead(self) -> bool:
        """Whether no sink is left to show anything to."""
        return all(lane.is_over for lane in self.lanes)

    def figures(self) -> list[SinkStats]:
        """Return how each sink is doing."""
        return [lane.figures() for lane in self.lanes]

    def close(self, *, keep: bool = True) -> list[str]:
        """Close every sink at once and wait for each as long as it asks for; a second call does nothing.

        Args:
            keep: False to leave nothing behind.

        Returns:
            Names of the sinks that did not close in time and were left to themselves.
        """
        if self._is_closed:
            return []
        self._is_closed = True
        for lane in self.lanes:
            lane.finish(keep=keep)
        return [lane.sink.name for lane in self.lanes if not lane.join(lane.sink.close_s)]
