"""The child process that owns a desktop window: frames from the parent -> OpenCV's highgui.

python -m streaming.sinks.window_child      (started by `streaming.sinks.window_sink`)

The first message has title, width and height; it is answered by {"state": "ready"} or {"error": REASON}. Then come
frames, {"slot": N} with I420 data, each answered by {"shown": N}. Closing the window, q and Escape end the process with
status 0. It is a process because some systems want windows on the main thread.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from streaming.process.child import ParentPipe

_QUIT_KEYS = (ord("q"), 27)
_LUMA, _RED, _BLUE = 255 / 219, 1.5748 * 255 / 224, 1.8556 * 255 / 224  # ITU-R BT.709, limited range
_GREEN_BLUE, _GREEN_RED = _BLUE * 0.0722 / 0.7152, _RED * 0.2126 / 0.7152
_ROWS = ((_LUMA, _BLUE, 0.0), (_LUMA, -_GREEN_BLUE, -_GREEN_RED), (_LUMA, 0.0, _RED))  # of B, G, R from Y, U, V
_TO_BGR = np.array([(*row, -16 * row[0] - 128 * (row[1] + row[2])) for row in _ROWS], np.float32)
_SMALL = 512  # pixels; smaller frames are enlarged when the window opens


def main() -> int:
    """Show frames until they end or the window is closed; return the exit status."""
    parent = ParentPipe()
    if (message := parent.receive()) is None:
        return 0
    title, width, height = (message[0][name] for name in ("title", "width", "height"))
    try:
        cv2 = open_window(title, width, height)
    except ValueError as error:
        parent.send({"error": " ".join(str(error).split())})
        return 1
    parent.send({"state": "ready"})
    while (message := parent.receive()) is not None:
        fields, data = message
        cv2.imshow(title, to_bgr(cv2, np.frombuffer(data, np.uint8).reshape(-1, width)))
        if cv2.waitKey(1) & 0xFF in _QUIT_KEYS or cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) < 1:
            return 0
        parent.send({"shown": fields["slot"]})
    return 0


def to_bgr(cv2: Any, picture: npt.NDArray[np.uint8]) -> Any:
    """Convert I420 (H * 3 / 2, W), BT.709 limited range, to (H, W, 3) BGR, with OpenCV alone.

    PyAV must not be loaded: it and OpenCV bring different copies of libxcb, and the window would never open.
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
