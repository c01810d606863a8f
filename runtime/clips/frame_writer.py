"""Writes pictures of any size and format as the frames of a clip, with the video library."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.pixels.video_frames import to_video
from runtime.prompts.images import load_image

Array = npt.NDArray[np.uint8]
_UNKNOWN = 2  # colours that a video does not name (ITU-T H.273)
_HD_ROWS = 720  # from which on a video that does not say so has the colours of BT.709
_MOST = 4  # times the frame's pixels that are made before cropping; beyond that Pillow crops first


class FrameWriter:
    """Fits pictures to frames of one size, and makes small copies of these; for one thread.

    Nothing is converted twice: a video of the frames' size, format and colours is copied.

    Args:
        size, small: (width, height) of the frames, even, and of their small copies, in pixels.
        pixels: "rgb", or "i420" in BT.709, limited range.
        how: how pictures of another shape fit, one of `runtime.prompts.images.FITS`.
    """

    def __init__(self, size: tuple[int, int], small: tuple[int, int], pixels: str, how: str) -> None:
        import av
        from av.video.reformatter import VideoReformatter

        self._size, self._small, self._how = size, small, how
        self._kind = "rgb24" if pixels == "rgb" else "yuv420p"
        self._reformatter, self._reducer = VideoReformatter(), VideoReformatter()  # which keep their tables
        self._cropped: Any = av.VideoFrame(*size, self._kind)
        if pixels != "rgb":
            self._cropped.colorspace, self._cropped.color_range = 1, 1  # BT.709, limited range

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a frame."""
        width, height = self._size
        return (height, width, 3) if self._kind == "rgb24" else (height * 3 // 2, width)

    def write(self, picture: Any, frame: Array, small: Array) -> None:
        """Write one picture.

        Args:
            picture: a frame of the video library, or uint8 (h, w, 3) RGB.
            frame: written; uint8 of `shape`, contiguous.
            small: written; uint8 (h, w, 3) RGB.
        """
        from av.video.reformatter import Colorspace, Interpolation

        whole, left, top = self._fitted(picture)
        for source, target in zip(self._planes(whole), self._parts(frame), strict=True):
            # Chroma planes have half of the luma plane's size.
            x, y = left * target.shape[1] // self._size[0], top * target.shape[0] // self._size[1]
            target[:] = source[y : y + target.shape[0], x : x + target.shape[1]]
        if (whole.width, whole.height) != self._size:
            for plane, part in zip(self._planes(self._cropped), self._parts(frame), strict=True):
                plane[: part.shape[0], : part.shape[1]] = part
            whole = self._cropped
        how: dict[str, Any] = {"interpolation": Interpolation.AREA}
        if self._kind != "rgb24":
            how["src_colorspace"] = Colorspace.ITU709
        small[:] = self._reducer.reformat(whole, *self._small, "rgb24", **how).to_ndarray()

    def _fitted(self, picture: Any) -> tuple[Any, int, int]:
        """Return a frame of the right format that is at least as large as wanted, and where to crop it."""
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        (width, height), source = self._size, picture
        if not self._covers(picture):
            rgb = picture if isinstance(picture, np.ndarray) else picture.to_ndarray(format="rgb24")
            source = to_video(load_image(rgb, width, height, self._how))
        scale = max(width / source.width, height / source.height)
        across, down = max(width, round(source.width * scale)), max(height, round(source.height * scale))
        how = Interpolation.AREA if scale < 1 else Interpolation.BICUBIC
        colours: dict[str, Any] = {}
        if self._kind != "rgb24":
            colours = {"dst_colorspace": Colorspace.ITU709, "dst_color_range": ColorRange.MPEG}
        if source.colorspace == _UNKNOWN and source.height >= _HD_ROWS and source.format.name != "rgb24":
            colours["src_colorspace"] = Colorspace.ITU709
        whole = self._reformatter.reformat(source, across, down, self._kind, interpolation=how, **colours)
        even = ~1 if self._kind == "yuv420p" else ~0  # so that chroma is cropped at a whole pixel
        return whole, (across - width) // 2 & even, (down - height) // 2 & even

    def _covers(self, picture: Any) -> bool:
        """Return whether a picture is a frame of the video library that only needs cropping, and not much."""
        if isinstance(picture, np.ndarray):
            return False
        width, height = self._size
        across, down = picture.width / width, picture.height / height
        is_alike = picture.width * height == picture.height * width
        return is_alike or (self._how == "cover" and max(across, down) <= _MOST * min(across, down))

    def _planes(self, frame: Any) -> list[Array]:
        """Return the planes of a frame as views, RGB as one of three times the width."""
        return [np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height] for plane in frame.planes]

    def _parts(self, frame: Array) -> list[Array]:
        """Return where the planes are in a frame of `shape`, as views."""
        width, height = self._size
        if self._kind == "rgb24":
            return [frame.reshape(height, 3 * width)]
        flat, half = frame.reshape(-1), (height // 2, width // 2)
        ends = np.cumsum([height * width, half[0] * half[1], half[0] * half[1]])
        return [
            flat[: ends[0]].reshape(height, width),
            flat[ends[0] : ends[1]].reshape(half),
            flat[ends[1] : ends[2]].reshape(half),
        ]
