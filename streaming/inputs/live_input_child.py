"""The child process that reads a live input: a camera, an address, a file or a test card -> RGB frames of one size.

python -m streaming.inputs.live_input_child      (started by `streaming.inputs.live_input`, which holds the other end)

The first line of standard input is JSON: spec, width, height. Standard output is frames, height x width x 3 bytes each,
as they come. What goes wrong is one line on standard error, and exit status 1. In a process of its own, since PyAV
holds Python's lock while it connects, and a camera's driver may hang.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.prompts.clips import open_video
from runtime.prompts.images import load_image

_CARD_FPS = 25
_BARS = ((191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191))
_OPEN_S, _READ_S = 5.0, 5.0
_NETWORK = (  # FFmpeg's protocols without those that read files of this machine
    "http,https,httpproxy,ftp,tls,tcp,udp,rtp,srtp,rtmp,rtmps,rtmpt,rtmpts,rtmpe,rtmpte,ffrtmphttp,ffrtmpcrypt,srt,"
    "mmsh,mmst,crypto,data"
)
_LATE_S = 0.5  # a file's clock begins anew when reading it has fallen that far behind

Rgb = npt.NDArray[np.uint8]


def draw_card(number: int, width: int, height: int) -> Rgb:
    """Draw a test card: seven bars at 75 %, and a white square that goes around once in four seconds.

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
    """Yield the test card, for ever, in its own time."""
    start_s = time.monotonic()
    for number in itertools.count():
        time.sleep(max(0.0, start_s + number / _CARD_FPS - time.monotonic()))
        yield draw_card(number, width, height)


def read_camera(device: str, width: int, height: int) -> Iterator[Rgb]:
    """Yield what a camera sees.

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


def read_media(place: str, width: int, height: int) -> Iterator[Rgb]:
    """Yield the pictures of a stream as they come, and those of a file in its own time, over and over.

    Args:
        place: the path of a video, or an address that FFmpeg opens, which has "://" in it.

    Raises:
        ValueError: it cannot be opened, has no pictures, or has broken off.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    is_file = "://" not in place
    is_anything = False
    while is_file or not is_anything:
        try:
            with open_video(place) if is_file else _open_address(place) as container:
                if not container.streams.video:
                    raise ValueError("it has no pictures")
                start_s: float | None = None
                for frame in container.decode(video=0):
                    if is_file and frame.time is not None:
                        start_s = time.monotonic() - frame.time if start_s is None else start_s
                        early_s = start_s + frame.time - time.monotonic()
                        start_s = None if early_s < -_LATE_S else start_s
                        time.sleep(max(0.0, early_s))
                    is_anything = True
                    yield load_image(frame.to_ndarray(format="rgb24"), width, height)
        except (av.FFmpegError, OSError) as error:
            raise ValueError(getattr(error, "strerror", None) or str(error)) from error
        if not is_anything:
            raise ValueError("it has no pictures")
    raise ValueError("the stream has ended")


def _open_address(url: str) -> Any:
    """Open an address; what comes from there may name other addresses, and no files of this machine."""
    import av

    return av.open(url, timeout=(_OPEN_S, _READ_S), container_options={"protocol_whitelist": _NETWORK})


def read(spec: str, width: int, height: int) -> Iterator[Rgb]:
    """Yield the frames of an input; raises ValueError when there are no more."""
    kind, _, rest = spec.partition(":")
    if spec == "testcard":
        return read_card(width, height)
    if kind == "webcam" and not rest.startswith("//"):
        return read_camera(rest, width, height)
    return read_media(spec.removeprefix("file://"), width, height)


def main() -> int:
    """Write frames until nobody reads them any more."""
    wish = json.loads(sys.stdin.readline())
    try:
        for frame in read(wish["spec"], wish["width"], wish["height"]):
            rest = frame.reshape(-1).data
            while rest:
                rest = rest[os.write(1, rest) :]
    except ValueError as error:
        print(" ".join(str(error).split()), file=sys.stderr)
    except BrokenPipeError:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
