"""A process ends at once, with what it has started."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fleet.ending import boot_s
from tests.fleet.waiting import WAIT_S

# The child of the process has a child of its own. Both hold the standard error of the process open.
PROGRAM = """
import subprocess
from fleet.ending import end_at_once
child = subprocess.Popen(["sh", "-c", "sleep 60 & echo begun; wait"], stdout=subprocess.PIPE)
assert child.stdout.readline() == b"begun\\n"
try:
    end_at_once(17)
finally:
    print("a goodbye", flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in /proc")
def test_a_process_ends_with_its_children() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, timeout=WAIT_S)  # until all are gone
    assert (done.returncode, done.stdout, done.stderr) == (17, b"", b"")


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no such clock")
def test_the_time_asleep_counts() -> None:
    before_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before_s <= boot_s() <= time.clock_gettime(time.CLOCK_BOOTTIME)
