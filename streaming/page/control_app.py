"""The control room's API over HTTP and WebSocket; what can be done is the table in `actions.py`."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from runtime import BundleError, EngineError
from streaming.desk import Desk, NotReadyError, UnknownError
from streaming.page.actions import ACTIONS, MAX_DISSOLVE_S, Action, Field, read_json
from streaming.page.metrics import CONTENT_TYPE, to_prometheus
from streaming.page.openapi import describe
from streaming.page.uploads import MAX_BYTES, decode_picture

MAX_JSON_BYTES = 2**16
_TELL_S = 0.25  # between two looks at the figures
_MAX_LISTENERS = 32
_TRY_LATER = 1013  # of a WebSocket
_FAILURES = (ValueError, BundleError, EngineError)
_BY_NAME = {action.name: action for action in ACTIONS}
_DISSOLVE = Field("dissolve_s", "number", "", 0, MAX_DISSOLVE_S)
_LABEL = Field("label", "string", "", 0, 200)
_CREATES = ("prepare", "prompt", "animate")


class _Number(Convertor[int]):
    """A whole number in a path, of no more digits than a cue's id has: Starlette's own would read thousands."""

    regex = "[0-9]{1,15}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", _Number())


class ControlRoom:
    """The API of one show; everything here belongs to the server's event loop.

    Args:
        desk: what is steered.
        stats: returns what `/stats` sends.
        size: (width, height) of a frame in pixels.
    """

    def __init__(self, desk: Desk, stats: Callable[[], Mapping[str, Any]], size: tuple[int, int]) -> None:
        self._desk, self._stats, self._size = desk, stats, size
        self._changed = asyncio.Event()
        self._is_closed = False
        self._num_listeners = 0
        self._uploads = asyncio.Semaphore(1)  # each is decoded in a process of its own: one core is enough for them

    def wake(self) -> None:
        """Tell every listener the state, as it has changed."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Let every WebSocket end."""
        self._is_closed = True
        self.wake()

    def routes(self, *, has_webrtc: bool) -> list[BaseRoute]:
        """Return the API's routes."""

        async def show_state(_request: Request) -> Response:
            return JSONResponse(self._desk.state())

        async def show_api(_request: Request) -> Response:
            title = str(self._stats().get("title", ""))
            return JSONResponse(describe(title, has_webrtc=has_webrtc))

        async def show_metrics(_request: Request) -> Response:
            return Response(to_prometheus(self._stats()), media_type=CONTENT_TYPE)

        return [
            Route("/api/state", show_state),
            Route("/api/openapi.json", show_api),
            Route("/metrics", show_metrics),
            Route("/api/cues/image", self._take_image, methods=["POST"]),
            *(self._route(action) for action in ACTIONS),
            WebSocketRoute("/api/live", self._listen),
        ]

    def _route(self, action: Action) -> Route:
        async def do(request: Request) -> Response:
            try:
                body = await read_body(request, MAX_JSON_BYTES)
                given = read_json(body)
            except ValueError as error:
                return refuse(400, str(error))
            if isinstance(given, dict):
                for field in action.fields:
                    if field.is_in_path and (text := request.path_params.get(field.name)) is not None:
                        given[field.name] = text
            status, answer = await self._do(action, given)
            return JSONResponse(answer, status)

        path = action.path
        for field in action.fields:
            if field.is_in_path and field.type == "integer":  # anything else is another place
                path = path.replace(f"{{{field.name}}}", f"{{{field.name}:number}}")
        return Route(path, do, methods=[action.method])

    async def _do(self, action: Action, given: Any) -> tuple[int, dict[str, Any]]:
        """Do an action; return the status and the answer."""
        try:
            values = action.read(given)
            if action.is_quick:
                done = action.run(self._desk, values)
            else:
                done = await run_in_threadpool(action.run, self._desk, values)
        except NotReadyError as error:
            return 503, {"error": str(error)}
        except UnknownError as error:
            return 404, {"error": str(error)}
        except _FAILURES as error:
            return 422, {"error": " ".join(str(error).split())}
        return (201 if action.name in _CREATES else 200), done

    async def _take_image(self, request: Request) -> Response:
        label = request.query_params.get("label", "") or "image"
        take_s = None
        try:
            _LABEL.check(label)
            if "dissolve_s" in request.query_params:
                take_s = _DISSOLVE.check(_to_number(request.query_params["dissolve_s"]))
        except ValueError as error:
            return refuse(422, str(error))
        try:
            async with self._uploads:
                data = await read_body(request, MAX_BYTES)
                picture = await run_in_threadpool(decode_picture, data, *self._size)
        except ValueError as error:
            return refuse(415, str(error))
        prepare = Action(
            "image", "POST", "", "", (), lambda desk, _: desk.prepare({"image": picture}, label=label, take_s=take_s)
        )
        status, answer = await self._do(prepare, {})
        return JSONResponse(answer, 201 if status == 200 else status)

    async def _listen(self, socket: WebSocket) -> None:
        await socket.accept()
        if self._num_listeners >= _MAX_LISTENERS:
            await socket.close(_TRY_LATER, f"{_MAX_LISTENERS} listen already")
            return
        self._num_listeners += 1
        teller = asyncio.create_task(self._tell(socket))
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await socket.send_json(await self._answer(message.get("text")))
        except (WebSocketDisconnect, RuntimeError):  # it has left while it was being answered
            return
        finally:
            self._num_listeners -= 1
            teller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await teller

    async def _answer(self, text: str | None) -> dict[str, Any]:
        number: Any = None
        try:
            if text is None:
                raise ValueError("messages are text that holds JSON")
            given = read_json(text)
            if not isinstance(given, dict):
                raise ValueError('messages are objects, e.g. {"id": 1, "do": "prompt", "text": "a calm sea"}')
            number = given.pop("id", None)
            if not isinstance(number, (int, str, type(None))) or (isinstance(number, str) and len(number) > 100):
                number = None
                raise ValueError("id must be a whole number or a short string")
            action = _BY_NAME.get(str(given.pop("do", None)))
            if action is None:
                raise ValueError(f"do must be one of {', '.join(_BY_NAME)}")
        except ValueError as error:
            return {"id": number, "error": str(error)}
        status, answer = await self._do(action, given)
        return {"id": number, "ok": True, "done": answer} if status < 400 else {"id": number, **answer}

    async def _tell(self, socket: WebSocket) -> None:
        """Send the state whenever it changes, and the figures four times a second, to the end."""
        known: dict[str, Any] = {}
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while not self._is_closed:
                changed = self._changed
                state = self._desk.state()
                if state != known:
                    known = state
                    await socket.send_json({"state": state})
                await socket.send_json({"stats": dict(self._stats())})
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _TELL_S)
            await socket.close()


async def read_body(request: Request, limit: int) -> bytes:
    """Read a request's body as far as it is allowed to be.

    Raises:
        HTTPException: it is longer (413), or whoever sends it has left (400).
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and (len(announced) > 15 or int(announced) > limit):
        raise HTTPException(413, f"at most {limit} bytes are taken")
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise HTTPException(413, f"at most {limit} bytes are taken")
    except ClientDisconnect as error:
        raise HTTPException(400, "the request broke off") from error
    return bytes(body)


def refuse(status: int, why: str) -> JSONResponse:
    """Return an answer that says why not."""
    return JSONResponse({"error": why}, status)


def _to_number(text: str) -> float | str:
    return float(text) if re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?([eE][+-]?\d{1,3})?", text, re.ASCII) else text
