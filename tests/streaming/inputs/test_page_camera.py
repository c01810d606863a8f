"""The page's camera: what its child sends, what waits and what does not, and the show without a camera."""

from __future__ import annotations

import asyncio
import queue
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from runtime.pixels.covering import FrameCover
from streaming.inputs import page_camera, page_camera_child
from streaming.inputs.page_camera import LatestFrame, PageCamera
from streaming.inputs.page_camera_child import Cameras, Outbox, SoundClock, fit_bounded
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, card_error, colour_card


def grey(level: int) -> np.ndarray:
    return np.full((4, 6, 3), level, np.uint8)


class ScriptedChild:
    """A child that answers offers as told, and sends what the test gives it."""

    def __init__(self, module: str, config: dict[str, Any], **_: Any) -> None:
        self.config, self.sent = config, list[dict[str, Any]]()
        self.messages: queue.Queue[Any] = queue.Queue()
        self.reply: dict[str, Any] | None = {"sdp": "the answer"}
        self.is_over = False
        children.append(self)

    def send(self, fields: dict[str, Any], data: bytes = b"", *, timeout_s: float = 5.0) -> None:
        self.sent.append(fields)
        self.messages.put(None if self.reply is None else ({"id": fields["id"], **self.reply}, b""))

    def receive(self, timeout_s: float | None = None) -> Any:
        if (message := self.messages.get()) is None:
            self.is_over = True
            raise ConnectionAbortedError("the child process has ended")
        return message

    def has_ended(self) -> bool:
        return self.is_over

    def close(self) -> None:
        self.messages.put(None)


children: list[ScriptedChild] = []


@pytest.fixture(autouse=True)
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    children.clear()
    monkeypatch.setattr(page_camera, "ChildProcess", ScriptedChild)


def test_there_is_no_picture_before_a_camera_and_the_last_one_stays_after_it() -> None:
    clock = FakeClock()
    with closing(PageCamera(6, 4, stand_in=grey(77), clock=clock)) as camera:
        first = {"name": "page", "state": "no camera yet", "is_up": False, "frames": 0, "kind": "page", "camera": 0}
        assert camera.to_json() == first
        assert camera.frame()[0, 0, 0] == 77
        with pytest.raises(ValueError, match="the input page has no picture: no frame has arrived yet"):
            camera.picture()
        [child] = children
        assert child.sent == []
        assert camera.answer("an offer", is_local=True) == (1, "the answer")
        assert child.config == {"width": 6, "height": 4}
        assert child.sent == [{"id": 1, "sdp": "an offer", "is_local": True}]
        child.messages.put(({"camera": 1}, b""))
        child.messages.put(({"frame": 1}, grey(10).tobytes()))
        assert camera.wait_picture(WAIT_S)[0, 0, 0] == 10
        assert camera.to_json() == {**first, "state": "on", "is_up": True, "frames": 1, "camera": 1}
        assert camera.answer("another", is_local=False) == (2, "the answer")
        child.messages.put(({"camera": 2}, b""))
        child.messages.put(({"frame": 1}, grey(20).tobytes()))
        with camera._news:
            assert camera._news.wait_for(lambda: camera.num_frames == 2, WAIT_S)
        clock.advance(1.0)
        assert camera.to_json()["state"] == "frozen for 1 s"
        assert camera.frame()[0, 0, 0] == 20
        clock.advance(4.0)
        assert camera.to_json()["state"] == "lost for 5 s"
        assert camera.frame()[0, 0, 0] == 77


def test_of_frames_that_wait_the_latest_is_used() -> None:
    frames = LatestFrame()
    assert frames.read(0.0) is None
    for level in (1, 2, 3):
        frames.put(grey(level))
    frame = frames.read(0.0)
    assert frame is not None
    assert frame[0, 0, 0] == 3
    assert frames.read(0.0) is None


