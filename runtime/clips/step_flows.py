"""The flow from each frame of a clip to the next one: found in the background, or when it is needed first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt

from runtime.clips.alignment import Alignment, align


class StepFlows(Sequence[Alignment]):
    """The flows of one clip; thread-safe. What they are does not depend on when they are found.

    Args:
        grey: uint8 (N, h, w), at least two frames, as small as they are compared. Kept until all flows are known.
    """

    def __init__(self, grey: npt.NDArray[np.uint8]) -> None:
        self._grey = grey
        self._found: list[Alignment | None] = [None] * (len(grey) - 1)

    def __len__(self) -> int:
        return len(self._found)

    @overload
    def __getitem__(self, number: int) -> Alignment: ...
    @overload
    def __getitem__(self, number: slice) -> list[Alignment]: ...
    def __getitem__(self, number: int | slice) -> Alignment | list[Alignment]:
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        grey = self._grey  # before `found`: `find_all` lets go of it last
        found = self._found[number]
        if found is None:  # two threads may find the same one, once
            number %= len(self)
            found = self._found[number] = align(grey[number], grey[number + 1])
        return found

    def find_all(self, check: Callable[[], None] = lambda: None) -> None:
        """Find every flow, in order; blocks for about 10 ms for each.

        Args:
            check: called before each; raises to give up.
        """
        for number in range(len(self)):
            check()
            self[number]
        self._grey = self._grey[:0].copy()
