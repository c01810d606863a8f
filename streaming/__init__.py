"""The live show: generator -> pacer -> fan-out -> sinks, as `python -m streaming`."""

from __future__ import annotations

from streaming.errors import SinkError
from streaming.output.pacing import Clock, Pacer, SystemClock

__all__ = ["Clock", "Pacer", "SinkError", "SystemClock"]
