"""The child process that owns a desktop window: frames on standard input -> OpenCV's highgui.

python -m streaming.sinks.window_child      (started by `streaming.sinks.window_sink`, which holds the other end)

The first line of standard input is JSON: title, width, height; I420 frames follow, each answered by one byte once it is
shown. Standard output is "ready", or why not, before the first frame. A window that is closed, q and Escape end the
process with status 0. In a process of its own, since some systems want a window on the main thread.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

_QUIT = (ord("q"), 27)
_LUMA, _RED, _BLUE = 255 / 219, 1.5748 * 255 / 224, 1.8556 * 255 / 224  # ITU-R BT.709, limited range
_GREEN_BLUE, _GREEN_RED = _BLUE * 0.0722 / 0.7152, _RED * 0.2126 / 0.7152
_ROWS = ((_LUMA, _BLUE, 0.0), (_LUMA, -_GREEN_BLUE, -_GREEN_RED), (_LUMA, 0.0, _RED))  # of B, G, R from Y, U, V
_TO_BGR = np.array([(*row, -16 * row[0] - 128 * (row[1] + row[2])) for row in _ROWS], np.float32)
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
        cv2.imshow(title, to_bgr(cv2, picture))
        if cv2.waitKey(1) & 0xFF in _QUIT or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return 0
        os.write(1, b".")
    return 0


def to_bgr(cv2: Any, picture: npt.NDArray[np.uint8]) -> Any:
    """Convert I420 (H * 3 / 2, W), BT.709 limited range, to (H, W, 3) BGR, with OpenCV alone.

    Not with PyAV: where that is loaded, OpenCV's window (Qt) never opens, as each brings its own libxcb.
    """
    height, width = picture.shape[0] * 2 // 3, picture.shape[1]
    chroma = picture[height:].reshape(2, height // 2, width // 2)
    planes = [
        picture[:height],
        *(cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in chroma),
    ]
    return cv2.transform(cv2.merge(planes), _TO_BGR)


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
        cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL)
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
