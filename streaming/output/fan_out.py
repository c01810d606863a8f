"""The fan-out: each frame goes to every sink, each with its own thread and a queue of two frames.

A slow or failed sink never affects the show or the others: if its queue is full, its oldest frame is dropped.
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
_STUCK_S = 2.0  # a write that takes longer is shown in the status; the sink may recover
_RATE_S = 3.0  # over which bit rates are averaged; more than the 2 s between key frames


@dataclass(frozen=True)
class SinkStats:
    """The statistics of one sink.

    Args:
        name: the sink's name.
        state: in a few words, with the reason if it has failed.
        is_dead: whether an error has ended it.
        written: frames delivered.
        dropped: frames dropped by the queue or by the sink.
        errors: number of errors so far.
        result: where the frames went.
        is_up: whether frames are being delivered.
        bitrate: over the last seconds, in bit/s; None if unknown.
        reconnects: how often a stream was begun again.
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
        sink: an opened sink; the thread owns it.
        clock: measures how long a write takes.
    """

    def __init__(self, sink: Sink, clock: Clock) -> None:
        self.sink = sink
        self._clock = clock
        self._writing_since_s: float | None = None
        self.error: str | None = None
        self.is_reader_gone = False
        self.ready = threading.Event()  # the sink has started or failed
        self._queue: deque[Frame] = deque()
        self._wake = threading.Condition()
        self._ending: str | None = None  # None during the show, then "keep" or "discard"
        self._num_written = 0
        self._num_left_out = 0
        self._is_done = False
        self._sent: deque[tuple[float, int]] = deque()  # (time, bytes sent until then) of the last seconds
        # A daemon, so that a sink that hangs in a network call does not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether the sink takes no more frames."""
        return self.error is not None or self.is_reader_gone or self._is_done

    def start(self) -> None:
        """Start the thread; if the system starts no more threads, discard the sink and set `error`."""
        try:
            self._thread.start()
        except RuntimeError:
            self.error = f"sink {self.sink.name} cannot be opened: the system starts no more threads"
            self._attempt(self.sink.discard)
            self._is_done = True
            self.ready.set()

    def offer(self, frame: Frame) -> None:
        """Queue a frame without waiting; if the queue is full, drop the oldest one."""
        with self._wake:
            if self.is_over or self._ending:
                return
            if len(self._queue) == QUEUE_LENGTH:
                self._queue.popleft()
                self._num_left_out += 1
            self._queue.append(frame)
            self._wake.notify()

    def finish(self, *, keep: bool) -> None:
        """Ask the sink to write the queued frames and close; return at once."""
        with self._wake:
            self._ending = "keep" if keep else "discard"
            self._wake.notify()

    def join(self, timeout_s: float | None) -> bool:
        """Wait until the sink has closed.

        Returns:
            False if it has not closed within `timeout_s` seconds.
        """
        if self._thread.ident is not None:
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def stats(self) -> SinkStats:
        """Return the sink's statistics."""
        if self.error is not None:
            state = f"dead: {self.error}"
        elif self.is_reader_gone:
            state = "the reader closed the pipe"
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
        has_succeeded = False
        try:
            self._attempt(self._serve)
            is_kept = self.ready.is_set() and self._ending != "discard"
            self._attempt(self.sink.close if is_kept else self.sink.discard)
            has_succeeded = True
        finally:
            if not has_succeeded:  # another error than SinkError: Python prints its traceback
                self.error = self.error or "internal error; see the traceback above"
            self._is_done = True
            self.ready.set()

    def _attempt(self, step: Callable[[], None]) -> None:
        """Run one step of the sink; only the first error is kept."""
        try:
            step()
        except ReaderGoneError:
            self.is_reader_gone = True
        except ClosedError:
            pass  # `close` is called next
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
        sinks: not opened yet.
        clock: measures how long their writes take.
    """

    def __init__(self, sinks: Sequence[Sink], clock: Clock | None = None) -> None:
        self.threads: list[SinkThread] = []
        self._clock = clock or SystemClock()
        self._sinks = sinks
        self._pool = FramePool()
        self._last: Frame | None = None
        self._is_closed = False

    def open(self, feed: StreamFormat) -> None:
        """Open every sink and start its thread, or none.

        Raises:
            SinkError: one cannot be opened; the others are discarded.
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
        self.threads = [SinkThread(sink, self._clock) for sink in opened]
        for thread in self.threads:
            thread.start()

    def wait_ready(self) -> None:
        """Wait until every sink has started.

        Raises:
            SinkError: one has failed; the caller then closes the fan-out with `keep=False`.
        """
        for thread in self.threads:
            thread.ready.wait()
        for thread in self.threads:
            if thread.error is not None:
                raise SinkError(thread.error)

    def put(self, picture: Picture, slot: int) -> None:
        """Queue a frame at every sink, without waiting.

        Args:
            picture: uint8, in the format of the show; copied, so that it may change afterwards.
            slot: its position in the show.
        """
        self._last = Frame(self._pool.copy(picture), slot)
        for thread in self.threads:
            thread.offer(self._last)

    def repeat(self, slot: int) -> None:
        """Queue the last frame again at every sink, after at least one `put`.

        Args:
            slot: its new position in the show.
        """
        assert self._last is not None, "no frame has been put yet"
        self._last = Frame(self._last.picture, slot)
        for thread in self.threads:
            thread.offer(self._last)

    @property
    def is_reader_gone(self) -> bool:
        """Whether the reader of a pipe has closed it, which ends the show."""
        return any(thread.is_reader_gone for thread in self.threads)

    @property
    def is_dead(self) -> bool:
        """Whether no sink takes frames any more."""
        return all(thread.is_over for thread in self.threads)

    def stats(self) -> list[SinkStats]:
        """Return the statistics of each sink."""
        return [thread.stats() for thread in self.threads]

    def close(self, *, keep: bool = True) -> list[str]:
        """Close all sinks concurrently and wait for each as long as its `close_s`; a second call does nothing.

        Args:
            keep: False discards the output.

        Returns:
            Names of the sinks that did not close in time and were abandoned.
        """
        if self._is_closed:
            return []
        self._is_closed = True
        for thread in self.threads:
            thread.finish(keep=keep)
        return [thread.sink.name for thread in self.threads if not thread.join(thread.sink.close_s)]
