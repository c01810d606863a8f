"""A virtual camera for video calls and recorders, through pyvirtualcam."""

from __future__ import annotations

import sys
from typing import Any

from streaming.errors import SinkError
from streaming.sinks.sink import Frame, Sink, StreamFormat

_ADVICE = {
    "linux": "make one with: sudo modprobe v4l2loopback devices=1 exclusive_caps=1 (package v4l2loopback-dkms)",
    "darwin": "install OBS 30 or later, and start its virtual camera once",
    "win32": "install OBS, and start its virtual camera once",
}


_USED_UP = "not a video output device"  # the error of v4l2loopback 0.12 with exclusive_caps=1 for the second program


class WebcamSink(Sink):
    """Sends I420 frames to a virtual camera.

    Args:
        spec: "webcam" for the first free camera, or "webcam:DEVICE", e.g. webcam:/dev/video10.
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._device = spec.partition(":")[2] or None
        self._camera: Any = None
        self._result = ""

    def open(self, feed: StreamFormat) -> None:
        """Open the camera."""
        try:
            import pyvirtualcam
        except ImportError as error:
            raise SinkError("sink webcam needs the extra: pip install everframe[webcam]") from error
        try:
            self._camera = pyvirtualcam.Camera(
                feed.width, feed.height, float(feed.fps), fmt=pyvirtualcam.PixelFormat.I420, device=self._device
            )
        except (RuntimeError, OSError) as error:
            if _USED_UP in str(error):
                raise SinkError(
                    f"sink {self.name} cannot open its camera again: this v4l2loopback serves one program each time it "
                    "is loaded; reload it (sudo modprobe -r v4l2loopback, then sudo modprobe v4l2loopback devices=1 "
                    "exclusive_caps=1), or install version 0.13 or later"
                ) from error
            wanted = f"the virtual camera {self._device}" if self._device else "a virtual camera"
            advice = _ADVICE.get(sys.platform, "install a virtual camera that pyvirtualcam knows")
            reason = " ".join(str(error).split()).partition(". ")[0]
            raise SinkError(f"sink {self.name} needs {wanted}, and there is none ({reason}): {advice}") from error
        self._result = f"camera {self._camera.device}"

    def write(self, frame: Frame) -> bool:
        """Send a frame."""
        try:
            self._camera.send(frame.picture)
        except (RuntimeError, OSError) as error:
            raise SinkError(f"sink {self.name} failed: {error}; is the camera still there?") from error
        return True

    def close(self) -> None:
        """Close the camera."""
        self._camera.close()

    def result(self) -> str:
        """Return the camera's name."""
        return self._result
