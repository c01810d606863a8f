"""The check that no test leaves a process behind."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.processes import adopt_orphans, descendants, end_others

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found on Linux only")


def test_a_process_that_is_left_behind_is_found_and_killed() -> None:
    before = descendants()
    with subprocess.Popen(["sleep", "600"]) as child:
        assert end_others(descendants(), 0.0) == {}
        assert list(end_others(before, 0.0)) == [child.pid]
    assert child.returncode == -9


def test_so_is_one_whose_parent_has_ended() -> None:
    adopt_orphans()
    before = descendants()
    subprocess.run(["sh", "-c", "sleep 600 &"], check=True)
    assert len(end_others(before, 0.0)) == 1
    assert end_others(before, 60.0) == {}


def test_one_that_ends_by_itself_is_waited_for() -> None:
    before = descendants()
    with subprocess.Popen(["sleep", "0.1"]):
        assert end_others(before, 60.0) == {}