def test_sound_comes_with_its_time() -> None:
    heard: queue.Queue[tuple[np.ndarray, float]] = queue.Queue()
    samples = np.arange(960, dtype=np.int16).reshape(480, 2)
    message = ({"sound": 480, "at": 12.5}, samples.tobytes())
    with closing(PageCamera(6, 4, clock=FakeClock())) as camera:
        camera.answer("an offer", is_local=True)
        children[0].messages.put(message)  # nobody listens: it is discarded
        camera.answer("an offer", is_local=True)  # the message before has been used
        camera.on_sound = lambda block, at_s: heard.put((block, at_s))
        children[0].messages.put(message)
        block, at_s = heard.get(timeout=WAIT_S)
        assert np.array_equal(block, samples)
        assert block.dtype == np.int16
        assert at_s == 12.5


def test_an_offer_that_cannot_be_answered_says_why() -> None:
    camera = PageCamera(6, 4, clock=FakeClock())
    camera.answer("an offer", is_local=True)
    children[0].reply = {"error": "the browser has no Opus"}
    with pytest.raises(ValueError, match=r"^the browser has no Opus$"):
        camera.answer("an offer", is_local=True)
    children[0].messages.put(({"camera": 1}, b""))
    children[0].reply = None  # it ends
    with pytest.raises(ConnectionAbortedError):
        camera.answer("an offer", is_local=True)
    assert camera.to_json()["camera"] == 0
    assert camera.answer("an offer", is_local=True) == (4, "the answer"), "another one takes its place"
    assert len(children) == 2
    camera.close()
    with pytest.raises(ConnectionAbortedError, match="the show has ended"):
        camera.answer("an offer", is_local=True)


def test_aiortc_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_camera.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--input page needs aiortc: pip install everframe\[webrtc\]"):
        PageCamera(6, 4)


