"""The control page: the live picture, statistics and controls, served from this machine."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from streaming.errors import SinkError
from streaming.sinks.sink import Frame, Sink, StreamFormat

if TYPE_CHECKING:  # importing the web server takes a quarter of a second
    import uvicorn
    from starlette.types import ASGIApp

    from streaming.page.api import ControlRoom
    from streaming.page.app import Broadcast
    from streaming.page.connections import Limits
    from streaming.page.webrtc import PageWebRTC

_NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_REPORT_AGAIN_S = 60.0  # between two reports of errors of the same kind
_FORM = "http://HOST:PORT, e.g. http://127.0.0.1:8000"


class PageSink(Sink):
    """Serves the control page; a frame is encoded once for all viewers, and only if there are any.

    If other machines can reach it, it requires a token: $EVERFRAME_TOKEN, or a random one that is printed.

    Args:
        spec: "http://HOST:PORT"; port 0 takes a free one.
        limits: of connections and requests; None for those that suit this process.
    """

    def __init__(self, spec: str, limits: Limits | None = None) -> None:
        self.name = spec.rstrip("/")
        self._host, self._port = _parse(spec)
        self._limits = limits
        self._latest: Frame | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._room: ControlRoom | None = None
        self._webrtc: PageWebRTC | None = None
        self._token = ""
        self._reported_s: dict[object, float] = {}  # when errors of a kind were last reported, on the loop's clock
        self._trouble = ""  # why no connection can be accepted

    def open(self, feed: StreamFormat) -> None:
        """Bind the port.

        Raises:
            SinkError: the port is not available, or the token cannot be used.
        """
        from streaming.page.server import bind, invitation, token_for

        self._feed = feed
        self._token, is_new = token_for(self._host)
        self._socket = bind(self._host, self._port, self.name)
        if is_new:
            self.invitation = invitation(self._socket.getsockname()[1], self._token)
        if self._port == 0:
            self._port = self._socket.getsockname()[1]
            self.name = f"http://{f'[{self._host}]' if ':' in self._host else self._host}:{self._port}"

    def start(self) -> None:
        """Start the web server on its own thread."""
        from streaming.page.app import Broadcast
        from streaming.page.connections import Server, default_limits
        from streaming.page.server import make_config

        limits = self._limits or default_limits()
        self._broadcast: Broadcast = Broadcast(limits.streams)
        config = make_config(lambda: self._make_app(limits), limits)
        self._server: uvicorn.Server = Server(config)
        is_running = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(is_running,), name=self.name, daemon=True)
        self._thread.start()
        is_running.wait()

    def write(self, frame: Frame) -> bool:
        """Send the frame to all viewers."""
        self._latest = frame
        if self._webrtc is not None:
            self._webrtc.write(frame)
        if self._broadcast.num_watching and self._loop is not None:
            from streaming.page.jpeg import to_jpeg

            self._loop.call_soon_threadsafe(self._broadcast.publish, to_jpeg(frame.picture))
        return True

    def close(self) -> None:
        """End all streams and stop the server."""
        if self._thread is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._broadcast.close)
            if self._room is not None:
                self._loop.call_soon_threadsafe(self._room.close)
            self._server.should_exit = True
            self._thread.join()
        self._socket.close()

    def state(self) -> str:
        """Return the number of viewers."""
        num = self._broadcast.num_watching + (0 if self._webrtc is None else self._webrtc.num)
        return f"{num} watching{self._trouble}"

    def _make_app(self, limits: Limits) -> ASGIApp:
        from streaming.control.controller import ShowController
        from streaming.page.api import ControlRoom
        from streaming.page.app import make_app
        from streaming.page.camera import camera_route
        from streaming.page.guard import RequestGuard, is_loopback
        from streaming.page.webrtc import PageWebRTC, is_installed

        feed = self._feed
        controller = feed.controller or ShowController()
        self._room = room = ControlRoom(controller, self._stats, (feed.width, feed.height), limits)
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the server has stopped
                loop.call_soon_threadsafe(room.wake)

        controller.on_change.append(wake)
        guard = RequestGuard(self._host, self._token)
        routes = room.routes(has_webrtc=is_installed())
        if is_installed():
            is_local = is_loopback(self._host)
            self._webrtc = PageWebRTC(feed, limits, is_local=is_local)
            routes += [self._webrtc.route(), camera_route(controller, limits, is_local=is_local)]
        return make_app(self._broadcast, self._stats, self._jpeg, guard, routes)

    def _serve(self, is_running: threading.Event) -> None:
        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._loop.set_exception_handler(self._report)
            is_running.set()
            await self._server.serve(sockets=[self._socket])
            if self._webrtc is not None:
                await asyncio.to_thread(self._webrtc.close)
            for connection in list(self._server.server_state.connections):  # of browsers that have stopped reading
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)  # one turn of the loop, in which they close

        asyncio.run(serve())

    def _report(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Report an error that the event loop has caught, once a minute; asyncio repeats some many times a second."""
        error = context.get("exception")
        now_s, kind = loop.time(), (type(error), getattr(error, "errno", None))
        if now_s - self._reported_s.get(kind, -math.inf) < _REPORT_AGAIN_S:
            return
        self._reported_s[kind] = now_s
        if isinstance(error, OSError) and error.errno in _NO_RESOURCES:
            self._trouble = f", but no connection can be accepted: {error.strerror}"
            self.errors += 1  # so that the status shows the state
            loop.call_later(_REPORT_AGAIN_S, self._forget_trouble)
        else:
            loop.default_exception_handler(context)

    def _forget_trouble(self) -> None:
        self._trouble = ""

    def _stats(self) -> Mapping[str, Any]:
        feed = self._feed
        about = {"title": feed.title, "width": feed.width, "height": feed.height, "wanted_fps": float(feed.fps)}
        about["has_webrtc"] = self._webrtc is not None
        if feed.sound is not None:
            about["sound"] = feed.sound.to_json()
        return {**about, **feed.stats()}

    def _jpeg(self) -> bytes | None:
        from streaming.page.jpeg import to_jpeg

        return None if self._latest is None else to_jpeg(self._latest.picture)


def _parse(spec: str) -> tuple[str, int]:
    try:
        parts = urlsplit(spec)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise SinkError(
            f"sink {spec} is not the address of a page (its port is not a number from 0 to 65535): write {_FORM}"
        ) from error
    if not host or port is None or parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise SinkError(f"sink {spec} is not the address of a page: write {_FORM}")
    return host, port
