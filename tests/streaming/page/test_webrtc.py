"""The page's picture through WebRTC: a real peer that decodes it, and offers that are none."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import aiortc
import numpy as np
import pytest

from streaming.live.webrtc import make_peer
from streaming.page import webrtc as page_webrtc
from streaming.page.viewers import MAX_VIEWERS
from streaming.page.webrtc import check
from streaming.sound.sound import Sound
from streaming.sound.timeline import RATE
from tests.fakes import FakeClock
from tests.streaming.doubles import card_error
from tests.streaming.page.served import Page

pytestmark = pytest.mark.live
GOOD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 108\r\n"


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
    page = Page(sound=sound)
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
