"""The show: makes, paces and delivers frames to the sinks until its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from typing import Any

from streaming.output.delivery import Delivery
from streaming.output.fan_out import FanOut
from streaming.output.frame_repeater import FrameRepeater
from streaming.output.pacing import Clock, Pacer
from streaming.show.stats import FrameTimes, ShowStats
from streaming.sinks.sink import Picture

_REFRESH_S = 0.25
_MAX_DELAY = 0.08  # of an interval, by which a frame may be begun later than possible
_RECENT = 30  # frames; the slowest of them limits the delay


class ShowEnd(Enum):
    """Why a show ended."""

    TIME_IS_UP = "time is up"
    INTERRUPTED = "interrupted"
    READER_GONE = "the reader of the pipe has left"
    ALL_DEAD = "no sink is left"


class Show:
    """One run from the first frame to the last, with its statistics.

    Args:
        fan_out: the sinks.
        pacer: gives frames their slots.
        clock: the pacer's clock.
        filler: repeats frames while no new one comes; None for none.
    """

    def __init__(self, fan_out: FanOut, pacer: Pacer, clock: Clock, filler: FrameRepeater | None = None) -> None:
        self.first_frame_s: float | None = None
        self.engine = "starting"
        self.link_ms: Mapping[str, float] = {}
        self.repeated = 0  # frames, because the live input was nearly still
        self.mark = "none"  # what frames carry, as text
        self._fan_out = fan_out
        self._pacer = pacer
        self._clock = clock
        self._filler = filler
        self._put = fan_out.put if filler is None else filler.put
        self._delivery: Delivery | None = None  # while frames are made ahead
        self._times = FrameTimes(pacer.fps)
        self._recent_s: deque[float] = deque(maxlen=_RECENT)
        self._latest: Mapping[str, Any] = {
            "engine": self.engine,
            "links": [],
            "mark": self.mark,
            **self.stats().to_json(),
        }

    def latest(self) -> Mapping[str, Any]:
        """Return the statistics, at most a quarter of a second old, ready for JSON; callable from any thread.

        `times_ms` are the engine's milliseconds for each frame since the previous update.
        """
        return self._latest

    def run(
        self,
        frames: Iterator[Picture],
        *,
        num_slots: int | None = None,
        is_stopped: Callable[[], bool] = lambda: False,
        on_refresh: Callable[[ShowStats], None] | None = None,
    ) -> ShowEnd:
        """Show frames.

        Args:
            frames: uint8 arrays as the `StreamFormat` says, each valid until the next is requested.
            num_slots: length of the show in slots; None for no end.
            is_stopped: called between frames and while waiting; true ends the show.
            on_refresh: called about four times a second with the latest statistics.

        Returns:
            Why it ended.
        """
        if self._filler is not None:
            self._filler.start()
        try:
            return self._run(frames, num_slots, is_stopped, on_refresh)
        finally:
            if self._delivery is not None:
                self._delivery.close()
            if self._filler is not None:
                self._filler.close()

    def _run(
        self,
        frames: Iterator[Picture],
        num_slots: int | None,
        is_stopped: Callable[[], bool],
        on_refresh: Callable[[ShowStats], None] | None,
    ) -> ShowEnd:
        def is_over() -> bool:
            return is_stopped() or self._fan_out.is_reader_gone or self._fan_out.is_dead

        refresh_s, num_reported = self._clock.now(), 0
        while not is_over():
            self._delay()
            began_s = self._clock.now()
            picture = next(frames)
            took_s = self._clock.now() - began_s
            slot = self._pacer.pace(is_over)
            if is_over():
                break
            if num_slots is not None and slot >= num_slots:
                return ShowEnd.TIME_IS_UP
            self._pass_on(picture, slot)
            now_s = self._clock.now()
            if self.first_frame_s is None:
                self.first_frame_s = now_s
            self._times.add(took_s, now_s)
            self._recent_s.append(took_s)
            if now_s >= refresh_s:
                refresh_s = now_s + _REFRESH_S
                stats = self.stats()
                times, num_reported = self._times.last(self._times.num - num_reported), self._times.num
                about = {"engine": self.engine, "links": self._links(), "mark": self.mark}
                self._latest = {**about, **stats.to_json(), "times_ms": times}
                if on_refresh is not None:
                    on_refresh(stats)
            if num_slots is not None and slot + 1 >= num_slots:
                return ShowEnd.TIME_IS_UP
        if self._fan_out.is_reader_gone:
            return ShowEnd.READER_GONE
        return ShowEnd.INTERRUPTED if is_stopped() else ShowEnd.ALL_DEAD

    def _links(self) -> list[dict[str, Any]]:
        return [{"name": name, "ms": round(ms, 2)} for name, ms in self.link_ms.items()]

    def _pass_on(self, picture: Picture, slot: int) -> None:
        if self._pacer.num_ahead == 0:
            self._put(picture, slot)
            return
        if self._delivery is None:
            self._delivery = Delivery(self._put, self._pacer, self._clock)
        self._delivery.put(picture, slot)

    def _delay(self) -> None:
        """Begin a frame a little later if there is time, so that it uses the latest values of the controls.

        A control that is set right after a frame was begun affects only the next one, which is delivered two intervals
        later. Half an interval is kept in reserve for frames that are slower than the recent ones.
        """
        if self._recent_s and not self._pacer.num_ahead:
            interval_s = float(1 / self._pacer.fps)
            delay_s = min(_MAX_DELAY * interval_s, interval_s / 2 - max(self._recent_s))
            self._clock.sleep_until(float(self._pacer.deadline(self._pacer.next_slot - 1)) + delay_s)

    def stats(self, *, of_all: bool = False) -> ShowStats:
        """Return the current statistics.

        Args:
            of_all: over the whole show, not over the last ten seconds.
        """
        timing = self._times.total() if of_all else self._times.recent()
        pacer = self._pacer
        return ShowStats(
            self._times.num,
            self._times.seconds,
            timing,
            pacer.num_late,
            pacer.num_dropped,
            self._fan_out.stats(),
            0 if self._filler is None else self._filler.num_filled,
        )
