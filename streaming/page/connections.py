"""Limits of the page's connections: their number and their timeouts.

uvicorn has one limit for all connections and waits for a request without a timeout. Here, a connection is a newcomer
until the guard accepts one of its requests; then it is a member. Newcomers and members have separate limits.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import uvicorn
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from streaming.page.guard import CONNECTION

_MAX_CONNECTIONS = 200
_DESCRIPTOR_SHARE = 4  # the page uses at most a quarter of the process's file descriptors
_SYSTEM_BACKLOG = 2048  # connections that wait to be accepted
_NEWCOMER_SHARE = 4  # a quarter of the connections are newcomers


@dataclass(frozen=True)
class Limits:
    """The limits for clients.

    Args:
        newcomers: open connections without an accepted request; a new one replaces the oldest.
        members: open connections with one; further requests are answered with 503.
        request_s: seconds from the connection to the first accepted request, and from each answer to the next request.
        read_s: seconds that a client may leave an answer unread.
        pause_s: seconds between two pieces of a body.
        body_s: seconds for a whole body.
    """

    newcomers: int = _MAX_CONNECTIONS // _NEWCOMER_SHARE
    members: int = _MAX_CONNECTIONS - _MAX_CONNECTIONS // _NEWCOMER_SHARE
    request_s: float = 10.0
    read_s: float = 30.0
    pause_s: float = 10.0
    body_s: float = 120.0

    @property
    def accepts(self) -> int:
        """How many connections may be accepted in one turn of the loop.

        In a flood from its own address, a newcomer then lives for twelve turns; answering a request takes five.
        """
        return max(self.newcomers // 12, 1)

    @property
    def streams(self) -> int:
        """How many of the members may watch /stream.mjpeg; the others are left for the controls."""
        return max(self.members // 2, 1)


def default_limits() -> Limits:
    """Return limits that leave most of this process's file descriptors free."""
    total = _MAX_CONNECTIONS
    if sys.platform != "win32":
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            total = max(min(total, soft // _DESCRIPTOR_SHARE), 2)
    newcomers = max(total // _NEWCOMER_SHARE, 1)
    return Limits(newcomers=newcomers, members=total - newcomers)


class Server(uvicorn.Server):
    """uvicorn's server with a longer queue of connections in the system."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_SYSTEM_BACKLOG)


class Pool:
    """All open connections of one page; used on the server's event loop only.

    Args:
        limits: of their number and their time.
    """

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: list[Connection] = []  # the oldest first

    def add(self, connection: Connection) -> None:
        """Add a newcomer; if there is no room, the host with the most newcomers loses its oldest."""
        newcomers = [other for other in self._connections() if not other.is_member]
        if len(newcomers) >= self.limits.newcomers:
            host, _ = Counter(other.host for other in newcomers).most_common(1)[0]
            self._end(next(other for other in newcomers if other.host == host))
        self._open.append(connection)

    def has_room_for_member(self) -> bool:
        """Return whether one more connection may become a member; an idle member is closed for it."""
        members = [other for other in self._connections() if other.is_member]
        if len(members) < self.limits.members:
            return True
        idle = next((other for other in members if other.is_idle), None)
        if idle is not None:
            self._end(idle)
        return idle is not None

    def _connections(self) -> list[Connection]:
        self._open = [connection for connection in self._open if connection.is_open()]
        return self._open

    def _end(self, connection: Connection) -> None:
        self._open.remove(connection)
        connection.transport.abort()


class Connection:
    """One connection; it stays the same when it becomes a WebSocket.

    Args:
        pool: it belongs to.

    Attributes:
        is_member: whether one of its requests has been accepted.
        host: the client's address.
    """

    def __init__(self, pool: Pool) -> None:
        self.is_member = False
        self.host = ""
        self.transport: asyncio.Transport
        self._pool = pool
        self._num_requests = 0  # that are being answered
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def is_idle(self) -> bool:
        """Whether no request is being answered."""
        return not self._num_requests

    def is_open(self) -> bool:
        """Return whether it still has a file descriptor; a closing one has until all is sent."""
        return bool(self.transport.get_extra_info("socket").fileno() >= 0)

    def begin(self, transport: asyncio.Transport) -> None:
        """Count the connection and wait for its first request."""
        self.transport = transport
        self.host = (transport.get_extra_info("peername") or ("",))[0]
        self._pool.add(self)
        self._start("request", self._pool.limits.request_s)

    def end(self) -> None:
        """Stop every timer."""
        for name in tuple(self._timers):
            self._stop(name)

    def accept(self) -> bool:
        """Make the connection a member.

        Returns:
            False if there is no room for another one.
        """
        self.is_member = self.is_member or self._pool.has_room_for_member()
        return self.is_member

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Stop the timeout while a request is being answered."""
        self._num_requests += 1
        self._stop("request")
        try:
            yield
        finally:
            self._num_requests -= 1
            if self.is_idle and not self.transport.is_closing():
                self._start("request", self._pool.limits.request_s)

    def set_reading(self, *, is_reading: bool) -> None:
        """Note whether the client reads its answer; it is disconnected if it stops for too long."""
        if is_reading:
            self._stop("read")
        else:
            self._start("read", self._pool.limits.read_s)

    def _start(self, name: str, seconds: float) -> None:
        self._stop(name)
        is_gentle = self.is_member and name == "request"  # the last answer may still be on its way
        self._timers[name] = self._loop.call_later(seconds, self.transport.close if is_gentle else self.transport.abort)

    def _stop(self, name: str) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()


class _LimitedProtocol(asyncio.Protocol):
    """The limits, as a mix-in for uvicorn's protocols."""

    app_state: dict[str, Any]

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.end()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._connection.set_reading(is_reading=False)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._connection.set_reading(is_reading=True)

    @property
    def _connection(self) -> Connection:
        connection: Connection = self.app_state[CONNECTION]
        return connection


class WebSocketProtocol(_LimitedProtocol, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol with limits, for its option `ws`; takes over an `HttpProtocol`'s connection."""


class HttpProtocol(_LimitedProtocol, H11Protocol):
    """uvicorn's HTTP protocol with limits; see `make_http_protocol`."""

    pool: ClassVar[Pool]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, CONNECTION: Connection(self.pool)}, _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connection.begin(transport)


def make_http_protocol(pool: Pool) -> type[HttpProtocol]:
    """Return the class for uvicorn's option `http` whose connections belong to a pool."""
    return type("PooledHttpProtocol", (HttpProtocol,), {"pool": pool})
