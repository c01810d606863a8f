"""Converts pictures with the video library, which is faster than NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FrameArray = npt.NDArray[np.uint8]


def to_video(picture: FrameArray) -> Any:
    """Return an RGB picture, uint8 (H, W, 3), as a frame of the video library."""
    import av

    return av.VideoFrame.from_ndarray(picture, format="rgb24")


def resized(frame: Any, width: int, height: int) -> Any:
    """Return a smaller RGB frame; each pixel is the mean of an area. Of the same size, it is the frame itself."""
    from av.video.reformatter import Interpolation

    return frame.reformat(width, height, "rgb24", interpolation=Interpolation.AREA)


def to_small(frame: Any, width: int, height: int) -> FrameArray:
    """Return a smaller picture, uint8 (height, width, 3) RGB, owned by the caller; see `resized`."""
    return np.array(resized(frame, width, height).to_ndarray(), np.uint8)


def to_pixels(frame: Any, pixels: str, size: tuple[int, int] | None = None) -> FrameArray:
    """Return an RGB frame as "rgb" or "i420" (BT.709, limited range), enlarged to (width, height)."""
    from av.video.reformatter import Colorspace, Interpolation

    width, height = size or (frame.width, frame.height)
    kind = "rgb24" if pixels == "rgb" else "yuv420p"
    how = {"interpolation": Interpolation.BICUBIC, "dst_colorspace": Colorspace.ITU709}
    found: FrameArray = frame.reformat(width, height, kind, **how).to_ndarray()
    return found


class KeptFrame:
    """An RGB frame of the video library that is written again and again: new memory would take longer than the copy.

    Args:
        width, height: in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        import av

        self.frame: Any = av.VideoFrame(width, height, "rgb24")
        plane = self.frame.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(height, plane.line_size)
        self._memory = rows[:, : 3 * width].reshape(height, width, 3)  # a view

    def write(self, picture: FrameArray) -> Any:
        """Copy a picture, uint8 (height, width, 3) RGB, and return the frame."""
        np.copyto(self._memory, picture)
        return self.frame
