"""Fits frames of any format to one size with the video library, which takes a third of Pillow's time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.prompts.images import load_image

Rgb = npt.NDArray[np.uint8]
_MOST = 4  # times the frame's pixels that are made before cropping; beyond that Pillow crops first


def to_frame(picture: npt.NDArray[np.uint8], pixels: str) -> Any:
    """Return a picture, uint8 (h, w, 3) and contiguous, as a frame of the video library.

    Args:
        picture: copied.
        pixels: the library's name of the order of its channels, "rgb24" or "bgr24".
    """
    import av

    return av.VideoFrame.from_ndarray(picture, format=pixels)


class FrameCover:
    """Fills frames of one size with frames of any size, cropped around the centre; for one thread.

    Args:
        width, height: of the frames that are returned, in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        from av.video.reformatter import VideoReformatter

        self._width, self._height = width, height
        self._reformatter = VideoReformatter()  # keeps its tables

    def fit(self, frame: Any) -> Rgb:
        """Return a frame of the video library, of any format, as uint8 (height, width, 3) RGB."""
        from av.video.reformatter import Interpolation

        scale = max(self._width / frame.width, self._height / frame.height)
        width = max(self._width, round(frame.width * scale))
        height = max(self._height, round(frame.height * scale))
        if width * height > _MOST * self._width * self._height:
            return load_image(frame.to_ndarray(format="rgb24"), self._width, self._height)
        how = Interpolation.AREA if scale < 1 else Interpolation.BICUBIC
        whole = self._reformatter.reformat(frame, width, height, "rgb24", interpolation=how).to_ndarray()
        left, top = (width - self._width) // 2, (height - self._height) // 2
        return np.ascontiguousarray(whole[top : top + self._height, left : left + self._width])
