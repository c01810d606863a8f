"""What is written to standard error."""

from __future__ import annotations

import io

from streaming.output.fan_out import SinkStats
from streaming.show.stats import FrameTiming, ShowStats
from streaming.show.status import StatusLine, to_line, to_summary
from tests.fakes import FakeClock


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def figures(seconds: float = 3.0, *sinks: SinkStats) -> ShowStats:
    return ShowStats(90, seconds, FrameTiming(29.97, 4.1, 5.2, 6.3, 40.4), 2, 1, sinks)


def sink(state: str = "on air", errors: int = 0, name: str = "a.mp4") -> SinkStats:
    return SinkStats(name, state, state.startswith("dead"), 88, 2, errors, "/tmp/a.mp4, 3.0 MB")


def test_the_line_tells_rate_times_and_losses() -> None:
    line = to_line(figures(3725.5, sink()))
    assert line == (
        "1:02:05  30.0 fps  |  engine p50 4.1 p95 5.2 p99 6.3 ms  |  late 2  dropped 1  |  a.mp4: on air, 88 (-2)"
    )


def test_a_log_gets_a_line_every_five_seconds() -> None:
    clock, stream = FakeClock(0.0), io.StringIO()
    status = StatusLine(stream, clock)
    for _ in range(4 * 21):
        clock.advance(0.25)
        status.refresh(figures())
    assert len(stream.getvalue().splitlines()) == 4
    assert "\r" not in stream.getvalue()


def test_a_terminal_gets_one_line_that_is_rewritten_and_fits() -> None:
    stream = Terminal()
    status = StatusLine(stream, FakeClock())
    for _ in range(3):
        status.refresh(figures(3.0, *(sink(name=f"{number}.mp4") for number in range(20))))
    parts = stream.getvalue().split("\r\x1b[K")
    assert len(parts) == 3
    assert "\n" not in stream.getvalue()
    assert all(20 < len(part) < 1000 for part in parts)
    status.say("the end")
    assert stream.getvalue().endswith("\r\x1b[Kthe end\n")


def test_quoted_text_cannot_control_the_terminal() -> None:
    stream = Terminal()
    status = StatusLine(stream, FakeClock())
    status.say("the cue is left out: \x1b[2J\u202e\nsecond line")
    status.refresh(figures(3.0, sink(state="dead: \x1b]0;title\x07\r", errors=1)))
    text = stream.getvalue().replace("\r\x1b[K", "")
    assert text.startswith("the cue is left out: \\x1b[2J\\u202e\nsecond line\n")
    assert "dead: \\x1b]0;title\\x07\\r" in text
    assert not set(text) & set("\x1b\x07\r\u202e")


def test_what_happens_to_a_sink_is_told_once_and_at_once() -> None:
    stream = io.StringIO()
    status = StatusLine(stream, FakeClock())
    for errors, state in ((0, "on air"), (1, "no connection"), (1, "no connection"), (2, "dead: broken")):
        status.refresh(figures(3.0, sink(state, errors)))
    assert stream.getvalue().splitlines() == ["sink a.mp4: no connection", "sink a.mp4: dead: broken"]


def test_the_summary_has_everything() -> None:
    rows = to_summary(
        figures(3.0, sink("closed"), sink("dead: broken", 1, "rtmp://h/app/***")),
        reason="time is up",
        engine="fake fp32",
        first_frame_s=0.456,
    ).splitlines()
    show = "90 frames in 3.00 s, 29.97 fps; first frame 0.46 s after the start; ended: time is up"
    assert rows[0] == f"show    {show}"
    assert "fake fp32: p50 4.10  p95 5.20  p99 6.30  worst 40.40 ms" in rows[1]
    assert "2 frames late, 1 slots dropped" in rows[2]
    assert rows[4].split() == ["a.mp4", "88", "2", "0", "/tmp/a.mp4,", "3.0", "MB"]
    assert rows[5].split()[:4] == ["rtmp://h/app/***", "88", "2", "1"]
    assert "dead: broken" in rows[5]


def test_a_show_without_frames_says_so() -> None:
    summary = to_summary(ShowStats(0, 0, FrameTiming(), 0, 0, []), reason="x", engine="y", first_frame_s=None)
    assert "no frame was shown" in summary


def test_for_programs_every_line_is_json() -> None:
    import json
    from datetime import UTC, datetime

    stream, clock = io.StringIO(), FakeClock(0.0)
    status = StatusLine(stream, clock, as_json=True, today=lambda: datetime(2026, 11, 24, 7, 0, 0, 5000, UTC))
    status.say("on air: null")
    figures = ShowStats(3, 0.1, FrameTiming(30, 1, 2, 3, 4), 0, 0, [])
    status.refresh(figures)
    clock.advance(6.0)
    status.refresh(figures)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first == {"time": "2026-11-24T07:00:00.005+00:00", "event": "news", "text": "on air: null"}
    assert second["event"] == "figures"
    assert second["frames"] == 3
