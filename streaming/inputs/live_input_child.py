"""The child process that reads a live input: a camera, an address, a file or a test card -> RGB frames of one size.

python -m streaming.inputs.live_input_child      (started by `streaming.inputs.live_input`)

The first message has spec, width, height and fit. It sends a message with height x width x 3 bytes for each frame, and
{"error": REASON} before it ends. It is a process because PyAV holds Python's lock while it connects, and a camera's
driver may hang.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.prompts.clips import open_video
from runtime.prompts.images import load_image
from streaming.process.child import ParentPipe

_CARD_FPS = 25
_BARS = ((191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191))
_OPEN_S, _READ_S = 5.0, 5.0
_NETWORK = (  # FFmpeg's protocols except those that read files of this machine
    "http,https,httpproxy,ftp,tls,tcp,udp,rtp,srtp,rtmp,rtmps,rtmpt,rtmpts,rtmpe,rtmpte,ffrtmphttp,ffrtmpcrypt,srt,"
    "mmsh,mmst,crypto,data"
)
_LATE_S = 0.5  # a file's clock is reset when reading falls this far behind

Rgb = npt.NDArray[np.uint8]


def draw_card(number: int, width: int, height: int) -> Rgb:
    """Draw a test card: seven bars at 75 %, and a white square that circles once in four seconds.

    Returns:
        uint8 (height, width, 3) RGB.
    """
    bars = np.array(_BARS, np.uint8)[np.arange(width) * len(_BARS) // width]
    card = np.broadcast_to(bars, (height, width, 3)).copy()
    side = max(2, min(width, height) // 6)
    angle = 2 * np.pi * number / (4 * _CARD_FPS)
    left = round((width - side) * (0.5 + 0.4 * np.cos(angle)))
    top = round((height - side) * (0.5 + 0.4 * np.sin(angle)))
    card[top : top + side, left : left + side] = 255
    return card


def read_card(width: int, height: int) -> Iterator[Rgb]:
    """Yield the test card in real time, without end."""
    start_s = time.monotonic()
    for number in itertools.count():
        time.sleep(max(0.0, start_s + number / _CARD_FPS - time.monotonic()))
        yield draw_card(number, width, height)


def read_camera(device: str, width: int, height: int) -> Iterator[Rgb]:
    """Yield a camera's frames.

    Args:
        device: its number or, on Linux, its path; "" for the first.

    Raises:
        ValueError: there is no such camera, or it has stopped.
    """
    try:
        import cv2
    except ImportError as error:
        raise ValueError("a camera needs OpenCV: pip install everframe[camera]") from error
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    name = device or "0"
    camera = cv2.VideoCapture(int(name) if name.isdigit() else name)
    if not camera.isOpened():
        raise ValueError(f"there is no camera {name}, or another program has it")
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    while True:
        is_there, picture = camera.read()
        if not is_there:
            raise ValueError(f"the camera {name} has stopped")
        yield load_image(np.ascontiguousarray(picture[..., ::-1]), width, height)


def read_media(place: str, width: int, height: int, fit: str = "cover") -> Iterator[Rgb]:
    """Yield the frames of a stream as they arrive, or those of a file in real time, repeatedly.

    Args:
        place: the path of a video, or an address, which contains "://".
        fit: how frames of another shape fit, one of `runtime.prompts.images.FITS`.

    Raises:
        ValueError: it cannot be opened, has no video, or has ended.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    is_file = "://" not in place
    has_frames = False
    while is_file or not has_frames:
        try:
            with open_video(place) if is_file else _open_address(place) as container:
                if not container.streams.video:
                    raise ValueError("it has no video")
                start_s: float | None = None
                for frame in container.decode(video=0):
                    if is_file and frame.time is not None:
                        start_s = time.monotonic() - frame.time if start_s is None else start_s
                        early_s = start_s + frame.time - time.monotonic()
                        start_s = None if early_s < -_LATE_S else start_s
                        time.sleep(max(0.0, early_s))
                    has_frames = True
                    yield load_image(frame.to_ndarray(format="rgb24"), width, height, fit)
        except (av.FFmpegError, OSError) as error:
            raise ValueError(getattr(error, "strerror", None) or str(error)) from error
        if not has_frames:
            raise ValueError("it has no video")
    raise ValueError("the stream has ended")


def _open_address(url: str) -> Any:
    """Open an address; a playlist from there may refer to other addresses, but not to files of this machine."""
    import av

    return av.open(url, timeout=(_OPEN_S, _READ_S), container_options={"protocol_whitelist": _NETWORK})


def read(spec: str, width: int, height: int, fit: str = "cover") -> Iterator[Rgb]:
    """Yield the frames of an input; raises ValueError with the reason when it ends. `fit`: see `read_media`."""
    kind, _, rest = spec.partition(":")
    if spec == "testcard":
        return read_card(width, height)
    if kind == "webcam" and not rest.startswith("//"):
        return read_camera(rest, width, height)
    return read_media(spec.removeprefix("file://"), width, height, fit)


def main() -> None:
    """Send frames until the input or the parent ends."""
    parent = ParentPipe()
    if (message := parent.receive()) is None:
        return
    parent.exit_with_parent()
    with contextlib.suppress(OSError):  # the parent has ended
        try:
            for frame in read(**message[0]):
                parent.send({}, frame.reshape(-1).data)
        except Exception as error:  # noqa: BLE001 - OpenCV and FFmpeg raise more types than are documented
            parent.send({"error": " ".join(str(error).split()) or type(error).__name__})


if __name__ == "__main__":
    main()
    os._exit(0)  # the thread that waits for the parent would hinder an ordinary exit
