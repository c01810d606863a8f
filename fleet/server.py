"""Serves the page and the API of a fleet."""

from __future__ import annotations

import asyncio
import threading
from typing import Self
from urllib.parse import urlsplit

from fleet.director import Director
from fleet.gateway import Gateway
from streaming.page.connections import Server, default_limits
from streaming.page.guard import RequestGuard
from streaming.page.server import bind, invitation, make_config, token_for

_END_S = 5.0


class FleetServer:
    """The web server of a fleet, on a thread of its own; a context manager. The port is bound at once.

    Args:
        address: http://HOST:PORT; port 0 takes a free one.

    Attributes:
        url: its address.

    Raises:
        ValueError: it is no address.
        SinkError: the port is not available.
    """

    def __init__(self, address: str) -> None:
        try:
            parts = urlsplit(address)
            scheme, host, port, path = parts.scheme, parts.hostname, parts.port, parts.path
        except ValueError:  # brackets that are not closed, or a port that is no number
            scheme, host, port, path = "", None, None, ""
        if scheme != "http" or not host or port is None or path not in ("", "/"):
            raise ValueError(
                f'[fleet] page = "{address}" is no address of a page: write http://HOST:PORT, e.g. http://127.0.0.1:8080'
            )
        self._host = host
        self.token, self._is_new_token = token_for(host)
        self._socket = bind(host, port, address)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}"
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self, director: Director) -> str:
        """Serve the page of a fleet; return the line that says where."""
        limits = default_limits()
        guard = RequestGuard(self._host, self.token)
        gateway = Gateway(director, limits)
        server = self._server = Server(make_config(lambda: gateway.app(guard), limits))

        async def serve() -> None:
            try:
                await server.serve(sockets=[self._socket])
            finally:
                await gateway.close()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="page", daemon=True)
        self._thread.start()
        if self._is_new_token:
            return invitation(self._socket.getsockname()[1], self.token)
        return f"all shows: {self.url}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_END_S)
        self._socket.close()
