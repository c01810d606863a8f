"""Access control of the page, by the headers Host and Origin and by a token.

Any website can make a browser send requests to this server and open WebSockets. Origin names that website, and Host the
name under which the browser found this server. A page that is reachable from other machines needs a token as well.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import re
import socket
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:  # it imports uvicorn, which takes a quarter of a second
    from streaming.page.connections import Connection

COOKIE = "everframe"
CONNECTION = "connection"  # the key of a scope's state under which its `Connection` is
_HEADERS = {
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",  # other websites must not show the picture
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}
_CLOSE_REFUSED = 1008  # close code of a WebSocket: policy violation


def is_allowed_host(header: str, bound: str) -> bool:
    """Return whether a Host header names this server, which prevents DNS rebinding.

    Args:
        header: the header's value, e.g. `localhost:8000` or `[::1]:8000`.
        bound: the host that the server is bound to.

    Returns:
        True for loopback names and for `bound`. If that is every address, also for any IP address and the machine's
        own name: a website can make its domain point here, but its name is never an IP address.
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


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether a request comes from a page of this server.

    Args:
        origin: the Origin header, e.g. `http://localhost:8000`, or `null` for a page without one.
        host: the Host header, already checked.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:  # e.g. `http://[`
        return False
    return parts.scheme in ("http", "https") and parts.netloc.lower() == host.strip().lower()


def is_loopback(host: str) -> bool:
    """Return whether a server that is bound to a host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


@dataclass(frozen=True)
class RequestGuard:
    """Accepts or refuses requests.

    Args:
        host: the host that the server is bound to.
        token: needed for each request; "" for none.
    """

    host: str
    token: str = ""

    def judge(self, scope: Scope) -> Response | None:
        """Return None if a request is accepted, else the answer: an error, or the redirect that sets the cookie."""
        named = _headers(scope, b"host")
        if len(named) != 1 or not is_allowed_host(named[0], self.host):
            why = f"this page is served as http://{self.host}, not under the name that was requested"
            return PlainTextResponse(why, 421)
        origins = _headers(scope, b"origin")
        if len(origins) > 1 or (origins and not is_same_origin(origins[0], named[0])):
            return JSONResponse({"error": "requests from other websites are refused"}, 403)
        if not self.token or self._knows(scope):
            return None
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if scope["type"] == "http" and scope["path"] == "/" and self._is_token(query.get("token", [""])[0]):
            entered = RedirectResponse("/", 303)
            entered.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
            return entered
        why = "this page needs the token that was printed at the start of the show: http://HOST:PORT/?token=TOKEN"
        return JSONResponse({"error": why}, 401, {"www-authenticate": "Bearer"})

    def wrap(self, app: ASGIApp) -> ASGIApp:
        """Return an application that checks every request and adds the security headers to every answer."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            refusal = self.judge(scope)
            connection: Connection | None = scope.get("state", {}).get(CONNECTION)  # None under another server
            if refusal is None and connection is not None and not connection.accept():
                refusal = JSONResponse({"error": "too many connections: try again in a moment"}, 503)
            is_socket = scope["type"] == "websocket"
            if refusal is None:
                with contextlib.nullcontext() if connection is None else connection.answering():
                    await app(scope, receive, send if is_socket else _with_headers(send))
            elif is_socket:
                await receive()  # the request to connect
                await send({"type": "websocket.close", "code": _CLOSE_REFUSED})
            else:
                await refusal(scope, receive, _with_headers(send))

        return guarded

    def _knows(self, scope: Scope) -> bool:
        given = [value.partition(" ")[2] for value in _headers(scope, b"authorization") if value[:7] == "Bearer "]
        for line in _headers(scope, b"cookie"):
            try:
                given += [morsel.value for name, morsel in SimpleCookie(line).items() if name == COOKIE]
            except CookieError:
                continue
        return any(self._is_token(value) for value in given)

    def _is_token(self, value: str) -> bool:
        return hmac.compare_digest(value.encode(), self.token.encode())


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] += [(key.encode(), value.encode()) for key, value in _HEADERS.items()]
        await send(message)

    return send_with_headers
