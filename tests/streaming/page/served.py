"""A page sink that is on air, for the tests of its WebRTC."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from streaming.control.controller import ShowController
from streaming.live.webrtc import offer_loopback
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import Frame, StreamFormat
from streaming.sound.sound import Sound
from tests.streaming.doubles import WAIT_S, colour_card, to_i420

CARD = to_i420(colour_card(128, 96))


class Page:
    """A page sink that is on air, and an event loop for those who watch it.

    Args:
        controller: of the show; None for none.
        sound: of the show; None for silence.
    """

    def __init__(self, controller: ShowController | None = None, sound: Sound | None = None) -> None:
        offer_loopback(alone=True)
        self.sink = PageSink("http://127.0.0.1:0")
        self.sink.open(StreamFormat("a show", 128, 96, Fraction(30), "i420", dict, controller, sound=sound))
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
