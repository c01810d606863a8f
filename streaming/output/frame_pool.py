"""Copies of frames in reused memory."""

from __future__ import annotations

import sys

import numpy as np

from streaming.sinks.sink import Picture

_LENGTH = 16  # frames: two queued and one being written at each of a few sinks
_UNUSED = 2  # sys.getrefcount of a buffer that only the pool holds


class FramePool:
    """Copies of frames in memory that is reused once there is no reference to the copy or a view of it."""

    def __init__(self) -> None:
        self._buffers: list[Picture] = []

    def copy(self, picture: Picture) -> Picture:
        """Return a read-only copy."""
        buffer = self._free(picture)
        np.copyto(buffer, picture)
        view = buffer.view()
        view.setflags(write=False)
        return view

    def _free(self, picture: Picture) -> Picture:
        for index in range(len(self._buffers)):
            # The list and the call hold one reference each; every view holds one as its base.
            if sys.getrefcount(self._buffers[index]) == _UNUSED and self._buffers[index].shape == picture.shape:
                return self._buffers[index]
        buffer = np.empty(picture.shape, picture.dtype)
        if len(self._buffers) < _LENGTH:  # frames that a sink keeps need additional memory
            self._buffers.append(buffer)
        return buffer