class Parent:
    """Keeps what the child sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[dict[str, Any], bytes]] = []

    def send(self, fields: dict[str, Any], data: Any = b"") -> None:
        self.sent.append((fields, bytes(data)))


def plain(level: int, width: int = 6, height: int = 4) -> Any:
    return av.VideoFrame.from_ndarray(np.full((height, width, 3), level, np.uint8), format="rgb24")


def test_the_child_sends_the_newest_frame_and_all_words_and_sound() -> None:
    parent = Parent()
    outbox = Outbox(parent, FrameCover(6, 4))  # type: ignore[arg-type]
    block = av.AudioFrame.from_ndarray(np.arange(8, dtype=np.int16)[np.newaxis], "s16", "stereo")
    block.pts = 0
    outbox.say({"camera": 3})
    for level in (1, 2, 3):
        outbox.show(plain(level))
    for _ in range(60):
        outbox.play(block)
    outbox.send()
    assert parent.sent[0] == ({"camera": 3}, b"")
    assert [fields["sound"] for fields, _ in parent.sent[1:-1]] == [4] * 50, "a second of sound"
    assert np.frombuffer(parent.sent[1][1], np.int16).tolist() == list(range(8))
    assert parent.sent[-1] == ({"frame": 1}, grey(3).tobytes())
    outbox.show(plain(4))
    outbox.send()
    assert parent.sent[-1] == ({"frame": 2}, grey(4).tobytes())


def test_sound_that_arrives_unevenly_has_even_times() -> None:
    clock, first = SoundClock(), 2**32 - 3 * 960
    delays_s = [0.03, 0.0, 0.2, 0.05, 0.0, 0.3, 0.01, 0.0]
    times = [
        clock.start_s((first + index * 960) % 2**32, 960, 100 + 0.02 * (index + 1) + delay_s)
        for index, delay_s in enumerate(delays_s)
    ]
    assert times[0] == pytest.approx(100.03), "nothing better is known yet"
    expected = [100 + 0.02 * index for index in range(1, 8)]
    assert times[1:] == pytest.approx(expected, abs=2e-4)
    assert clock.start_s(77, 960, 500.0) == pytest.approx(499.98), "another device"
    slow = [clock.start_s(77 + index * 960, 960, 500.0 + index * 0.0200002) for index in range(1, 5000)]
    assert slow[-1] == pytest.approx(500 + 4999 * 0.0200002 - 0.02, abs=1e-3), "a clock that is slow is followed"


def test_frames_are_cropped_around_their_centre() -> None:
    cover = FrameCover(128, 96)
    card = av.VideoFrame.from_ndarray(colour_card(256, 192), format="rgb24")
    found = cover.fit(card)
    assert card_error(found) <= 2
    wide = np.zeros((96, 256, 3), np.uint8)
    wide[:, 64:192] = colour_card(128, 96)
    found = cover.fit(av.VideoFrame.from_ndarray(wide, format="rgb24"))
    assert found.shape == (96, 128, 3)
    assert card_error(found) <= 2
    assert cover.fit(plain(9, 2000, 10)).shape == (96, 128, 3), "cropped first, as the whole would be too large"
    assert fit_bounded(cover, plain(1, 4098, 2048)) is None
    assert fit_bounded(cover, plain(1, 100, 20)) is None


class Peer:
    """A connection whose state the test changes."""

    def __init__(self) -> None:
        self.connectionState = "new"
        self.handlers: dict[str, Any] = {}
        self.is_closed = False
        self.localDescription = SimpleNamespace(sdp="answer")

    def on(self, event: str, handler: Any) -> None:
        self.handlers[event] = handler

    def become(self, state: str) -> None:
        self.connectionState = state
        self.handlers["connectionstatechange"]()

    async def setRemoteDescription(self, _: Any) -> None: ...

    async def createAnswer(self) -> None: ...

    async def setLocalDescription(self, _: Any) -> None: ...

    async def close(self) -> None:
        self.is_closed = True


OFFER = "v=0\r\nm=video 9 x 97\r\na=rtpmap:97 VP8/90000\r\n"


def test_the_camera_is_the_device_that_connected_last(monkeypatch: pytest.MonkeyPatch) -> None:
    peers: list[Peer] = []
    said: list[dict[str, Any]] = []
    seen: list[str] = []

    def make() -> Peer:
        peers.append(Peer())
        return peers[-1]

    async def check() -> None:
        outbox = SimpleNamespace(say=said.append, show=seen.append, play=seen.append)
        cameras = Cameras(outbox)  # type: ignore[arg-type]
        assert [await cameras.answer(number, OFFER) for number in (1, 2, 3)] == ["answer"] * 3
        first, second, third = peers
        assert said == [], "one that has not connected changes nothing"
        first.become("connected")
        second.become("connecting")
        cameras._take(first, "video", "a frame of the first")
        second.become("connected")
        first.become("closed")
        cameras._take(first, "video", "too late")
        cameras._take(second, "video", "a frame of the second")
        cameras._take(second, "audio", "sound of the second")
        third.become("failed")
        assert said == [{"camera": 1}, {"camera": 2}]
        second.become("closed")
        assert said[-1] == {"camera": 0}
        assert seen == ["a frame of the first", "a frame of the second", "sound of the second"]
        await asyncio.gather(*cameras._tasks)
        assert [peer.is_closed for peer in peers] == [True] * 3
        for number in range(5):
            await cameras.answer(number, OFFER)
        with pytest.raises(ValueError, match="too many devices want to be the camera"):
            await cameras.answer(6, OFFER)

    monkeypatch.setattr(page_camera_child, "make_peer", make)
    monkeypatch.setattr(page_camera_child, "receive", lambda peer, kind: None)
    asyncio.run(check())


@pytest.mark.parametrize(
    ("offer", "why"),
    [
        (OFFER.replace("VP8", "VP9"), "the browser has neither VP8 nor H.264"),
        (OFFER + "m=audio 9 x 0\r\na=rtpmap:0 PCMU/8000\r\n", "the browser has no Opus"),
    ],
)
def test_codecs_that_are_not_decoded_are_refused(offer: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    peer = Peer()
    monkeypatch.setattr(page_camera_child, "make_peer", lambda: peer)
    monkeypatch.setattr(page_camera_child, "receive", lambda peer, kind: None)

    async def check() -> None:
        cameras = Cameras(SimpleNamespace())  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=why):
            await cameras.answer(1, offer)
        assert cameras._numbers == {}

    asyncio.run(check())
    assert peer.is_closed
