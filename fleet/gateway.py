"""One page and one API for all shows of a fleet; the page and the API of each show are below /shows/NAME/."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from fleet.config import to_show
from fleet.director import Director, UnknownShowError
from fleet.metrics import CONTENT_TYPE, merge
from streaming.page.actions import read_json
from streaming.page.api import Json, read_body
from streaming.page.app import content_policy
from streaming.page.connections import Limits
from streaming.page.guard import RequestGuard

_MAX_BODY = 2**16
_MAX_UPLOAD = 2**25
_ANSWER_S = 10.0  # for a show's page
_BEGIN_S = 60.0  # for an answer to begin; a clip takes seconds to be read
_CONNECT_S = 2.0
_METRICS_S = 2.0
_FORWARDED = ("content-type", "content-security-policy", "location")
_DISSOLVE_S = 1.0
_TRY_LATER = 1013  # close code of a WebSocket
_MAX_REASON = 120  # bytes that it may have beside it


class Gateway:
    """The web application of a fleet; used on the server's event loop only.

    Args:
        director: of the fleet.
        limits: how long a body may take to arrive.
    """

    def __init__(self, director: Director, limits: Limits) -> None:
        self._director, self._limits = director, limits
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))  # one show's must not reach another one
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S, read=None),  # live pictures never end
            limits=httpx.Limits(max_connections=None),  # a lost machine, or many viewers, must not block the others
            trust_env=False,
            cookies=no_cookies,
        )

    def app(self, guard: RequestGuard) -> ASGIApp:
        """Return the application behind a guard."""
        html = (Path(__file__).parent / "wall.html").read_text(encoding="utf-8")
        headers = {"content-security-policy": content_policy(html)}

        async def show_page(_request: Request) -> Response:
            return Response(html, media_type="text/html", headers=headers)

        async def show_shows(_request: Request) -> Response:
            director = self._director
            return Json({"shows": director.shows(), "nodes": director.nodes(), "problem": director.problem})

        async def enter(request: Request) -> Response:
            return RedirectResponse(f"/shows/{request.path_params['name']}/", 308)

        routes = [
            Route("/", show_page),
            Route("/api/shows", show_shows),
            Route("/api/shows", self._doing(self._add, 201), methods=["POST"]),
            Route("/api/shows/{name}", self._doing(self._remove), methods=["DELETE"]),
            Route("/api/shows/{name}/move", self._doing(self._move), methods=["POST"]),
            Route("/api/shows/{name}/bundle", self._doing(self._change), methods=["POST"]),
            Route("/api/bundles", self._doing(self._roll), methods=["POST"]),
            Route("/api/nodes/{name}/drain", self._doing(self._drain), methods=["POST"]),
            Route("/metrics", self._metrics),
            Route("/shows/{name}", enter),
            Route(
                "/shows/{name}/{path:path}", self._forward, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
            ),
            WebSocketRoute("/shows/{name}/{path:path}", self._forward_socket),
        ]
        return guard.wrap(Starlette(routes=routes, exception_handlers={HTTPException: _to_response}))

    async def close(self) -> None:
        """Close the connections to the shows' pages."""
        await self._client.aclose()

    def _doing(
        self, act: Callable[[str, dict[str, Any]], dict[str, Any]], status: int = 200
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return the endpoint of an action, which may take seconds and gets the name in the path and the body."""

        async def do(request: Request) -> Response:
            body = await read_body(request, _MAX_BODY, self._limits)
            try:
                given = read_json(body) if body else {}
                if not isinstance(given, dict):
                    raise ValueError("the body must be a JSON object")
                done = await run_in_threadpool(act, request.path_params.get("name", ""), given)
            except UnknownShowError as error:
                return Json({"error": str(error)}, 404)
            except ValueError as error:
                return Json({"error": str(error)}, 422)
            except OSError as error:
                return Json({"error": str(error)}, 503)
            return Json(done, status)

        return do

    def _add(self, _: str, given: dict[str, Any]) -> dict[str, Any]:
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise ValueError('a show needs a name, e.g. {"name": "lobby", "bundle": "bundles/landscape"}')
        self._director.add(to_show(name, given, variables={}, is_remote=True))  # no environment and files for clients
        return {"name": name}

    def _remove(self, name: str, _: dict[str, Any]) -> dict[str, Any]:
        self._director.remove(name)
        return {"name": name}

    def _move(self, name: str, _: dict[str, Any]) -> dict[str, Any]:
        self._director.move(name)
        return {"name": name}

    def _change(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        self._director.change_bundle(name, _text(given, "bundle"), _seconds(given))
        return {"name": name}

    def _roll(self, _: str, given: dict[str, Any]) -> dict[str, Any]:
        changed, left_out = self._director.roll(_text(given, "from"), _text(given, "to"), _seconds(given))
        return {"changed": changed, "not_on_air": left_out}

    def _drain(self, name: str, _: dict[str, Any]) -> dict[str, Any]:
        self._director.drain(name)
        return {"node": name}

    async def _metrics(self, _request: Request) -> Response:
        async def read(name: str) -> tuple[str, list[Any]]:
            try:
                url, token = self._director.page_of(name)
                answer = await self._client.get(f"{url}/metrics", headers=_bearer(token), timeout=_METRICS_S)
                return name, list(text_string_to_metric_families(answer.text))
            except (OSError, ValueError, httpx.HTTPError):
                return name, []

        shows, nodes = self._director.shows(), self._director.nodes()
        found = await asyncio.gather(*(read(show["name"]) for show in shows if show["state"] == "on air"))
        return Response(merge(dict(found), shows, nodes), media_type=CONTENT_TYPE)

    async def _forward(self, request: Request) -> Response:
        name, path = request.path_params["name"], request.path_params["path"]
        try:
            url, token = self._director.page_of(name)
        except UnknownShowError as error:
            return Json({"error": str(error)}, 404)
        except OSError as error:
            return Json({"error": str(error)}, 503)
        headers = _bearer(token)
        if (kind := request.headers.get("content-type")) is not None:
            headers["content-type"] = kind
        body = await read_body(request, _MAX_UPLOAD, self._limits)
        query = f"?{request.url.query}" if request.url.query else ""
        address = f"{url}/{quote(path)}{query}"
        sent = self._client.build_request(request.method, address, headers=headers, content=body)
        try:
            answer = await asyncio.wait_for(self._client.send(sent, stream=True), _BEGIN_S)
        except (httpx.HTTPError, TimeoutError):
            return Json({"error": f"{name} does not answer: try again in a moment"}, 503)
        kept = {key: value for key, value in answer.headers.items() if key in _FORWARDED}
        return StreamingResponse(_pieces(answer), answer.status_code, kept, background=BackgroundTask(answer.aclose))

    async def _forward_socket(self, socket: WebSocket) -> None:
        await socket.accept()
        name = socket.path_params["name"]
        try:
            url, token = self._director.page_of(name)
        except (OSError, UnknownShowError) as error:
            await _close(socket, str(error))
            return
        address = f"ws{url.removeprefix('http')}/{quote(socket.path_params['path'])}"
        try:
            async with connect(address, additional_headers=_bearer(token), proxy=None) as show:
                await _join(socket, show)
        except (OSError, ValueError, InvalidHandshake, TimeoutError):  # whose texts may hold the show's address
            await _close(socket, f"{name} does not answer: try again in a moment")


async def _join(socket: WebSocket, show: Any) -> None:
    """Pass messages on in both directions, until one side closes."""

    async def to_show_side() -> None:
        while (message := await socket.receive())["type"] != "websocket.disconnect":
            await show.send(message.get("text") or message.get("bytes") or "")

    async def to_client() -> None:
        async for message in show:
            await (socket.send_text(message) if isinstance(message, str) else socket.send_bytes(message))

    tasks = [asyncio.create_task(to_show_side()), asyncio.create_task(to_client())]
    _, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception) and not isinstance(
            result, (ConnectionClosed, WebSocketDisconnect, RuntimeError, asyncio.CancelledError)
        ):
            raise result
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close()


async def _close(socket: WebSocket, why: str) -> None:
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):
        await socket.close(_TRY_LATER, why.encode()[:_MAX_REASON].decode(errors="ignore"))


async def _pieces(answer: httpx.Response) -> AsyncIterator[bytes]:
    with contextlib.suppress(httpx.HTTPError):  # the show has ended
        async for piece in answer.aiter_raw():
            yield piece


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"} if token else {}


def _text(given: dict[str, Any], name: str) -> str:
    value = given.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a text, got {value!r}")
    return value


def _seconds(given: dict[str, Any]) -> float:
    value = given.get("dissolve_s", _DISSOLVE_S)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 3600:
        raise ValueError(f"dissolve_s must be 0 to 3600 seconds, got {value!r}")
    return float(value)


async def _to_response(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Json({"error": error.detail}, error.status_code)
