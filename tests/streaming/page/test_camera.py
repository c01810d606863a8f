"""A device as the show's camera through WebRTC: aiortc sends what a browser would, and offers that are none."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import aiortc
import av
import numpy as np
import pytest

from streaming.control.controller import ShowController
from streaming.inputs.page_camera import LatestFrame, PageCamera
from streaming.live.webrtc import make_peer
from streaming.page.camera import check
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, numbered
from tests.streaming.page.served import Page

pytestmark = pytest.mark.live
GOOD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 108\r\na=sendonly\r\n"


class NumberedFrames(LatestFrame):
    """Notes the number of each frame that arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    def put(self, frame: np.ndarray) -> None:
        self.numbers.append(round(float(frame.mean()) * 219 / 255 / 4))
        super().put(frame)


class Pictures(aiortc.VideoStreamTrack):
    """Frames that tell a number, 30 a second.

    Args:
        number: returns the number of the next one.
    """

    def __init__(self, number: Callable[[], int]) -> None:
        super().__init__()
        self.number = number

    async def recv(self) -> Any:
        frame = av.VideoFrame.from_ndarray(numbered(self.number()), "yuv420p")
        frame.pts, frame.time_base = await self.next_timestamp()
        return frame


class Tone(aiortc.AudioStreamTrack):
    """A tone of 440 Hz at a quarter of full scale, left only."""

    def __init__(self) -> None:
        super().__init__()
        self.num = 0

    async def recv(self) -> Any:
        await super().recv()  # for its pace
        times = (np.arange(960) + self.num * 960) / 48_000
        samples = np.zeros((960, 2), np.int16)
        samples[:, 0] = 8192 * np.sin(2 * math.pi * 440 * times)
        block = av.AudioFrame.from_ndarray(samples.reshape(1, -1), "s16", "stereo")
        block.sample_rate, block.pts, block.time_base = 48_000, self.num * 960, Fraction(1, 48_000)
        self.num += 1
        return block


class Show:
    """A page whose show has `--input page`."""

    def __init__(self) -> None:
        self.frames, self.clock, controller = NumberedFrames(), FakeClock(), ShowController()
        self.camera = PageCamera(64, 48, frames=self.frames, clock=self.clock)
        controller.input = self.camera
        self.page = Page(controller)
        self.until(self.is_ready)

    def is_ready(self) -> bool:
        """Return whether the child has loaded what it needs."""
        try:
            self.camera.answer(GOOD, is_local=True)
        except OSError:
            return False
        except ValueError:
            return True
        raise AssertionError("an offer without a codec was answered")

    def until(self, is_true: Callable[[], Any]) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not is_true():
            assert time.monotonic() < deadline_s, self.camera.to_json()
            time.sleep(0.01)

    @property
    def number(self) -> int:
        """The number of the device that is the camera."""
        return int(self.camera.to_json()["camera"])

    def close(self) -> None:
        self.page.close()
        self.camera.close()


class Device:
    """One that wants to be the camera."""

    def __init__(self, show: Show, *tracks: Any) -> None:
        self.peer: Any = None
        self.number = 0
        self._show = show
        show.page.do(self._connect(tracks))

    async def _connect(self, tracks: tuple[Any, ...]) -> None:
        self.peer = make_peer()
        for track in tracks:
            self.peer.addTransceiver(track, direction="sendonly")
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer = {"type": "offer", "sdp": self.peer.localDescription.sdp}
        status, answer = await asyncio.to_thread(self._show.page.ask, offer, "/api/camera")
        assert status == 200, answer
        self.number = answer["id"]
        await self.peer.setRemoteDescription(aiortc.RTCSessionDescription(answer["sdp"], answer["type"]))

    def leave(self) -> None:
        self._show.page.do(self.peer.close())


@pytest.fixture
def show() -> Iterator[Show]:
    show = Show()
    yield show
    show.close()


def test_frames_arrive_in_order_and_stop_with_the_device(show: Show) -> None:
    numbers = show.frames.numbers
    device = Device(show, Pictures(lambda: min(20, max(numbers, default=-1) + 1)))  # the next one when one has arrived
    show.until(lambda: 20 in numbers)
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(21))
    assert show.number == device.number
    assert show.camera.to_json()["is_up"]
    assert show.camera.picture().shape == (48, 64, 3)
    device.leave()
    show.until(lambda: show.number == 0)
    show.clock.advance(5.0)
    assert show.camera.to_json()["state"].startswith("lost for 5 s")
    again = Device(show, Pictures(lambda: 10))
    show.until(lambda: show.camera.to_json()["is_up"])
    assert show.number == again.number > device.number
    again.leave()


