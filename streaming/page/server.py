"""The web server of a page: its address, its token, and its limits."""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from streaming.errors import SinkError
from streaming.page.guard import is_loopback

if TYPE_CHECKING:  # importing the web server takes a quarter of a second
    import uvicorn
    from starlette.types import ASGIApp

    from streaming.page.connections import Limits

MAX_MESSAGE_BYTES = 2**16  # of a WebSocket
TOKEN_VARIABLE = "EVERFRAME_TOKEN"
_MAX_HEAD_BYTES = 2**15
_MAX_TOKEN = 1000  # characters; browsers keep cookies of at most 4096 bytes


def bind(host: str, port: int, name: str) -> socket.socket:
    """Bind the port of a page; 0 takes a free one.

    Raises:
        SinkError: the port is not available.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except (OSError, ValueError) as error:  # ValueError: the name cannot be encoded for a look-up
        raise SinkError(f"sink {name} cannot be served: {_explain(error, port)}") from error


def token_for(host: str) -> tuple[str, bool]:
    """Return the token of a page, and whether it is a new random one; "" if only this machine can reach the page.

    Raises:
        SinkError: the token in the environment cannot be used.
    """
    if is_loopback(host):
        return "", False
    token = os.environ.get(TOKEN_VARIABLE, "")  # it is sent in headers, cookies and URLs
    if token and not re.fullmatch(rf"(?! )[ -~]{{1,{_MAX_TOKEN}}}(?<! )", token):
        raise SinkError(
            f"{TOKEN_VARIABLE} cannot be used as a token: it must be at most {_MAX_TOKEN} printable ASCII characters, "
            "without spaces around them; choose another one, or unset it for a random one"
        )
    return token or secrets.token_urlsafe(16), not token


def invitation(port: int, token: str) -> str:
    """Return the line that tells the token of a page."""
    return (
        f"the control page requires a token: http://HOST:{port}/?token={token}, where HOST is this "
        f"machine's name or address (set {TOKEN_VARIABLE} to choose the token, which is then not printed)"
    )


def make_config(make_app: Callable[[], ASGIApp], limits: Limits) -> uvicorn.Config:
    """Return the settings of the web server.

    Args:
        make_app: returns the application; called in the server's own thread, whose event loop it belongs to.
        limits: of connections and requests.
    """
    import uvicorn

    from streaming.page.connections import Pool, WebSocketProtocol, make_http_protocol

    return uvicorn.Config(
        make_app,
        factory=True,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws=WebSocketProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # messages are small, and it would allow decompression bombs
        h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
        backlog=limits.accepts,  # asyncio accepts as many in one turn of its loop
        http=make_http_protocol(Pool(limits)),
        loop="asyncio",
        timeout_graceful_shutdown=1,
    )


def _explain(error: OSError | ValueError, port: int) -> str:
    if not isinstance(error, OSError):
        return "the host is not a name or an address; use 127.0.0.1, or 0.0.0.0 for the whole network"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; stop what uses it or choose another port, e.g. {port % 65535 + 1}"
    if error.errno == errno.EACCES:
        return f"port {port} is not allowed; choose one from 1024 to 65535"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "the host is not an address of this machine; use 127.0.0.1, or 0.0.0.0 for the whole network"
    return error.strerror or str(error)
