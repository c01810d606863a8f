"""The virtual webcam with a real device: frames read back by another process, and a second start.

Wants Linux with v4l2loopback loaded (its device may be named by EVERFRAME_TEST_WEBCAM) and ffmpeg, which reads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from streaming.errors import SinkError
from streaming.sinks.sink import Frame
from streaming.sinks.webcam_sink import WebcamSink
from tests.streaming.doubles import feed

pytestmark = pytest.mark.live
WIDTH, HEIGHT, FPS, WANTED = 64, 48, 15, 30
_PATIENCE_S = 60.0  # the machine may be an emulated one


def find_device() -> str | None:
    """Return a loopback device, or None."""
    if named := os.environ.get("EVERFRAME_TEST_WEBCAM"):
        return named
    found = sorted(Path("/sys/devices/virtual/video4linux").glob("video*"))
    return f"/dev/{found[0].name}" if found else None


def numbered(number: int) -> np.ndarray:
    """Return an I420 frame that is unlike every other."""
    frame = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    frame[:HEIGHT] = 16 + number % 200
    frame[0, :8] = number >> np.arange(8) & 1
    return frame


def test_another_process_reads_what_was_sent(tmp_path: Path) -> None:
    device = find_device()
    if device is None or not Path(device).exists() or shutil.which("ffmpeg") is None:
        pytest.skip("no v4l2loopback device here (sudo modprobe v4l2loopback exclusive_caps=1), or no ffmpeg")
    sink = WebcamSink(f"webcam:{device}")
    sink.open(feed(WIDTH, HEIGHT, FPS))
    sink.start()
    sink.write(Frame(numbered(0), 0))  # before the first frame it is no camera
    output = tmp_path / "read.yuv"
    reader = subprocess.Popen(
        ["ffmpeg", "-loglevel", "error", "-f", "v4l2", "-i", device, "-frames:v", f"{WANTED}",
         "-f", "rawvideo", output],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    deadline_s, slot = time.monotonic() + _PATIENCE_S, 0
    while reader.poll() is None:
        assert time.monotonic() < deadline_s, "the reader does not end"
        slot += 1
        assert sink.write(Frame(numbered(slot), slot))
        time.sleep(1 / FPS)
    sink.close()
    assert reader.returncode == 0
    found = np.fromfile(output, np.uint8).reshape(-1, HEIGHT * 3 // 2, WIDTH)
    numbers = [next((n for n in range(slot + 1) if np.array_equal(frame, numbered(n))), None) for frame in found]
    assert len(numbers) == WANTED
    assert None not in numbers, "byte for byte what was sent"
    assert numbers == sorted(numbers)  # type: ignore[type-var]
    again = WebcamSink(f"webcam:{device}")
    try:
        again.open(feed(WIDTH, HEIGHT, FPS))
    except SinkError as error:  # v4l2loopback 0.12 with exclusive_caps serves one program per load
        assert "sudo modprobe -r v4l2loopback" in str(error)  # noqa: PT017 - a newer module takes a second one
        print("second start:", error)
    else:
        again.close()
        print("second start: works")
