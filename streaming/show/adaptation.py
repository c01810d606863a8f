"""Adaptation of a show to a machine on which frames run late.

First each frame is made one slot ahead, which costs nothing but that slot of delay: a frame that takes longer than its
slot is then on time if its neighbours take less. If too many are late even so, frames get half the detail. The way back
to full detail is tried after a while without a late frame; each time it fails, the next try comes later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from runtime.chain import FrameSource
from streaming.output.pacing import Pacer

_FEW, _FEW_S = 3, 10  # late or dropped frames within these seconds: frames are made ahead
_WINDOW_S = 1  # of the show
_LATE = 0.25  # share of the window's slots that are late or dropped: too many for full detail
_CALM_S = 10.0  # without a late frame, before full detail is tried again
_MAX_CALM_S = 160.0
_RELAPSE_S = 30.0  # full detail has failed if it is given up this soon


class Adaptation:
    """Sets how far frames are made ahead, and their detail.

    Args:
        pacer: of the show; counts late and dropped frames.
        say: called with one line for each change.
    """

    def __init__(self, pacer: Pacer, say: Callable[[str], None]) -> None:
        self._pacer, self._fps, self._say = pacer, float(pacer.fps), say
        self._window: deque[tuple[int, int]] = deque()  # (slot, late and dropped so far), the last second
        self._troubles: deque[int] = deque(maxlen=_FEW)  # slots after which one more was late or dropped
        self._before = 0  # late and dropped before the last frame
        self._calm_s = _CALM_S
        self._changed_at = 0  # slot of the last change

    def update(self, generator: FrameSource) -> None:
        """Decide on the next frame, which `generator` makes."""
        slot, troubles = self._pacer.next_slot, self._pacer.num_late + self._pacer.num_dropped
        if troubles > self._before:
            self._troubles.append(slot)
            self._before = troubles
        if self._pacer.num_ahead == 0:
            if len(self._troubles) == _FEW and slot - self._troubles[0] <= _FEW_S * self._fps:
                self._pacer.make_ahead(1)
                self._say(f"frames run late: each is made one ahead now, and shown {1000 / self._fps:.0f} ms later")
        elif generator.has_half_detail:
            self._choose_detail(generator, slot, troubles)

    def _choose_detail(self, generator: FrameSource, slot: int, troubles: int) -> None:
        self._window.append((slot, troubles))
        while slot - self._window[0][0] > _WINDOW_S * self._fps:
            self._window.popleft()
        first_slot, before = self._window[0]
        last_trouble = self._troubles[-1] if self._troubles else 0
        is_full = generator.detail == "full"
        if is_full and slot - first_slot >= 0.9 * _WINDOW_S * self._fps:
            if troubles - before > _LATE * (slot - first_slot):
                self._reduce(generator, slot)
        elif not is_full and slot - max(last_trouble, self._changed_at) > self._calm_s * self._fps:
            self._change(generator, slot, "full", "full detail again")

    def _reduce(self, generator: FrameSource, slot: int) -> None:
        if self._changed_at and slot - self._changed_at < _RELAPSE_S * self._fps:
            self._calm_s = min(_MAX_CALM_S, 2 * self._calm_s)
        self._change(generator, slot, "half", "half the detail, because frames run late (--adapt off keeps it)")

    def _change(self, generator: FrameSource, slot: int, detail: str, line: str) -> None:
        generator.detail = detail
        self._changed_at = slot
        self._window.clear()
        self._say(line)
