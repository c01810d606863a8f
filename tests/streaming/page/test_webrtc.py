"""The page's picture through WebRTC: a real peer that decodes it, and offers that are none."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import aiortc
import pytest

from streaming.live.webrtc import make_peer, offer_loopback
from streaming.page import webrtc as page_webrtc
from streaming.page.viewers import MAX_VIEWERS
from streaming.page.webrtc import check
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import Frame, StreamFormat
from tests.streaming.doubles import WAIT_S, card_error, colour_card, to_i420

pytestmark = pytest.mark.live
CARD = to_i420(colour_card(128, 96))
GOOD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 108\r\n"


class Page:
    """A page sink that is on air, and an event loop for those who watch it."""

    def __init__(self) -> None:
        offer_loopback(alone=True)
        self.sink = PageSink("http://127.0.0.1:0")
        self.sink.open(StreamFormat("a show", 128, 96, Fraction(30), "i420", dict))
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

    def __init__(self, page: Page) -> None:
        self.frames: list[Any] = []
        self._page = page
        self._peer: Any = None
        page.do(self._connect())

    async def _connect(self) -> None:
        self._peer = make_peer()
        self._peer.addTransceiver("video", direction="recvonly")
        self._peer.on("track", lambda track: setattr(self, "_task", asyncio.ensure_future(self._receive(track))))
        await self._peer.setLocalDescription(await self._peer.createOffer())
        offer = {"type": "offer", "sdp": self._peer.localDescription.sdp}
        status, answer = await asyncio.to_thread(self._page.ask, offer)
        assert status == 200, answer
        await self._peer.setRemoteDescription(aiortc.RTCSessionDescription(answer["sdp"], answer["type"]))

    async def _receive(self, track: Any) -> None:
        try:
            while True:
                self.frames.append(await track.recv())
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
