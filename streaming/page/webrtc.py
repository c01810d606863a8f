"""The page's video through WebRTC, by a child process that starts with the first browser's offer."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import re
import threading
from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streaming.page.actions import is_text, read_json
from streaming.page.api import MAX_JSON_BYTES, read_body, refuse
from streaming.page.connections import Limits
from streaming.page.viewers import MAX_VIEWERS, ViewersProcess
from streaming.sinks.sink import Frame, StreamFormat

_MAX_CANDIDATES = 64
_ANSWER_S = 10.0


def is_installed() -> bool:
    """Return whether aiortc is installed."""
    return importlib.util.find_spec("aiortc") is not None


class PageWebRTC:
    """All viewers through WebRTC.

    Args:
        feed: frame size and rate.
        limits: how long an offer may take to arrive.
        is_local: whether only this machine can reach the page.

    Attributes:
        num: how many are connected; may be read from any thread.
    """

    def __init__(self, feed: StreamFormat, limits: Limits, *, is_local: bool) -> None:
        self.num = 0
        self._limits = limits
        self._feed, self._is_local = feed, is_local
        self._sound = None if feed.sound is None else feed.sound.reader(feed.fps)
        self._lock = threading.Lock()  # held while a message is sent to the child
        self._child: ViewersProcess | None = None
        self._loop = asyncio.get_running_loop()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._is_closed = False

    def route(self) -> Route:
        """Return the route that takes browsers' offers."""

        async def answer(request: Request) -> Response:
            try:
                offer = check(read_json(await read_body(request, MAX_JSON_BYTES, self._limits)))
            except ValueError as error:
                return refuse(422, str(error))
            if len(self._answers) >= MAX_VIEWERS:  # at once: each takes a moment
                return refuse(503, "too many offers at the same time: try again, or use /stream.mjpeg")
            reply = await self._ask(offer)
            if "sdp" in reply:
                return JSONResponse({"type": "answer", "sdp": reply["sdp"]})
            return refuse(422, f"the offer cannot be answered: {reply['error']}")

        return Route("/api/webrtc", answer, methods=["POST"])

    def write(self, frame: Frame) -> None:
        """Send a frame to all viewers; called on the sink's thread.

        Args:
            frame: I420.
        """
        child = self._child
        if child is not None and self.num:
            sound = None if self._sound is None else self._sound.read(frame.slot)
            with self._lock, contextlib.suppress(OSError):  # `_listen` sees that it has ended
                child.show(frame, sound)
        elif self._sound is not None:
            self._sound.restart()

    def close(self) -> None:
        """End the child; may be called from any thread."""
        with self._lock:
            self._is_closed = True
            child = self._child
        if child is not None:
            child.close()

    async def _ask(self, offer: str) -> dict[str, Any]:
        self._number += 1
        number, answer = self._number, self._loop.create_future()
        self._answers[number] = answer
        try:
            await asyncio.to_thread(self._offer, number, offer)
            return await asyncio.wait_for(answer, _ANSWER_S)
        except (OSError, TimeoutError):
            return {"error": "the process that sends the video does not answer"}
        finally:
            self._answers.pop(number, None)

    def _offer(self, number: int, offer: str) -> None:
        with self._lock:
            if self._is_closed:
                raise ConnectionAbortedError("the show has ended")
            if self._child is None or self._child.has_ended():
                self._child = child = ViewersProcess(self._feed, is_local=self._is_local)
                threading.Thread(target=self._listen, args=(child,), daemon=True).start()
            self._child.offer(number, offer)

    def _listen(self, child: ViewersProcess) -> None:
        """Pass on the child's messages until it ends; runs on its own thread."""
        with contextlib.suppress(OSError, RuntimeError):  # the child, or the page's event loop, has ended
            while (message := child.receive()) is not None:
                self._loop.call_soon_threadsafe(self._hear, child, message[0])
        child.close()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._hear, child, {"num": 0})

    def _hear(self, child: ViewersProcess, message: dict[str, Any]) -> None:
        if child is not self._child:
            return
        if "num" in message:
            self.num = message["num"]
        elif (answer := self._answers.get(message["id"])) is not None and not answer.done():
            answer.set_result(message)


def check(given: Any) -> str:
    """Return the SDP of an offer to watch.

    Raises:
        ValueError: it is not an offer, or asks for more than the video and the sound.
    """
    sdp, media = read_offer(given)
    if media not in (["video"], ["video", "audio"]):
        raise ValueError(f"an offer asks for video, or for video and audio; this one asks for {to_words(media)}")
    return sdp


def read_offer(given: Any) -> tuple[str, list[str]]:
    """Return an offer's SDP, and the kind of each of its media, e.g. "video".

    Raises:
        ValueError: it is not an offer, or has too many candidates.
    """
    if not isinstance(given, dict) or given.get("type") != "offer" or not isinstance(given.get("sdp"), str):
        raise ValueError('an offer is an object, {"type": "offer", "sdp": "v=0..."}')
    sdp: str = given["sdp"]
    if not is_text(sdp):
        raise ValueError("this offer's sdp holds half of a surrogate pair")
    if len(sdp.splitlines()) != len(re.split(r"\r?\n", sdp.rstrip("\r\n"))):  # aiortc would see other lines than we do
        raise ValueError("the lines of an offer's sdp end with a line feed")
    if len(re.findall(r"(?m)^a=candidate", sdp)) > _MAX_CANDIDATES:
        raise ValueError(f"an offer has at most {_MAX_CANDIDATES} candidates")
    return sdp, re.findall(r"(?m)^m=(\w+)", sdp)


def to_words(media: Sequence[str]) -> str:
    """Name the media of an offer in an error."""
    return ", ".join(media[:5])[:60] or "nothing"
