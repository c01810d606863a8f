"""The child process that reads a live input: a camera, an address, a file or a test card -> RGB frames of one size.

python -m streaming.inputs.live_input_child      (started by `streaming.inputs.live_input`)

The first message has spec, width, height, fit and with_sound. It sends height x width x 3 bytes for each frame,
{"at": SECONDS} with int16 samples for each block of sound, and {"error": REASON} before it ends. It is a process
because PyAV holds Python's lock while it connects, and a camera's driver may hang.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.pixels.covering import FrameCover, to_frame
from runtime.prompts.clips import open_video
from runtime.prompts.images import load_image
from streaming.process.child import ParentPipe
from streaming.sound.decoding import Block, Converter, check_sound
from streaming.sound.timeline import RATE

_CARD_FPS = 25
_BARS = ((191, 191, 191), (191, 191, 0), (0, 191, 191), (0, 191, 0), (191, 0, 191), (191, 0, 0), (0, 0, 191))
_OPEN_S, _READ_S = 5.0, 5.0
_NETWORK = (  # FFmpeg's protocols except those that read files of this machine
    "http,https,httpproxy,ftp,tls,tcp,udp,rtp,srtp,rtmp,rtmps,rtmpt,rtmpts,rtmpe,rtmpte,ffrtmphttp,ffrtmpcrypt,srt,"
    "mmsh,mmst,crypto,data"
)
_LATE_S = 0.5  # a file's clock is reset when reading falls this far behind
_EARLY_S = 2.0
_STILL_S = 0.5  # after which a picture that stands still is sent again
_AHEAD_S = 0.3  # by which sound is read before it is to be heard; a file's pictures and sound do not lie side by side

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
    cover = FrameCover(width, height)
    while True:
        is_there, picture = camera.read()
        if not is_there:
            raise ValueError(f"the camera {name} has stopped")
        yield cover.fit(to_frame(np.ascontiguousarray(picture), "bgr24"))


def read_media(
    place: str, width: int, height: int, fit: str = "cover", *, with_sound: bool = False
) -> Iterator[Rgb | Block]:
    """Yield the frames of a stream as they arrive, or those of a file in real time, repeatedly.

    Args:
        place: the path of a video, or an address, which contains "://".
        width, height: of a frame in pixels.
        fit: how frames of another shape fit, one of `runtime.prompts.images.FITS`.
        with_sound: whether to yield the sound, too, as blocks with the time at which each is to be heard. A frame with
            the same time is yielded at that time; a block up to `_AHEAD_S` before.

    Raises:
        ValueError: it cannot be opened, has no video or no sound, or has ended.
    """
    import av

    av.logging.set_level(av.logging.PANIC)
    is_file = "://" not in place
    begins_s: float | None = None
    while True:
        try:
            with open_video(place) if is_file else open_address(place) as container:
                if not container.streams.video:
                    raise ValueError("it has no video")
                if with_sound:
                    check_sound(container)
                passage = _played(container, width, height, fit, begins_s, with_sound=with_sound, is_paced=is_file)
                has_frames, begins_s = yield from passage
        except (av.FFmpegError, OSError) as error:
            raise ValueError(getattr(error, "strerror", None) or str(error)) from error
        if not has_frames:
            raise ValueError("it has no video")
        if not is_file:
            raise ValueError("the stream has ended")


def _played(
    container: Any, width: int, height: int, fit: str, begins_s: float | None, *, with_sound: bool, is_paced: bool
) -> Generator[Rgb | Block, None, tuple[bool, float | None]]:
    """Yield one passage of a file or stream, which begins at a time of the clock, or now.

    Returns:
        Whether it had frames; when the next passage with sound begins, so that there is no gap.
    """
    import av

    converter, has_frames, cover = Converter(), False, FrameCover(width, height)
    picture: Rgb | None = None
    shown_s = 0.0
    ahead_s = _AHEAD_S if with_sound else 0.0
    zero_s: float | None = None  # of the file's time, on the clock
    ends_s = begins_s
    for frame in container.decode(video=0, audio=0) if with_sound else container.decode(video=0):
        now_s = time.monotonic()
        early_s = 0.0 if zero_s is None or frame.time is None else zero_s + frame.time - now_s
        is_far = early_s < -_LATE_S or (early_s > _EARLY_S and not is_paced)  # a stream's clock may jump
        if frame.time is not None and (zero_s is None or is_far):
            is_next = zero_s is None and begins_s is not None and begins_s > now_s
            zero_s = (begins_s if is_next and begins_s is not None else now_s + ahead_s) - frame.time
        if isinstance(frame, av.AudioFrame):
            for samples, moment_s in converter.convert(frame):
                at_s = now_s if zero_s is None else zero_s + moment_s
                ends_s = at_s + len(samples) / RATE
                if is_paced:  # a file's sound may outlast its picture, which then stands still
                    time.sleep(max(0.0, at_s - 2 * _AHEAD_S - now_s))
                    if picture is not None and time.monotonic() - shown_s > _STILL_S:
                        shown_s = time.monotonic()
                        yield picture
                yield samples, at_s
            continue
        has_frames = True
        if (is_paced or with_sound) and zero_s is not None and frame.time is not None:
            time.sleep(max(0.0, zero_s + frame.time - now_s))
        if fit == "cover":
            picture = cover.fit(frame)
        else:
            picture = load_image(frame.to_ndarray(format="rgb24"), width, height, fit)
        shown_s = time.monotonic()
        yield picture
    return has_frames, ends_s


def open_address(url: str) -> Any:
    """Open an address; a playlist from there may refer to other addresses, but not to files of this machine."""
    import av

    return av.open(url, timeout=(_OPEN_S, _READ_S), container_options={"protocol_whitelist": _NETWORK})


def read(spec: str, width: int, height: int, fit: str = "cover", *, with_sound: bool = False) -> Iterator[Rgb | Block]:
    """Yield the frames of an input, and its sound if it is wanted; raises ValueError with the reason when it ends.

    Args:
        spec, width, height, fit, with_sound: as in `read_media`.
    """
    kind, _, rest = spec.partition(":")
    if spec == "testcard":
        return read_card(width, height)
    if kind == "webcam" and not rest.startswith("//"):
        return read_camera(rest, width, height)
    return read_media(spec.removeprefix("file://"), width, height, fit, with_sound=with_sound)


def main() -> None:
    """Send frames until the input or the parent ends."""
    parent = ParentPipe()
    if (message := parent.receive()) is None:
        return
    parent.exit_with_parent()
    with contextlib.suppress(OSError):  # the parent has ended
        try:
            for item in read(**message[0]):
                if isinstance(item, tuple):
                    samples, at_s = item
                    parent.send({"at": at_s}, np.ascontiguousarray(samples).reshape(-1).view(np.uint8).data)
                else:
                    parent.send({}, item.reshape(-1).data)
        except Exception as error:  # noqa: BLE001 - OpenCV and FFmpeg raise more types than are documented
            parent.send({"error": " ".join(str(error).split()) or type(error).__name__})


if __name__ == "__main__":
    main()
    os._exit(0)  # the thread that waits for the parent would hinder an ordinary exit
