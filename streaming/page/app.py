"""The page's web application: the page, the live picture as MJPEG, one frame, and the statistics."""

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
    """The latest JPEG, for all viewers; used on one event loop, except `num_watching`.

    Args:
        most: how many viewers are allowed.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.num_watching = 0
        self._jpeg = b""
        self._number = 0
        self._is_closed = False
        self._fresh = asyncio.Event()

    def publish(self, jpeg: bytes) -> None:
        """Send a new JPEG to every viewer; one that is still receiving the last one skips to the newest."""
        self._jpeg = jpeg
        self._number += 1
        self._wake()

    def close(self) -> None:
        """End every viewer's stream."""
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
            # The next boundary is sent at once: browsers show a part only when they have received its end.
            yield head + self._jpeg + b"\r\n--" + _BOUNDARY + b"\r\n"

    def _wake(self) -> None:
        fresh, self._fresh = self._fresh, asyncio.Event()
        fresh.set()


class _Stream(StreamingResponse):
    """/stream.mjpeg; a viewer counts from the call on, so that two cannot take the last place."""

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        super().__init__(broadcast.parts(), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._broadcast.num_watching >= self._broadcast.most:
            why = f"at most {self._broadcast.most} viewers are allowed: try again later"
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
        broadcast: the live picture.
        stats: returns the content of `/stats`.
        frame: returns the latest frame as a JPEG, or None before the first; called on a worker thread.
        guard: decides which requests are allowed.
        more: further routes.

    Returns:
        An ASGI application.
    """
    html = _read_page()
    page_headers = {"content-security-policy": content_policy(html)}

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
    return guard.wrap(Starlette(routes=[*own, *more], exception_handlers={HTTPException: _to_response}))


async def _to_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def _read_page() -> str:
    """Return the page with its scripts: a comment that names a file of this folder stands for that script."""
    folder = Path(__file__).parent

    def script(match: re.Match[str]) -> str:
        return f"<script>{(folder / match[1]).read_text(encoding='utf-8')}</script>"

    return re.sub(r"<!-- (\w+\.js) -->", script, (folder / "page.html").read_text(encoding="utf-8"))


def content_policy(html: str) -> str:
    """Return the content security policy: content of this server only, and only the page's own style and scripts."""
    hashes = {}
    for tag in ("style", "script"):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert contents, f"page.html lost its <{tag}>"
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
        hashes[tag] = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; style-src {hashes['style']}; script-src {hashes['script']}; img-src 'self' data:; "
        "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
