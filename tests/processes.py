"""Child processes of this test run: which are alive, and how they are ended.

Linux only: elsewhere, or on a kernel without /proc/PID/task/TID/children, none are found.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_S = 10.0  # how long a process that was told to end may take
_PR_SET_CHILD_SUBREAPER = 36
# They end with the process that uses them.
_KEPT = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "torch_shm_manager")


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose parent ends, so that they are found."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int | str = "self") -> dict[int, str]:
    """Return the living descendants of a process: command lines by process id."""
    if pid == "self" and sys.platform == "linux":
        try:  # most often there is no child at all, which the kernel says quickly
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return {}
    found: dict[int, str] = {}
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread, or the child, has ended meanwhile
            for child in map(int, path.read_text().split()):
                has_ended = Path(f"/proc/{child}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
                command = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if not has_ended and not any(name in command for name in _KEPT):
                    found[child] = command.strip()
                found |= descendants(child)
    return found


def end_others(before: dict[int, str], grace_s: float) -> dict[int, str]:
    """Kill the descendants that are alive after `grace_s` seconds and not in `before`; return them."""
    deadline_s = time.monotonic() + grace_s
    while (others := {pid: name for pid, name in descendants().items() if pid not in before}) and (
        time.monotonic() < deadline_s
    ):
        time.sleep(0.01)
    for pid in others:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if others:  # close their pipes, too: whatever is collected unclosed fails a later test
        for item in gc.get_objects():
            if issubclass(type(item), subprocess.Popen) and item.pid in others:
                with contextlib.suppress(OSError), item:
                    pass
    return others
