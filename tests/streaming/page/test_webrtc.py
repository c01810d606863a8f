"""The page's picture through WebRTC: a real peer that decodes it, and offers that are none."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import aiortc
import numpy as np
import pytest

from streaming.live.webrtc import make_peer, offer_loopback
from streaming.page import webrtc as page_webrtc
from streaming.page.viewers import MAX_VIEWERS
from streaming.page.webrtc import check
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import Frame, StreamFormat
from streaming.sound.sound import Sound
from streaming.sound.timeline import RATE
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, card_error, colour_card, to_i420

pytestmark = pytest.mark.live
CARD = to_i420(colour_card(128, 96))
GOOD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 108\r\n"


class Page:
    """A page sink that is on air, and an event loop for those who watch it."""

    def __init__(self, sound: Sound | None = None) -> None:
        offer_loopback(alone=True)
        self.sink = PageSink("http://127.0.0.1:0")
        self.sink.open(StreamFormat("a show", 128, 96, Fraction(30), "i420", dict, sound=sound))
        self.sink.start()
        self.port = int(self.sink.name.rpartition(":")[2])
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.slot = 0

    def ask(self, body: Any, path: str = "/api/webrtc") -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
            connection.request("POST" if data is not None else "GET", path, data)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def do(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    def show_until(self, is_true: Callable[[], Any]) -> None:
        """Show frames, until something is true."""
        deadline_s = time.monotonic() + WAIT_S
        while not is_true():
            assert self.sink.write(Frame(CARD, self.slot))
            self.slot += 1
            assert time.monotonic() < deadline_s, self.sink.state()

    def close(self) -> None:
        self.sink.close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()


class Viewer:
    """One who watches through WebRTC."""

    def __init__(self, page: Page, kinds: Sequence[str] = ("video",)) -> None:
        self.frames: list[Any] = []
        self.heard: list[np.ndarray] = []
        self._kinds = kinds
        self._tasks: list[Any] = []
        self._page = page
        self._peer: Any = None
        page.do(self._connect())

    async def _connect(self) -> None:
        self._peer = make_peer()
        for kind in self._kinds:
            self._peer.addTransceiver(kind, direction="recvonly")
        self._peer.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._receive(track))))
        await self._peer.setLocalDescription(await self._peer.createOffer())
        offer = {"type": "offer", "sdp": self._peer.localDescription.sdp}
        status, answer = await asyncio.to_thread(self._page.ask, offer)
        assert status == 200, answer
        await self._peer.setRemoteDescription(aiortc.RTCSessionDescription(answer["sdp"], answer["type"]))

    async def _receive(self, track: Any) -> None:
        try:
            while True:
                frame = await track.recv()
                if track.kind == "video":
                    self.frames.append(frame)
                else:
                    self.heard.append(frame.to_ndarray().reshape(-1, 2)[:, 0])
        except aiortc.mediastreams.MediaStreamError:
            return

    def leave(self) -> None:
        self._page.do(self._peer.close())


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


def test_two_peers_see_the_picture_in_its_colours(page: Page) -> None:
    assert page.sink.state() == "0 watching"
    first = Viewer(page)
    page.show_until(lambda: len(first.frames) > 20)
    assert page.sink.state() == "1 watching"
    second = Viewer(page)
    page.show_until(lambda: len(second.frames) > 5)
    assert page.sink.state() == "2 watching"
    assert second.frames[0].key_frame
    for viewer in (first, second):
        assert {(frame.colorspace, frame.color_range) for frame in viewer.frames} == {(1, 1)}  # BT.709, limited
        assert card_error(viewer.frames[-1].to_ndarray(format="rgb24")) <= 12
    first.leave()
    page.show_until(lambda: page.sink.state() == "1 watching")
    second.leave()


def add_second(sound: Sound) -> None:
    """Add a second of 1000 Hz, whose end goes over into the next one."""
    wave = np.rint(16_000 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)).astype(np.int16)
    sound.timeline.write(np.repeat(wave[:, np.newaxis], 2, axis=1), sound.timeline.end)


def test_who_asks_for_sound_hears_it_and_who_does_not_sees_the_picture() -> None:
    sound = Sound("a tone", clock=FakeClock(0.0))
    page = Page(sound)
    try:
        assert page.ask(None, "/stats")[1]["sound"]["name"] == "a tone"
        listener, viewer = Viewer(page, ("video", "audio")), Viewer(page)

        def hears() -> bool:
            if sound.timeline.end < (page.slot + 2) * RATE // 30:
                add_second(sound)
            return len(listener.heard) > 60 and bool(viewer.frames)

        page.show_until(hears)
        heard = np.concatenate(listener.heard)[-RATE // 2 :]
        assert np.argmax(np.abs(np.fft.rfft(heard))) == pytest.approx(500, abs=5)  # in half a second
        assert listener.frames
        assert not viewer.heard
        listener.leave()
        viewer.leave()
    finally:
        page.close()


def test_without_a_sound_an_offer_for_it_gets_the_picture(page: Page) -> None:
    viewer = Viewer(page, ("video", "audio"))
    page.show_until(lambda: viewer.frames)
    assert "sound" not in page.ask(None, "/stats")[1]
    viewer.leave()


def test_a_child_that_is_killed_is_replaced(page: Page) -> None:
    viewer = Viewer(page)
    page.show_until(lambda: viewer.frames)
    webrtc = page.sink._webrtc
    assert webrtc is not None
    assert webrtc._child is not None
    os.kill(webrtc._child.pid, signal.SIGKILL)
    page.show_until(lambda: page.sink.state() == "0 watching")
    again = Viewer(page)
    page.show_until(lambda: again.frames)
    assert page.sink.state() == "1 watching"
    again.leave()
    viewer.leave()


def test_what_is_no_offer_is_refused_and_costs_nothing(page: Page) -> None:
    for body in (b"", b"[]", b"{", {"type": "answer", "sdp": GOOD}, {"type": "offer", "sdp": 3}, {"type": "offer"}):
        status, answer = page.ask(body)
        assert (status, list(answer)) == (422, ["error"])
    for sdp in ("", GOOD, GOOD.replace("\r\n", "\n") * 2, GOOD + "a=ice-ufrag:\r\n", GOOD[4:], GOOD + "a=\0\r\n"):
        status, answer = page.ask({"type": "offer", "sdp": sdp})
        assert (status, list(answer)) == (422, ["error"]), sdp
        assert len(answer["error"]) < 300
    assert page.ask(b" " * (2**16 + 1))[0] == 413
    viewer = Viewer(page)
    page.show_until(lambda: viewer.frames)
    viewer.leave()


def test_who_asks_and_never_comes_takes_no_room_for_ever(page: Page) -> None:
    async def offer() -> str:
        peer = make_peer()
        peer.addTransceiver("video", direction="recvonly")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = str(peer.localDescription.sdp)
        await peer.close()
        return sdp

    sdp = page.do(offer())
    statuses = [page.ask({"type": "offer", "sdp": sdp})[0] for _ in range(MAX_VIEWERS + 2)]
    assert statuses == [200] * MAX_VIEWERS + [422] * 2
    assert "are about to: use /stream.mjpeg" in page.ask({"type": "offer", "sdp": sdp})[1]["error"]


def test_it_is_told_where_it_is(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    assert page.ask(None, "/stats")[1]["has_webrtc"] is True
    assert "/api/webrtc" in page.ask(None, "/api/openapi.json")[1]["paths"]
    monkeypatch.setattr(page_webrtc, "is_installed", lambda: False)
    other = Page()
    try:
        assert other.ask(None, "/stats")[1]["has_webrtc"] is False
        assert "/api/webrtc" not in other.ask(None, "/api/openapi.json")[1]["paths"]
        assert other.ask({"type": "offer", "sdp": GOOD})[0] == 404
    finally:
        other.close()


@pytest.mark.parametrize(
    ("sdp", "why"),
    [
        ("v=0\r\n", "this one asks for nothing"),
        (GOOD + GOOD[GOOD.index("m=") :], "asks for video, video"),
        (GOOD.replace("m=video", "m=audio"), "asks for audio"),
        (GOOD + "m=application 9 x\r\n", "asks for video, application"),
        (GOOD + 65 * "a=candidate:1 1 udp 1 10.0.0.1 9 typ host\r\n", "at most 64 candidates"),
    ],
)
def test_an_offer_asks_for_the_picture_and_nothing_else(sdp: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check({"type": "offer", "sdp": sdp})
    assert check({"type": "offer", "sdp": GOOD}) == GOOD
