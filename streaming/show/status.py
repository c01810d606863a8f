"""The status output on standard error: a status line, messages, and a summary at the end.

With --log json each is a line of JSON: {"time": ..., "event": "news" or "figures", ...}.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from streaming.output.pacing import Clock
from streaming.show.stats import ShowStats

_LOG_INTERVAL_S = 5.0


class StatusLine:
    """Writes the status: on a terminal one line that is rewritten, elsewhere a line every five seconds.

    Args:
        stream: where to write.
        clock: measures the five seconds.
        as_json: whether each line is JSON.
        today: returns the time for the lines of JSON.
    """

    def __init__(
        self,
        stream: TextIO,
        clock: Clock,
        *,
        as_json: bool = False,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._as_json, self._today = as_json, today
        self._is_terminal = stream.isatty() and not as_json
        self._next_s = clock.now() + _LOG_INTERVAL_S
        self._is_line_open = False
        self._errors: dict[str, int] = {}

    def say(self, text: str) -> None:
        """Write a message on a line of its own."""
        if self._as_json:
            self._log("news", text=text)
            return
        self._erase()
        self._write(text + "\n")

    def refresh(self, stats: ShowStats) -> None:
        """Show the latest statistics, and write a message at once for each new error of a sink."""
        for sink in stats.sinks:
            if sink.errors > self._errors.get(sink.name, 0):
                self.say(f"sink {sink.name}: {sink.state}")
            self._errors[sink.name] = sink.errors
        line = to_line(stats)
        if self._is_terminal:
            self._erase()
            self._write(line[: shutil.get_terminal_size().columns - 1])
            self._is_line_open = True
        elif self._clock.now() >= self._next_s:
            self._next_s += _LOG_INTERVAL_S
            if self._as_json:
                self._log("figures", **stats.to_json())
            else:
                self.say(line)

    def _log(self, event: str, **more: Any) -> None:
        time = self._today().isoformat(timespec="milliseconds")
        self._put(json.dumps({"time": time, "event": event, **more}) + "\n")

    def _erase(self) -> None:
        if self._is_line_open:
            self._put("\r\x1b[K")  # to the start of the line, and clear it
            self._is_line_open = False

    def _write(self, text: str) -> None:
        """Write a text without control characters: messages quote servers and names in bundles."""
        from runtime.errors import printable  # after --help, which needs no runtime

        self._put("\n".join(printable(line) for line in text.split("\n")))

    def _put(self, text: str) -> None:
        # The terminal may have been closed; the recordings still have to be finished.
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()


def to_line(stats: ShowStats) -> str:
    """Return the statistics in one line."""
    timing = stats.timing
    parts = [
        f"{_duration(stats.seconds)}  {timing.fps:.1f} fps",
        f"engine p50 {timing.p50_ms:.1f} p95 {timing.p95_ms:.1f} p99 {timing.p99_ms:.1f} ms",
        f"late {stats.late}  dropped {stats.dropped}",
    ]
    for sink in stats.sinks:
        lost = f" (-{sink.dropped})" if sink.dropped else ""
        parts.append(f"{sink.name}: {sink.state}, {sink.written}{lost}")
    return "  |  ".join(parts)


def to_summary(
    stats: ShowStats,
    *,
    reason: str,
    engine: str,
    first_frame_s: float | None,
    link_ms: Mapping[str, float] | None = None,
    mark: str = "",
    repeated: int = 0,
) -> str:
    """Write the summary of a show.

    Args:
        stats: of the whole show.
        reason: why it ended.
        engine: name and precision.
        first_frame_s: seconds from the start of the process to the first frame, or None if there was none.
        link_ms: name of each bundle of a chain -> the median milliseconds of its last frames; None without a chain.
        mark: what the frames carried; "" leaves the line out.
        repeated: frames that were the ones before again, because the live input was nearly still.

    Returns:
        A few lines of text, without a line break at the end.
    """
    timing = stats.timing
    filled = f", {stats.filled} of them filled with the frame before" if stats.filled else ""
    first = "no frame was shown" if first_frame_s is None else f"first frame {first_frame_s:.2f} s after the start"
    head = [
        ("show", f"{stats.frames} frames in {stats.seconds:.2f} s, {timing.fps:.2f} fps; {first}; ended: {reason}"),
        (
            "engine",
            f"{engine}: p50 {timing.p50_ms:.2f}  p95 {timing.p95_ms:.2f}  p99 {timing.p99_ms:.2f}  "
            f"worst {timing.worst_ms:.2f} ms a frame",
        ),
        ("clock", f"{stats.late} frames late, {stats.dropped} slots dropped{filled}"),
    ]
    if link_ms:
        parts = "  ".join(f"{name} {ms:.2f}" for name, ms in link_ms.items())
        head.insert(2, ("chain", f"{parts} ms a frame, the medians of the last frames"))
    if repeated:
        head.append(("input", f"nearly still: {repeated} frames were repeated (--skip-similar)"))
    if mark:
        head.append(("mark", mark))
    rows = [("sink", "written", "dropped", "errors", "")]
    for sink in stats.sinks:
        numbers = (str(sink.written), str(sink.dropped), str(sink.errors))
        state = [] if sink.state == "closed" else [sink.state]
        rows.append((sink.name, *numbers, ", ".join([*state, *([sink.result] if sink.result else [])])))
    width = max(len(row[0]) for row in rows)
    table = [f"{row[0]:<{width}}  {row[1]:>8}  {row[2]:>8}  {row[3]:>7}  {row[4]}".rstrip() for row in rows]
    return "\n".join([f"{name:<7} {text}" for name, text in head] + table)


def _duration(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    minutes, seconds_left = divmod(rest, 60)
    return f"{hours}:{minutes:02}:{seconds_left:02}"
