"""A page in the browser: the live picture and its figures, served from this machine."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from streaming.errors import SinkError
from streaming.sink import Feed, Frame, Sink

if TYPE_CHECKING:  # the web server takes a quarter of a second to import, which the engine can use
    import uvicorn

    from streaming.page_app import Broadcast

_FORM = "http://HOST:PORT, e.g. http://127.0.0.1:8000"


class PageSink(Sink):
    """Serves the page; a frame is encoded once for all who watch, and not at all when nobody does.

    Args:
        spec: "http://HOST:PORT"; port 0 takes a free one.
    """

    def __init__(self, spec: str) -> None:
        self.name = spec.rstrip("/")
        self._host, self._port = _parse(spec)
        self._latest: Frame | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def open(self, feed: Feed) -> None:
        """Bind the port."""
        self._feed = feed
        try:
            family, _, _, _, address = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)[0]
            self._socket = socket.create_server(address[:2], family=family)
        except OSError as error:
            raise SinkError(f"sink {self.name} cannot be served: {_explain(error, self._port)}") from error
        if self._port == 0:
            self._port = self._socket.getsockname()[1]
            self.name = f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    def start(self) -> None:
        """Start the web server on a thread of its own."""
        import uvicorn

        from streaming.page_app import Broadcast, make_app

        self._broadcast: Broadcast = Broadcast()
        config = uvicorn.Config(
            make_app(self._broadcast, self._stats, self._jpeg, self._host),
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            timeout_graceful_shutdown=1,
        )
        self._server: uvicorn.Server = uvicorn.Server(config)
        is_running = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(is_running,), name=self.name, daemon=True)
        self._thread.start()
        is_running.wait()

    def write(self, frame: Frame) -> bool:
        """Show the frame to everybody who watches."""
        self._latest = frame
        if self._broadcast.num_watching and self._loop is not None:
            from streaming.jpeg import to_jpeg

            self._loop.call_soon_threadsafe(self._broadcast.publish, to_jpeg(frame.picture))
        return True

    def close(self) -> None:
        """End all streams and stop the server."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._broadcast.close)
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()

    def state(self) -> str:
        """Return how many browsers watch."""
        return f"{self._broadcast.num_watching} watching"

    def _serve(self, is_running: threading.Event) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            is_running.set()
            await self._server.serve(sockets=[self._socket])
            for connection in list(self._server.server_state.connections):  # of browsers that have stopped reading
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)  # one turn of the loop, in which they close

        asyncio.run(serve())

    def _stats(self) -> Mapping[str, Any]:
        feed = self._feed
        about = {"title": feed.title, "width": feed.width, "height": feed.height, "wanted_fps": float(feed.fps)}
        return {**about, **feed.figures()}

    def _jpeg(self) -> bytes | None:
        from streaming.jpeg import to_jpeg

        return None if self._latest is None else to_jpeg(self._latest.picture)


def _parse(spec: str) -> tuple[str, int]:
    try:
        parts = urlsplit(spec)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SinkError(
            f"sink {spec} is no address of a page (its port is no number from 0 to 65535): write {_FORM}"
        ) from error
    if not host or port is None or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise SinkError(f"sink {spec} is no address of a page: write {_FORM}")
    return host, port


def _explain(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; stop what uses it or choose another port, e.g. {port % 65535 + 1}"
    if error.errno == errno.EACCES:
        return f"port {port} is not allowed; choose one from 1024 to 65535"
    if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
        return "the host is no address of this machine; use 127.0.0.1, or 0.0.0.0 for the whole network"
    return error.strerror or str(error)
