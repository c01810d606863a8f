"""The child process that owns a desktop window: frames on standard input -> OpenCV's highgui.

python -m streaming.window      (started by `streaming.window_sink`, which holds the other end)

The first line of standard input is JSON: title, width, height; I420 frames follow, each answered by one byte once it is
shown. Standard output is "ready", or why not, before the first frame. A window that is closed, q and Escape end the
process with status 0. In a process of its own, since some systems want a window on the main thread.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import av
import numpy as np

_QUIT = (ord("q"), 27)
_SMALL = 512  # pixels; a smaller picture is shown larger at first


def main() -> int:
    """Show frames until there are no more, or nobody wants them."""
    inlet = os.fdopen(0, "rb", closefd=False)
    wish = json.loads(inlet.readline())
    title, width, height = wish["title"], wish["width"], wish["height"]
    try:
        cv2 = open_window(title, width, height)
    except ValueError as error:
        os.write(1, " ".join(str(error).split()).encode() + b"\n")
        return 1
    os.write(1, b"ready\n")
    picture = np.empty((height * 3 // 2, width), np.uint8)
    while inlet.readinto(picture.data) == picture.nbytes:
        frame = av.VideoFrame.from_ndarray(picture, format="yuv420p")
        bgr = frame.to_ndarray(
            format="bgr24",
            src_colorspace="ITU709",
            dst_colorspace="ITU709",
            src_color_range="MPEG",
            dst_color_range="JPEG",
        )
        cv2.imshow(title, bgr)
        if cv2.waitKey(1) & 0xFF in _QUIT or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return 0
        os.write(1, b".")
    return 0


def open_window(title: str, width: int, height: int) -> Any:
    """Open a window and return OpenCV.

    Raises:
        ValueError: OpenCV is missing or was built without windows, or there is no desktop.
    """
    try:
        import cv2
    except ImportError as error:
        raise ValueError("it needs the extra: pip install everframe[window]") from error
    try:
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
    except cv2.error as error:
        if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise ValueError("there is no desktop here (neither DISPLAY nor WAYLAND_DISPLAY is set)") from error
        raise ValueError(
            "this OpenCV has no windows: pip uninstall opencv-python-headless, then pip install everframe[window]"
        ) from error
    scale = max(1, _SMALL // max(width, height))
    cv2.resizeWindow(title, width * scale, height * scale)
    return cv2


if __name__ == "__main__":
    sys.exit(main())
