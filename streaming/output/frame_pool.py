"""Copies of frames, in memory that is used again."""

from __future__ import annotations

import sys

import numpy as np

from streaming.sinks.sink import Picture

_LENGTH = 16  # frames: two wait and one is written at each of a few sinks
_UNUSED = 2  # references to a buffer that nobody but the pool holds, as sys.getrefcount counts


class FramePool:
    """Copies of frames in memory that is used again once nobody holds the copy, nor any view of it."""

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
            # The list and the call itself hold it; every view holds it as well, as its base.
            if sys.getrefcount(self._buffers[index]) == _UNUSED and self._buffers[index].shape == picture.shape:
                return self._buffers[index]
        buffer = np.empty(picture.shape, picture.dtype)
        if len(self._buffers) < _LENGTH:  # a sink that keeps frames for itself keeps their memory, too
            self._buffers.append(buffer)
        return buffer
