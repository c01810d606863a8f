"""Progress where there is no terminal."""

from __future__ import annotations

import pytest

from training.progress import ProgressLines, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_at_once_one_after_the_first_step_and_one_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("pretrain", 40, 10, clock)
    assert capsys.readouterr().out == "pretrain 10/40\n"
    for _ in range(30):
        clock.now += 4
        lines.advance()
    assert capsys.readouterr().out.splitlines() == [
        "pretrain 11/40, 4.0 s each, 2 min left",
        "pretrain 19/40, 4.0 s each, 84 s left",
        "pretrain 27/40, 4.0 s each, 52 s left",
        "pretrain 35/40, 4.0 s each, 20 s left",
        "pretrain 40/40, 4.0 s each",
    ]


def test_fast_steps_are_counted_by_the_second(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    lines = ProgressLines("shard", 2, clock=clock)
    clock.now += 0.25
    lines.advance()
    assert capsys.readouterr().out.splitlines()[-1] == "shard 1/2, 4.0 a second, 0 s left"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (95, "2 min"), (5300, "88 min"), (7500, "2 h 5 min")]
)
def test_durations_are_for_people(seconds: float, text: str) -> None:
    assert duration(seconds) == text
