"""What the page sink serves: the page, the live picture as MJPEG, one frame, and the figures."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from streaming.page.api import Json
from streaming.page.guard import RequestGuard

_BOUNDARY = b"everframe"


class Broadcast:
    """The latest JPEG, for all watchers; everything but `num_watching` belongs to one event loop.

    Args:
        most: how many may watch.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.num_watching = 0
        self._jpeg = b""
        self._number = 0
        self._is_closed = False
        self._fresh = asyncio.Event()

    def publish(self, jpeg: bytes) -> None:
        """Give every watcher a new JPEG; one who is still receiving the last one skips to the newest later."""
        self._jpeg = jpeg
        self._number += 1
        self._wake()

    def close(self) -> None:
        """Let every watcher's stream end."""
        self._is_closed = True
        self._wake()

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the body of a multipart/x-mixed-replace answer, until the show ends."""
        seen = 0
        yield b"--" + _BOUNDARY + b"\r\n"
        while not self._is_closed:
            if self._number == seen:
                await self._fresh.wait()
                continue
            seen = self._number
            head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self._jpeg)
            # The next boundary goes out at once: browsers show a part only when they have seen its end.
            yield head + self._jpeg + b"\r\n--" + _BOUNDARY + b"\r\n"

    def _wake(self) -> None:
        fresh, self._fresh = self._fresh, asyncio.Event()
        fresh.set()


class _Stream(StreamingResponse):
    """/stream.mjpeg; who receives it counts from the call on, so that no two can take the last place."""

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        super().__init__(broadcast.parts(), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._broadcast.num_watching >= self._broadcast.most:
            why = f"{self._broadcast.most} watch already: try again later"
            await JSONResponse({"error": why}, 503)(scope, receive, send)
            return
        self._broadcast.num_watching += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._broadcast.num_watching -= 1


def make_app(
    broadcast: Broadcast,
    stats: Callable[[], Mapping[str, Any]],
    frame: Callable[[], bytes | None],
    guard: RequestGuard,
    more: Sequence[BaseRoute] = (),
) -> ASGIApp:
    """Make the page's application.

    Args:
        broadcast: where watchers get their frames from.
        stats: returns what `/stats` sends.
        frame: returns the latest frame as a JPEG, or None before the first; called on a worker thread.
        guard: says who may use it.
        more: routes beside the page's own.

    Returns:
        An ASGI application.
    """
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    page_headers = {"content-security-policy": _policy(html)}

    async def show_page(_request: Request) -> Response:
        return Response(html, media_type="text/html", headers=page_headers)

    async def show_stats(_request: Request) -> Response:
        return Json(dict(stats()))

    async def show_stream(_request: Request) -> Response:
        return _Stream(broadcast)

    def show_frame(_request: Request) -> Response:
        jpeg = frame()
        if jpeg is None:
            return PlainTextResponse("no frame has been made yet", 503)
        return Response(jpeg, media_type="image/jpeg")

    routes = {"/": show_page, "/stats": show_stats, "/stream.mjpeg": show_stream, "/frame.jpg": show_frame}
    own = [Route(path, endpoint) for path, endpoint in routes.items()]
    return guard.wrap(Starlette(routes=[*own, *more], exception_handlers={HTTPException: _tell_why}))


async def _tell_why(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _policy(html: str) -> str:
    """Write the content security policy: nothing from anywhere but here, and only the page's own style and script."""
    hashes = {}
    for tag in ("style", "script"):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert content is not None, f"page.html lost its <{tag}>"
        digest = hashlib.sha256(content[1].encode()).digest()
        hashes[tag] = f"'sha256-{base64.b64encode(digest).decode()}'"
    return (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; img-src 'self' data:; "
        "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