def test_another_device_takes_over(show: Show) -> None:
    first = Device(show, Pictures(lambda: 5))
    show.until(lambda: 5 in show.frames.numbers)
    second = Device(show, Pictures(lambda: 50))
    show.until(lambda: 50 in show.frames.numbers)
    assert show.number == second.number > first.number
    show.until(lambda: first.peer.connectionState == "closed")
    since = show.frames.numbers.index(50)
    show.until(lambda: len(show.frames.numbers) > since + 10)
    assert set(show.frames.numbers[since:]) == {50}
    second.leave()
    first.leave()


def test_sound_arrives_with_its_time(show: Show) -> None:
    heard: list[tuple[np.ndarray, float]] = []
    show.camera.on_sound = lambda samples, at_s: heard.append((samples, at_s))
    before_s = time.monotonic()
    device = Device(show, Tone(), Pictures(lambda: 5))
    show.until(lambda: len(heard) > 30 and show.frames.numbers)
    now_s = time.monotonic()
    for samples, at_s in heard:
        assert samples.shape == (960, 2)
        assert samples.dtype == np.int16
        assert before_s < at_s < now_s
    sound = np.concatenate([samples for samples, _ in heard[10:30]]).astype(float)
    spectrum = np.abs(np.fft.rfft(sound, axis=0))
    assert abs(np.argmax(spectrum[:, 0]) * 48_000 / len(sound) - 440) < 3
    assert 4000 < sound[:, 0].std() < 7000
    assert sound[:, 1].std() < 500
    device.leave()


def test_a_child_that_is_killed_is_replaced(show: Show) -> None:
    device = Device(show, Pictures(lambda: 5))
    show.until(lambda: show.frames.numbers)
    assert show.camera._child is not None
    os.kill(show.camera._child.pid, signal.SIGKILL)
    show.until(lambda: show.number == 0)
    again = Device(show, Pictures(lambda: 50))
    show.until(lambda: 50 in show.frames.numbers)
    assert show.number == again.number
    again.leave()
    device.leave()


def test_what_is_no_offer_is_refused(show: Show) -> None:
    for body in (b"", b"[]", b"an offer", {"type": "answer", "sdp": GOOD}, {"type": "offer", "sdp": 3}):
        status, answer = show.page.ask(body, "/api/camera")
        assert (status, list(answer)) == (422, ["error"]), body
    for sdp, why in (
        (GOOD, "neither VP8 nor H.264"),
        (GOOD + "a=rtpmap:108 VP8/90000\r\n", "the offer cannot be answered: "),
        (GOOD[4:] + "a=rtpmap:108 VP8/90000\r\na=\0\r\n", "the offer cannot be answered: "),
    ):
        status, answer = show.page.ask({"type": "offer", "sdp": sdp}, "/api/camera")
        assert status == 422
        assert why in answer["error"]
        assert len(answer["error"]) < 300
    assert show.page.ask(b" " * (2**16 + 1), "/api/camera")[0] == 413
    assert show.number == 0


def test_a_show_with_another_input_takes_no_camera() -> None:
    class Controller(ShowController):
        is_ready = False

        def state(self) -> dict[str, Any]:
            return {**super().state(), "is_ready": self.is_ready}

    controller = Controller()
    page = Page(controller)
    try:
        status, answer = page.ask({"type": "offer", "sdp": GOOD}, "/api/camera")
        assert (status, answer["error"]) == (503, "the show has not begun; try again in a moment")
        controller.is_ready = True
        status, answer = page.ask({"type": "offer", "sdp": GOOD}, "/api/camera")
        assert status == 404
        assert answer["error"] == "this show takes no camera from the page: start it with --input page"
        assert "/api/camera" in page.ask(None, "/api/openapi.json")[1]["paths"]
    finally:
        page.close()


SOUND = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=sendonly\r\n"


@pytest.mark.parametrize(
    ("sdp", "why"),
    [
        ("v=0\r\n", "this offer has nothing"),
        ("v=0\r\n" + SOUND, "this offer has audio"),
        (GOOD + GOOD[GOOD.index("m=") :], "one video, and at most one sound; this offer has video, video"),
        (GOOD + SOUND + SOUND, "this offer has video, audio, audio"),
        (GOOD + "m=application 9 x\r\n", "this offer has video, application"),
        (GOOD.replace("sendonly", "recvonly"), "a camera's offer is sendonly, this one is recvonly"),
        (GOOD + 65 * "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n", "at most 64 candidates"),
        (GOOD + "a=mid:0\rm=application 9 x\r\n", "end with a line feed"),
        (GOOD + "a=x\u2028a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n", "end with a line feed"),
        ("\ud800", "half of a surrogate pair"),
    ],
)
def test_an_offer_sends_one_video_and_perhaps_sound(sdp: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check({"type": "offer", "sdp": sdp})
    for good in (GOOD, GOOD + SOUND, GOOD.replace("a=sendonly\r\n", "a=sendrecv\r\n")):
        assert check({"type": "offer", "sdp": good}) == good
