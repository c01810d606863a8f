"""What the page sink serves: the page, the live picture as MJPEG, one frame, and the figures."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BOUNDARY = b"everframe"
_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",  # no other site may show the picture
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


class Broadcast:
    """The latest JPEG, for any number of watchers; everything but `num_watching` belongs to one event loop."""

    def __init__(self) -> None:
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
        self.num_watching += 1
        try:
            yield b"--" + _BOUNDARY + b"\r\n"
            while not self._is_closed:
                if self._number == seen:
                    await self._fresh.wait()
                    continue
                seen = self._number
                head = b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(self._jpeg)
                # The next boundary goes out at once: browsers show a part only when they have seen its end.
                yield head + self._jpeg + b"\r\n--" + _BOUNDARY + b"\r\n"
        finally:
            self.num_watching -= 1

    def _wake(self) -> None:
        fresh, self._fresh = self._fresh, asyncio.Event()
        fresh.set()


def make_app(
    broadcast: Broadcast, stats: Callable[[], Mapping[str, Any]], frame: Callable[[], bytes | None], host: str
) -> ASGIApp:
    """Make the page's application.

    Args:
        broadcast: where watchers get their frames from.
        stats: returns what `/stats` sends.
        frame: returns the latest frame as a JPEG, or None before the first; called on a worker thread.
        host: the host name or address that the server is bound to.

    Returns:
        An ASGI application.
    """
    html = Path(__file__).with_name("page.html").read_text(encoding="utf-8")
    page_headers = {"content-security-policy": _policy(html)}

    async def show_page(_request: Request) -> Response:
        return Response(html, media_type="text/html", headers=page_headers)

    async def show_stats(_request: Request) -> Response:
        return JSONResponse(dict(stats()))

    async def show_stream(_request: Request) -> Response:
        kind = f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}"
        return StreamingResponse(broadcast.parts(), media_type=kind)

    def show_frame(_request: Request) -> Response:
        jpeg = frame()
        if jpeg is None:
            return PlainTextResponse("no frame has been made yet", 503)
        return Response(jpeg, media_type="image/jpeg")

    routes = {"/": show_page, "/stats": show_stats, "/stream.mjpeg": show_stream, "/frame.jpg": show_frame}
    app = Starlette(routes=[Route(path, endpoint) for path, endpoint in routes.items()])
    return _guard(app, host)


def is_allowed_host(header: str, bound: str) -> bool:
    """Tell whether a Host header names this server, so that no other site's name can be pointed at it (DNS rebinding).

    Args:
        header: the header's value, e.g. `localhost:8000` or `[::1]:8000`.
        bound: the host that the server is bound to.

    Returns:
        True for names of this machine's loopback and for `bound`; where that is every address, for any plain address
        and the machine's own name too: a site can make its name point here, but cannot call itself an address.
    """
    match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(?::\d+)?", header.strip().lower())
    if match is None:
        return False
    name = match[1].strip("[]").rstrip(".")
    if name in ("localhost", bound.lower()) or name.endswith(".localhost"):
        return True
    is_everywhere = bound in ("0.0.0.0", "::")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return is_everywhere and name == socket.gethostname().lower()
    return is_everywhere or address.is_loopback


def _guard(app: ASGIApp, host: str) -> ASGIApp:
    """Refuse foreign Host headers, and put the security headers on every answer."""

    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(key.encode(), value.encode()) for key, value in _HEADERS.items()]
            await send(message)

        named = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        if len(named) == 1 and is_allowed_host(named[0], host):
            await app(scope, receive, send_with_headers)
        else:
            answer = PlainTextResponse(
                f"this page is served as http://{host}, not under the name that was asked for", 421
            )
            await answer(scope, receive, send_with_headers)

    return guarded


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
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
