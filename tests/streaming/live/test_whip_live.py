"""WHIP: a real peer connection on loopback, a server that refuses, moves, leaves and comes back."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import aiortc
import numpy as np
import pytest

from runtime.masking import mask
from streaming.errors import SinkError
from streaming.live.webrtc import make_peer, offer_loopback
from streaming.sinks import whip_sink
from streaming.sinks.sink import Frame
from streaming.sinks.table import make_sinks
from streaming.sinks.whip_sink import WhipSink
from streaming.sound.sound import Sound
from streaming.sound.timeline import RATE
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, card_error, colour_card, feed, number_of, numbered, to_i420

pytestmark = pytest.mark.live


class Server:
    """A WHIP server whose media end is aiortc: it decodes what it gets."""

    def __init__(self) -> None:
        offer_loopback(alone=True)
        self.frames: list[Any] = []
        self.num_sounds = 0
        self.heard: list[np.ndarray] = []
        self.changed = threading.Condition()
        self.requests: list[tuple[str, str, str]] = []
        self.status = 201
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.peers: list[aiortc.RTCPeerConnection] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                offer = self.rfile.read(int(self.headers["content-length"])).decode()
                self._note()
                if self.path == "/moved":
                    self._say(307, {"Location": "/whip/x"})
                elif server.status != 201:
                    self._say(server.status, {})
                else:
                    answer = asyncio.run_coroutine_threadsafe(server.accept(offer), server.loop).result(WAIT_S)
                    self._say(201, {"Location": "/resource/1", "Content-Type": "application/sdp"}, answer)

            def do_DELETE(self) -> None:
                self._note()
                server.hang_up()
                self._say(200, {})

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _note(self) -> None:
                server.requests.append((self.command, self.path, self.headers.get("authorization", "")))

            def _say(self, status: int, headers: dict[str, str], body: str = "") -> None:
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body.encode())

        self._tasks: list[asyncio.Task[None]] = []
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.place = f"127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    async def accept(self, offer: str) -> str:
        peer = make_peer()
        self.peers.append(peer)
        peer.on("track", lambda track: self._tasks.append(asyncio.ensure_future(self._receive(track))))
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(offer, "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)

    async def _receive(self, track: Any) -> None:
        try:
            while True:
                frame = await track.recv()
                with self.changed:
                    if track.kind == "video":
                        self.frames.append(frame)
                    else:
                        self.num_sounds += 1
                        self.heard.append(frame.to_ndarray().reshape(-1, 2)[:, 0])
                    self.changed.notify_all()
        except aiortc.mediastreams.MediaStreamError:
            return

    def hang_up(self) -> None:
        for peer in self.peers:
            asyncio.run_coroutine_threadsafe(peer.close(), self.loop).result(WAIT_S)
        self.peers.clear()

    def ask_for_key_frame(self) -> None:
        async def ask() -> None:
            (receiver,) = [item.receiver for item in self.peers[-1].getTransceivers() if item.kind == "video"]
            (source,) = [item.source for item in receiver.getSynchronizationSources()][:1]
            await receiver._send_rtcp_pli(source)

        asyncio.run_coroutine_threadsafe(ask(), self.loop).result(WAIT_S)

    def close(self) -> None:
        async def end_tasks() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self.hang_up()
        asyncio.run_coroutine_threadsafe(end_tasks(), self.loop).result(WAIT_S)
        self._http.shutdown()
        self._http.server_close()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(WAIT_S)
        self.loop.close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


class Publisher:
    """A sink, and the slots of its frames."""

    def __init__(self, spec: str, width: int = 64, height: int = 48, sound: Sound | None = None) -> None:
        self.clock = FakeClock()
        self.sink = WhipSink(spec, clock=self.clock)
        self.sink.open(replace(feed(width, height), sound=sound))
        self.sink.start()
        self.slot = self.num_taken = 0

    def write(self, picture: Any = None) -> bool:
        picture = numbered(self.slot % 55) if picture is None else picture
        self.slot += 1
        is_taken = self.sink.write(Frame(picture, self.slot - 1))
        self.num_taken += is_taken
        return is_taken

    def write_until(self, is_true: Any, picture: Any = None) -> None:
        """Write frames, whether they are taken or not, as fast as a viewer would see them."""
        deadline_s = time.monotonic() + WAIT_S
        while not is_true():
            if not self.write(picture):
                self.clock.advance(60)  # no wait is longer
            assert time.monotonic() < deadline_s, self.sink.state()


def test_a_peer_decodes_the_show(server: Server) -> None:
    show = Publisher(f"whip+http://SECRET%20token@{server.place}/whip/SECRET")
    show.write_until(lambda: show.sink.is_up())
    first = show.slot - 1
    with server.changed:
        assert all(show.write() for _ in range(54))
        assert server.changed.wait_for(lambda: len(server.frames) >= 54 and server.num_sounds >= 85, WAIT_S)
    show.sink.close()
    numbers = [number_of(frame.to_ndarray()[:48]) for frame in server.frames]
    assert numbers == [(first + number) % 55 for number in range(len(numbers))]
    times = [float(frame.time - server.frames[0].time) for frame in server.frames]
    assert times == pytest.approx([number / 30 for number in range(len(times))], abs=0.001)
    assert [request[:2] for request in server.requests] == [("POST", "/whip/SECRET"), ("DELETE", "/resource/1")]
    assert {request[2] for request in server.requests} == {"Bearer SECRET token"}
    assert "SECRET" not in show.sink.state() + show.sink.result() + show.sink.name
    assert show.sink.result() == "1 connection"


def test_a_peer_hears_the_sound(server: Server) -> None:
    sound = Sound("a tone", clock=FakeClock(0.0))
    sound.begin(0.0)
    wave = np.rint(16_000 * np.sin(2 * np.pi * 1000 * np.arange(8 * RATE) / RATE)).astype(np.int16)
    sound.timeline.write(np.repeat(wave[:, np.newaxis], 2, axis=1), 0)
    show = Publisher(f"whip+http://{server.place}/whip/x", sound=sound)
    show.write_until(lambda: show.sink.is_up())
    while show.slot < 150:
        assert show.write()
    with server.changed:
        assert server.changed.wait_for(lambda: server.num_sounds >= 150, WAIT_S)
    show.sink.close()
    heard = np.concatenate(server.heard)[RATE : 2 * RATE]
    assert np.argmax(np.abs(np.fft.rfft(heard))) == pytest.approx(1000, abs=3)
    assert np.abs(heard).max() == pytest.approx(16_000, rel=0.2)


def test_colours_arrive_as_they_left(server: Server) -> None:
    show = Publisher(f"whip+http://{server.place}/whip/x", 128, 96)
    picture = to_i420(colour_card(128, 96))
    show.write_until(lambda: show.sink.is_up(), picture)
    with server.changed:
        assert all(show.write(picture) for _ in range(30))
        assert server.changed.wait_for(lambda: len(server.frames) >= 30, WAIT_S)
    show.sink.close()
    assert {(frame.colorspace, frame.color_range) for frame in server.frames} == {(1, 1)}  # BT.709, limited
    assert card_error(server.frames[-1].to_ndarray(format="rgb24")) <= 12


def test_a_key_frame_comes_when_it_is_asked_for(server: Server) -> None:
    show = Publisher(f"whip+http://{server.place}/whip/x")
    show.write_until(lambda: show.sink.is_up())
    with server.changed:
        assert all(show.write() for _ in range(10))
        assert server.changed.wait_for(lambda: len(server.frames) >= 10, WAIT_S)
    server.ask_for_key_frame()
    for _ in range(30):  # far from the next one that the clock would bring
        assert show.write()
        with server.changed:
            assert server.changed.wait_for(
                lambda: len(server.frames) >= show.num_taken - 1, WAIT_S
            )  # the last one waits for the next
        if server.frames[-1].key_frame:
            break
    show.sink.close()
    assert [frame.key_frame for frame in server.frames].count(True) == 2


def test_a_server_that_refuses_moves_leaves_and_returns(server: Server) -> None:
    server.status = 403
    show = Publisher(f"whip+http://TOKEN@{server.place}/moved")
    show.write_until(lambda: "refused" in show.sink.state())
    assert "the server refused the stream (403 Forbidden)" in show.sink.state()
    server.status = 201
    show.write_until(lambda: show.sink.is_up())
    assert server.requests[-2:] == [("POST", "/moved", "Bearer TOKEN"), ("POST", "/whip/x", "Bearer TOKEN")]
    show.write_until(lambda: server.frames)  # a peer that is not connected yet cannot say that it leaves
    server.hang_up()
    show.write_until(lambda: not show.sink.is_up())
    assert "the server has left" in show.sink.state()
    with server.changed:
        server.frames.clear()
    show.write_until(lambda: show.sink.is_up())
    first = show.slot - 1
    with server.changed:
        assert all(show.write() for _ in range(10))
        assert server.changed.wait_for(lambda: len(server.frames) >= 10, WAIT_S)
    show.sink.close()
    assert number_of(server.frames[0].to_ndarray()[:48]) == first % 55
    assert server.frames[0].key_frame
    assert show.sink.result() == "2 connections, last error: the server has left"


def test_an_answer_that_makes_no_sense_is_a_refusal(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nonsense(_offer: str) -> str:
        return "v=0\r\nnonsense"

    monkeypatch.setattr(server, "accept", nonsense)
    show = Publisher(f"whip+http://{server.place}/whip/x")
    show.write_until(lambda: show.sink.errors)
    assert "answer cannot be used" in show.sink.state()
    show.sink.close()


@pytest.mark.parametrize(
    "spec", ["whip://", "whip://host", "whip://host/", "whip://a:SECRET@host/x", "whip://h:x/SECRET"]
)
def test_what_is_no_address(spec: str) -> None:
    with pytest.raises(SinkError, match=r"write whip://\[TOKEN@\]HOST") as caught:
        make_sinks([spec], "i420")
    assert "SECRET" not in str(caught.value)


def test_only_the_host_is_shown() -> None:
    assert mask("whip://SECRET@host:8889/SECRET/webRTC/publish?a=SECRET") == "whip://host:8889/***"
    assert mask("WHIP+http://host/SECRET") == "WHIP+http://host/***"
    target = WhipSink.to_target("whip://a%40b@host:8889/one/two?three")
    assert (target.url, dict(target.options)) == ("https://host:8889/one/two?three", {"token": "a@b"})
    assert set(target.secrets) == {"a@b", "a%40b", "/one/two", "one/two", "three"}
    assert WhipSink.to_target("whip+http://[::1]:80/x").url == "http://[::1]:80/x"


def test_without_aiortc_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whip_sink.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(SinkError, match=r"needs aiortc: pip install 'everframe\[webrtc\]'"):
        WhipSink("whip://host/x").open(feed())
