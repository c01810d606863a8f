"""The priority of a process that works in the background for minutes. It must not delay frames and must still finish.

Linux may give each session of processes the same share of the cores, whatever their priorities (autogroups, see
sched(7)). A child process is a session of its own, so that a priority of its own is not enough.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

AUTOGROUP = Path("/proc/self/autogroup")
_IDLE, _SHARING = 19, 10  # niceness of the session: 1.5 and 11 % of what another one gets on a busy core
_ATTEMPTS, _PAUSE_S = 5, 0.12


class LowPriority:
    """Lowers the priority of this process's session; a context manager for each piece of work.

    Other systems and sessions without autogroups have the priority of the process alone.

    Args:
        idle_s: seconds of a piece of work in which it hardly gets anything while others use all cores; then it gets a
            small share. None leaves the session as it is.
        autogroup: the system's file.
    """

    def __init__(self, idle_s: float | None, autogroup: Path = AUTOGROUP) -> None:
        self._idle_s, self._path = idle_s, autogroup
        self._timer: threading.Timer | None = None
        self._niceness = 0

    def __enter__(self) -> LowPriority:
        if self._idle_s is not None:
            self._set(_IDLE)
            self._timer = threading.Timer(self._idle_s, self._set, [_SHARING])
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()  # else it might raise the share of the next piece of work
            self._timer = None

    def _set(self, niceness: int) -> None:
        if sys.platform != "linux" or niceness == self._niceness:
            return
        for _ in range(_ATTEMPTS):
            try:
                self._path.write_text(str(niceness))
            except BlockingIOError:  # the system allows one change in a tenth of a second
                time.sleep(_PAUSE_S)
            except OSError:  # there are no autogroups
                return
            else:
                self._niceness = niceness
                return
