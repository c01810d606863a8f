"""The webcam with a fake driver, and its two error messages."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streaming.errors import SinkError
from streaming.sinks.sink import Frame
from streaming.sinks.webcam_sink import WebcamSink
from tests.streaming.doubles import feed, numbered


class FakeCamera:
    """Stands in for pyvirtualcam.Camera."""

    device = "/dev/video7"

    def __init__(self, width: int, height: int, fps: float, **options: Any) -> None:
        self.made_with = (width, height, fps, options)
        self.sent: list[np.ndarray] = []
        self.is_closed = False

    def send(self, frame: np.ndarray) -> None:
        if len(self.sent) == 2:
            raise RuntimeError("device vanished")
        self.sent.append(frame)

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A fake pyvirtualcam that makes fake cameras."""
    fake = SimpleNamespace(Camera=FakeCamera, PixelFormat=SimpleNamespace(I420="I420"))
    monkeypatch.setitem(sys.modules, "pyvirtualcam", fake)
    return fake


def test_frames_are_sent_as_they_are(driver: SimpleNamespace) -> None:
    sink = WebcamSink("webcam:/dev/video7")
    sink.open(feed(64, 48, 25))
    assert sink._camera.made_with == (64, 48, 25.0, {"fmt": "I420", "device": "/dev/video7"})
    sink.write(Frame(numbered(1), 0))
    np.testing.assert_array_equal(sink._camera.sent[0], numbered(1))
    sink.close()
    assert sink._camera.is_closed
    assert sink.result() == "camera /dev/video7"


def test_a_camera_that_vanishes_kills_the_sink(driver: SimpleNamespace) -> None:
    sink = WebcamSink("webcam")
    sink.open(feed())
    assert sink._camera.made_with[3]["device"] is None
    for slot in range(2):
        sink.write(Frame(numbered(0), slot))
    with pytest.raises(SinkError, match="device vanished; is the camera still there"):
        sink.write(Frame(numbered(0), 2))


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(SinkError, match=r"^sink webcam needs the extra: pip install everframe\[webcam\]$"):
        WebcamSink("webcam").open(feed())


@pytest.mark.parametrize(("platform", "advice"), [("linux", "v4l2loopback"), ("darwin", "OBS"), ("win32", "OBS")])
def test_without_a_camera(driver: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, platform: str, advice: str) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("'x' backend: no device.\nSee the documentation. Really.")

    driver.Camera = refuse
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(SinkError, match=advice) as caught:
        WebcamSink("webcam:/dev/video99").open(feed())
    assert "needs the virtual camera /dev/video99" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_real_driver_says_the_same_of_a_device_that_is_not_there() -> None:
    pytest.importorskip("pyvirtualcam", reason="the extra webcam is not installed")
    with pytest.raises(SinkError, match="needs the virtual camera /dev/video-of-nobody, and there is none"):
        WebcamSink("webcam:/dev/video-of-nobody").open(feed())


def test_a_camera_that_was_used_before_says_what_to_do(
    driver: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("Device /dev/video10 is not a video output device")

    monkeypatch.setattr(driver, "Camera", refuse)
    with pytest.raises(
        SinkError, match=r"one program each time it is loaded; reload it \(sudo modprobe -r v4l2loopback"
    ):
        WebcamSink("webcam:/dev/video10").open(feed())
