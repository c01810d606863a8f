"""No allocation per frame grows with the frame size, in the runtime and on the way to the sinks."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from runtime import Generator
from streaming.output.fan_out import FanOut
from streaming.sinks.sink import Frame, Sink, StreamFormat
from tests import tiny

SIZES = ((128, 96), (256, 192))  # four times the pixels
SLACK = 8192  # bytes: below half of the smallest frame


class Taking(Sink):
    """Takes frames, once it may, and forgets them."""

    name = "taking"

    def __init__(self) -> None:
        self.may_take = threading.Event()
        self.may_take.set()

    def open(self, feed: StreamFormat) -> None:
        """Nothing to open."""

    def write(self, frame: Frame) -> bool:
        """Forget it."""
        return self.may_take.wait(10)

    def close(self) -> None:
        """Nothing to close."""


def peak_of(step: Callable[[], object], warm_up: int = 40, frames: int = 51) -> int:
    """Return by how many bytes Python's memory grows within a call: the median of many, after a warm-up."""
    for _ in range(warm_up):
        step()
    gc.collect()
    tracemalloc.start()
    try:
        growth = []
        for _ in range(frames):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            step()
            growth.append(tracemalloc.get_traced_memory()[1] - before)
        return sorted(growth)[frames // 2]  # once in a while a pool grows to where it will stay
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_runtime_allocates_no_memory_that_grows_with_the_frame(tmp_path: Path, engine: str) -> None:
    peaks = []
    for width, height in SIZES:
        bundle = tiny.build(tmp_path / f"{width}", width=width, height=height)
        with Generator.open(bundle, engine=engine, pixels="i420", threads=1) as generator:
            peaks.append(peak_of(lambda generator=generator: next(generator)))
    assert peaks[1] < SIZES[0][0] * SIZES[0][1] * 3 // 2  # not even one small frame
    assert abs(peaks[1] - peaks[0]) < SLACK


def test_the_fan_out_allocates_no_memory_that_grows_with_the_frame() -> None:
    peaks = []
    for width, height in SIZES:
        picture = np.zeros((height * 3 // 2, width), np.uint8)
        sink = Taking()
        sink.may_take.clear()
        fan_out = FanOut([sink])
        fan_out.open(StreamFormat("a show", width, height, Fraction(30), "i420", dict))
        fan_out.wait_ready()
        slots = iter(range(1000))

        def put(fan_out: FanOut = fan_out, picture: np.ndarray = picture, slots: object = slots) -> None:
            fan_out.put(picture, next(slots))  # type: ignore[call-overload]

        for _ in range(10):  # as many frames are under way as there ever will be
            put()
        sink.may_take.set()
        peaks.append(peak_of(put, warm_up=200))
        fan_out.close()
    assert max(peaks) < SLACK


def test_a_frame_that_is_still_held_is_never_overwritten() -> None:
    held: list[Frame] = []

    class Holding(Taking):
        """Keeps every frame, or a row of it."""

        def write(self, frame: Frame) -> bool:
            """Keep it."""
            held.append(frame if len(held) % 2 else Frame(frame.picture[3:4], frame.slot))
            return True

    fan_out = FanOut([Holding()])
    fan_out.open(StreamFormat("a show", 32, 32, Fraction(30), "i420", dict))
    fan_out.wait_ready()
    for number in range(100):
        fan_out.put(np.full((48, 32), number, np.uint8), number)
    fan_out.close()
    assert len(held) >= 2
    assert all((frame.picture == frame.slot).all() for frame in held)


def test_memory_is_reused_once_a_frame_is_released() -> None:
    addresses = set()

    class Looking(Taking):
        """Notes where frames lie."""

        def write(self, frame: Frame) -> bool:
            """Note it."""
            addresses.add(frame.picture.ctypes.data)
            assert not frame.picture.flags.writeable
            return True

    fan_out = FanOut([Looking()])
    fan_out.open(StreamFormat("a show", 32, 32, Fraction(30), "i420", dict))
    fan_out.wait_ready()
    for number in range(300):
        fan_out.put(np.full((48, 32), number % 256, np.uint8), number)
    fan_out.close()
    assert 1 <= len(addresses) <= 8
