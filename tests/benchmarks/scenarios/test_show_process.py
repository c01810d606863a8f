"""A real show in a process of its own is sampled and ended; child processes that fail are reported."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.json_child import JsonChild
from benchmarks.scenarios.show_process import ShowProcess, difference
from tests import tiny


def test_a_real_show_is_sampled_and_ended(tmp_path: Path) -> None:
    with ShowProcess(str(tiny.build(tmp_path / "tiny")), ["null"], fps=30) as show:
        first = show.wait_begun()
        last, deadline_s = first, time.monotonic() + 60
        while last["frames"] == first["frames"]:
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
            last = show.sample()
        assert show.is_running()
    assert not show.is_running()
    since = difference(first, last)
    assert since["frames"] > 0
    assert since["lost"] == {"null": 0, show.page: 0}
    assert last["answer_ms"] > 0
    assert last["descriptors"] > 0


def test_a_show_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    with (
        ShowProcess(str(tmp_path / "nowhere"), ["null"], fps=30) as show,
        pytest.raises(ValueError, match=r"the show has ended at once: .*nowhere"),
    ):
        show.wait_begun()


def test_a_child_that_ends_is_an_error() -> None:
    with JsonChild("benchmarks.scenarios.attackers", "http://192.0.2.1:80", quiet=True) as child:
        assert child.read() == {"error": "its process ended with status 2"}
        assert child.finish() is None
