"""Fits RGB frames of one size to another size or pixel format, at the rate of a show."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

FrameArray = npt.NDArray[np.uint8]


class FrameFitter:
    """Crops a frame around its centre to another aspect ratio, resizes and converts it; for one thread.

    The video library averages areas, which is faster than Pillow's filter in `runtime.prompts.images` and less exact.

    Args:
        source: (width, height) in pixels of the frames that are given.
        target: (width, height) of the frames that are returned; even in "i420".
        pixels: of the frames that are returned: "rgb", or "i420" in BT.709, limited range.
    """

    def __init__(self, source: tuple[int, int], target: tuple[int, int], pixels: str = "rgb") -> None:
        self._target, self._pixels = target, pixels
        self._is_needed = source != target or pixels != "rgb"
        if not self._is_needed:
            return
        from av import VideoFrame
        from av.video.reformatter import VideoReformatter

        left, top, width, height = centre_crop(source, target[0] / target[1])
        self._rows, self._columns = slice(top, top + height), slice(left, left + width)
        # One frame of the library for all: its memory is aligned, as its functions need it.
        self._cropped = VideoFrame(width, height, "rgb24")
        plane = self._cropped.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        self._memory = rows[:, : 3 * width].reshape(height, width, 3)  # a view
        self._reformatter = VideoReformatter()  # keeps its tables

    def fit(self, frame: FrameArray) -> FrameArray:
        """Return a frame in the wanted size and format.

        Args:
            frame: uint8 (h, w, 3) RGB of the source's size.

        Returns:
            The frame itself if it fits; otherwise a new array, uint8 (h, w, 3) or (h * 3 / 2, w).
        """
        if not self._is_needed:
            return frame
        from av.video.reformatter import Colorspace, Interpolation

        np.copyto(self._memory, frame[self._rows, self._columns])
        how: dict[str, Any] = {"interpolation": Interpolation.AREA}
        if self._pixels == "rgb":
            fitted = self._reformatter.reformat(self._cropped, *self._target, "rgb24", **how)
        else:
            how["dst_colorspace"] = Colorspace.ITU709
            fitted = self._reformatter.reformat(self._cropped, *self._target, "yuv420p", **how)
        made: Any = fitted.to_ndarray()
        return cast(FrameArray, made)


def centre_crop(size: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    """Return (left, top, width, height) of the largest part of a frame that has an aspect ratio, around its centre.

    Args:
        size: (width, height) of the frame in pixels.
        aspect: width / height.
    """
    width = min(size[0], max(1, round(size[1] * aspect)))
    height = min(size[1], max(1, round(size[0] / aspect)))
    return (size[0] - width) // 2, (size[1] - height) // 2, width, height
