"""What the streaming tests share: feeds, frames that can be told apart, a colour card, and a sink that does as told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from streaming.sinks.sink import Frame, Picture, Sink, StreamFormat

WAIT_S = 30.0  # how long a test waits for something that takes milliseconds, before it calls it a failure
CARD = np.array(
    [
        [[255, 255, 255], [0, 0, 0], [128, 128, 128], [230, 60, 30]],
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [40, 90, 200]],
        [[255, 255, 0], [0, 255, 255], [255, 0, 255], [200, 180, 90]],
    ],
    np.uint8,
)


def feed(width: int = 64, height: int = 48, fps: Fraction | int = 30, pixels: str = "i420") -> StreamFormat:
    """Return a feed without statistics."""
    return StreamFormat("a show", width, height, Fraction(fps), pixels, dict)


def to_i420(rgb: np.ndarray) -> Picture:
    """Convert by the formulas of ITU-R BT.709, limited range, chroma averaged over 2 x 2: independent of swscale."""
    height, width, _ = rgb.shape
    red, green, blue = np.moveaxis(rgb / 255.0, 2, 0)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [16 + 219 * luma]
    for difference in ((blue - luma) / 1.8556, (red - luma) / 1.5748):
        planes.append(128 + 224 * difference.reshape(height // 2, 2, width // 2, 2).mean((1, 3)))
    values = np.concatenate([plane.ravel() for plane in planes])
    return np.round(values).astype(np.uint8).reshape(height * 3 // 2, width)


def colour_card(width: int, height: int) -> np.ndarray:
    """Return an RGB picture of 4 x 3 fields, the colours of CARD."""
    return CARD.repeat(height // 3, 0).repeat(width // 4, 1)


def card_error(rgb: np.ndarray) -> float:
    """Return by how much the middle of the worst field differs from its colour, of 255."""
    height, width, _ = rgb.shape
    rows, columns = (np.arange(3) * 2 + 1) * height // 6, (np.arange(4) * 2 + 1) * width // 8
    return float(np.abs(rgb[np.ix_(rows, columns)].astype(int) - CARD).max())


def numbered(number: int, width: int = 64, height: int = 48) -> Picture:
    """Return an I420 frame of one grey that tells its number, 0 to 54, through any lossy codec."""
    frame = np.full((height * 3 // 2, width), 128, np.uint8)
    frame[:height] = 16 + 4 * number
    return frame


def number_of(luma: np.ndarray) -> int:
    """Read the number of a decoded frame."""
    return round((float(luma.mean()) - 16) / 4)


def endless(width: int = 64, height: int = 48) -> Iterator[Picture]:
    """Yield numbered frames through one buffer that is overwritten, as a generator's is."""
    buffer = np.empty((height * 3 // 2, width), np.uint8)
    number = 0
    while True:
        buffer[:] = numbered(number % 55, width, height)
        number += 1
        yield buffer


def decode(path: Path | str, **options: Any) -> tuple[list[Any], int]:
    """Return the decoded video frames and the number of audio frames of a file or stream."""
    video, num_audio = [], 0
    with av.open(str(path), **options) as container:
        for packet in container.demux():
            for frame in packet.decode():
                if isinstance(frame, av.VideoFrame):
                    video.append(frame)
                else:
                    num_audio += 1
    return video, num_audio


def closed_port() -> int:
    """Return a TCP port of this machine that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class ScriptedSink(Sink):
    """A sink that keeps what it gets and fails where it is told to.

    Args:
        name: its name.
        faults: step ("open", "start", "write", "close") -> what it raises.
        hold: if given, each write waits for a permit.
    """

    close_s = WAIT_S

    def __init__(
        self, name: str = "sink", faults: dict[str, Exception] | None = None, hold: threading.Semaphore | None = None
    ) -> None:
        self.name = name
        self.calls: list[str] = []
        self.frames: list[Frame] = []
        self.has_written = threading.Semaphore(0)
        self.is_writing = threading.Semaphore(0)
        self._faults = faults or {}
        self._hold = hold

    def open(self, feed: StreamFormat) -> None:
        self._do("open")

    def start(self) -> None:
        self._do("start")

    def write(self, frame: Frame) -> bool:
        self.is_writing.release()
        if self._hold is not None:
            assert self._hold.acquire(timeout=WAIT_S)
        if "write" in self._faults:
            raise self._faults["write"]
        self.frames.append(frame)
        self.has_written.release()
        return True

    def close(self) -> None:
        self._do("close")

    def discard(self) -> None:
        self._do("discard")

    def _do(self, step: str) -> None:
        self.calls.append(step)
        if step in self._faults:
            raise self._faults[step]
