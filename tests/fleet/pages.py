"""The page of a show, as small as it can be, and a director without a cluster."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fleet.director import UnknownShowError
from tests.fleet.waiting import WAIT_S

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class ShowPage:
    """Serves an application that tells what it was asked; a context manager.

    Args:
        token: that it requires.
        metrics: what it answers at /metrics.

    Attributes:
        url: its address.
        goes_on: set to let /stream send its second piece.
    """

    def __init__(self, token: str = "", metrics: str = "") -> None:
        self.goes_on = threading.Event()
        self._token, self._metrics = token, metrics
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        routes = [
            Route("/metrics", self._show_metrics),
            Route("/stream", self._stream),
            Route("/refused", self._refuse),
            WebSocketRoute("/ws", self._talk),
            Route("/{path:path}", self._tell, methods=METHODS),
        ]
        settings = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            log_level="critical",
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server.serve(sockets=[self._socket])), daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.goes_on.set()
        self._server.should_exit = True
        self._thread.join(WAIT_S)
        self._socket.close()

    async def _tell(self, request: Request) -> Response:
        given = request.headers
        told = {
            "method": request.method,
            "path": request.path_params["path"],
            "query": request.url.query,
            "body": (await request.body()).decode(),
            "content-type": given.get("content-type"),
            "cookie": given.get("cookie"),
            "knows": self._knows(given),
        }
        headers = {"set-cookie": "a=b", "cache-control": "max-age=60", "x-other": "x"}
        return JSONResponse(told, 201 if request.method == "POST" else 200, headers)

    async def _refuse(self, _request: Request) -> Response:
        return JSONResponse({"error": "sway must be from 0 to 4"}, 422)

    async def _show_metrics(self, request: Request) -> Response:
        return PlainTextResponse(self._metrics if self._knows(request.headers) else "", 200)

    async def _stream(self, _request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"first"
            await asyncio.to_thread(self.goes_on.wait, WAIT_S)
            yield b"second"

        return StreamingResponse(pieces(), media_type="multipart/x-mixed-replace; boundary=frame")

    async def _talk(self, socket: WebSocket) -> None:
        """Send everything back, with a word before it; "end" closes."""
        await socket.accept()
        await socket.send_text("knows" if self._knows(socket.headers) else "stranger")
        try:
            while (message := await socket.receive())["type"] == "websocket.receive":
                if message.get("text") == "end":
                    await socket.close()
                elif message.get("text") is not None:
                    await socket.send_text(f"got {message['text']}")
                else:
                    await socket.send_bytes(b"got " + message["bytes"])
        except (WebSocketDisconnect, RuntimeError):
            pass

    def _knows(self, headers: Any) -> bool:
        return bool(headers.get("authorization", "") == (f"Bearer {self._token}" if self._token else ""))


class FakeDirector:
    """Does what it is told, and remembers it; see `fleet.director.Director`.

    Attributes:
        pages: name of a show -> address and token of its page; "" for one that is not on air.
        calls: name of the method and its arguments.
        error: raised by what changes something; None for none.
    """

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, str]] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.error: Exception | None = None
        self.problem, self.is_lost = "", False

    def shows(self) -> list[dict[str, Any]]:
        """Return all shows."""
        return [
            {
                "name": name,
                "state": "on air" if url else "starts",
                "error": "",
                "node": "n1",
                "starts": number,
                "bundle": "",
                "tenant": "acme",
                "cpus": 1.0,
                "gpus": 0.0,
            }
            for number, (name, (url, _)) in enumerate(self.pages.items(), 1)
        ]

    def nodes(self) -> list[dict[str, Any]]:
        """Return two machines, one of them gone."""
        about = {"address": "127.0.0.1", "is_head": False, "is_draining": False, "cpus": 2.0, "gpus": 0.0}
        return [
            {"name": "n1", "is_alive": True, "shows": len(self.pages), **about},
            {"name": "n2", "is_alive": False, "shows": 0, **about},
        ]

    def page_of(self, name: str) -> tuple[str, str]:
        """Return where a page is."""
        if name not in self.pages:
            raise UnknownShowError(f"there is no show {name}")
        if not self.pages[name][0]:
            raise OSError(f"{name} is not on air: try again in a moment")
        return self.pages[name]

    def add(self, show: Any) -> None:
        """See `Director.add`."""
        self._do("add", show)

    def remove(self, name: str) -> None:
        """See `Director.remove`."""
        self._do("remove", name)

    def move(self, name: str) -> None:
        """See `Director.move`."""
        self._do("move", name)

    def drain(self, node: str) -> None:
        """See `Director.drain`."""
        self._do("drain", node)

    def change_bundle(self, name: str, bundle: str, dissolve_s: float) -> None:
        """See `Director.change_bundle`."""
        self._do("change_bundle", name, bundle, dissolve_s)

    def roll(self, before: str, after: str, dissolve_s: float) -> tuple[list[str], list[str]]:
        """See `Director.roll`."""
        self._do("roll", before, after, dissolve_s)
        return ["lobby"], ["hall"]

    def _do(self, *call: Any) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append(call)
