"""The API of the page over HTTP and WebSocket; its actions are the table in `actions.py`."""

from __future__ import annotations

import asyncio
import contextlib
import json
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

from runtime.prompts.hints import Hints
from streaming.control.controller import NotReadyError, ShowController, UnknownError
from streaming.control.cues import MAX_DISSOLVE_S
from streaming.control.timed_cues import FAILURES
from streaming.page.actions import ACTIONS, Action, ActionField, is_text, read_json
from streaming.page.connections import Limits
from streaming.page.metrics import CONTENT_TYPE, to_prometheus
from streaming.page.openapi import describe
from streaming.page.uploads import MAX_BYTES, decode_picture
from streaming.sinks.sink import Picture

MAX_JSON_BYTES = 2**16
_MAX_UPLOAD_BYTES = 8 * MAX_BYTES
_MAX_UNDECODED = 8
_SEND_S = 0.25  # between two messages with the statistics
_MAX_LISTENERS = 32
_TRY_LATER = 1013  # close code of a WebSocket
_BY_NAME = {action.name: action for action in ACTIONS}
_DISSOLVE = ActionField("dissolve_s", "number", "", 0, MAX_DISSOLVE_S)
_LABEL = ActionField("label", "string", "", 0, 200)
_CREATES = ("prepare", "prompt", "animate")


class _Number(Convertor[int]):
    """A whole number in a path of at most 15 digits; Starlette's own converter accepts thousands."""

    regex = "[0-9]{1,15}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("number", _Number())


class Json(JSONResponse):
    """JSON in ASCII: file names may hold bytes that are not UTF-8, which Python keeps as lone surrogates."""

    def render(self, content: Any) -> bytes:
        return to_json(content).encode()


class ControlRoom:
    """The API of one show; used on the server's event loop only.

    Args:
        controller: of the show.
        stats: returns the content of `/stats`.
        size: (width, height) of a frame in pixels.
        limits: how long a body may take to arrive.
    """

    def __init__(
        self, controller: ShowController, stats: Callable[[], Mapping[str, Any]], size: tuple[int, int], limits: Limits
    ) -> None:
        self._controller, self._stats, self._size, self._limits = controller, stats, size, limits
        self._changed = asyncio.Event()
        self._is_closed = False
        self._num_listeners = 0
        self._decoding = asyncio.Lock()  # one at a time: each picture is decoded in a process of its own
        self._num_undecoded = 0  # pictures that have arrived in full
        self._num_bytes = 0  # of all pictures, those that are arriving included

    def wake(self) -> None:
        """Send the changed state to every listener."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def close(self) -> None:
        """Close every WebSocket."""
        self._is_closed = True
        self.wake()

    def routes(self, *, has_webrtc: bool) -> list[BaseRoute]:
        """Return the API's routes."""

        async def show_state(_request: Request) -> Response:
            return Json(self._controller.state())

        async def show_api(_request: Request) -> Response:
            title = str(self._stats().get("title", ""))
            return JSONResponse(describe(title, has_webrtc=has_webrtc))

        async def show_metrics(_request: Request) -> Response:
            return Response(to_prometheus(self._stats()), media_type=CONTENT_TYPE)

        async def show_thumbnail(request: Request) -> Response:
            try:
                data = await run_in_threadpool(self._controller.thumbnail, request.path_params["scene"])
            except UnknownError as error:
                return Json({"error": str(error)}, 404)
            except NotReadyError as error:
                return Json({"error": str(error)}, 503)
            except FAILURES as error:
                return Json({"error": str(error)}, 400)
            return Response(data, media_type="image/jpeg", headers={"Cache-Control": "max-age=3600"})

        return [
            Route("/api/state", show_state),
            Route("/api/scenes/{scene:str}", show_thumbnail),
            Route("/api/openapi.json", show_api),
            Route("/metrics", show_metrics),
            Route("/api/cues/image", self._take_image, methods=["POST"]),
            *(self._route(action) for action in ACTIONS),
            WebSocketRoute("/api/live", self._listen),
        ]

    def _route(self, action: Action) -> Route:
        async def do(request: Request) -> Response:
            try:
                body = await read_body(request, MAX_JSON_BYTES, self._limits)
                given = read_json(body)
            except ValueError as error:
                return refuse(400, str(error))
            if isinstance(given, dict):
                for field in action.fields:
                    if field.is_in_path and (text := request.path_params.get(field.name)) is not None:
                        given[field.name] = text
            status, answer = await self._do(action, given)
            return Json(answer, status)

        path = action.path
        for field in action.fields:
            if field.is_in_path and field.type == "integer":  # anything else is an unknown path
                path = path.replace(f"{{{field.name}}}", f"{{{field.name}:number}}")
        return Route(path, do, methods=[action.method])

    async def _do(self, action: Action, given: Any) -> tuple[int, dict[str, Any]]:
        """Perform an action; return the status and the answer."""
        try:
            values = action.read(given)
            if action.is_quick:
                done = action.run(self._controller, values)
            else:
                done = await run_in_threadpool(action.run, self._controller, values)
        except NotReadyError as error:
            return 503, {"error": str(error)}
        except UnknownError as error:
            return 404, {"error": str(error)}
        except FAILURES as error:
            return 422, {"error": " ".join(str(error).split())}
        return (201 if action.name in _CREATES else 200), done

    async def _take_image(self, request: Request) -> Response:
        label = request.query_params.get("label", "") or "image"
        take_s, drawn = None, {}
        try:
            _LABEL.check(label)
            if "hints" in request.query_params:
                drawn = {"hints": Hints.from_json(read_json(request.query_params["hints"]))}
            if "dissolve_s" in request.query_params:
                take_s = _DISSOLVE.check(_to_number(request.query_params["dissolve_s"]))
        except ValueError as error:
            return refuse(422, str(error))
        try:
            picture = await self._read_picture(request)
        except ValueError as error:
            return refuse(415, str(error))
        prepare = Action(
            "image",
            "POST",
            "",
            "",
            (),
            lambda controller, _: controller.prepare({"image": picture, **drawn}, label=label, take_s=take_s),
        )
        status, answer = await self._do(prepare, {})
        return Json(answer, 201 if status == 200 else status)

    async def _read_picture(self, request: Request) -> Picture:
        """Read and decode an upload. A slow upload occupies only the bytes that have arrived."""
        num_bytes = 0

        def count(num: int) -> None:
            nonlocal num_bytes
            if self._num_bytes + num > _MAX_UPLOAD_BYTES:
                raise HTTPException(503, "too many pictures are being sent: try again in a moment")
            num_bytes += num
            self._num_bytes += num

        try:
            data = await read_body(request, MAX_BYTES, self._limits, count)
            if self._num_undecoded >= _MAX_UNDECODED:
                raise HTTPException(503, "too many pictures wait to be decoded: try again in a moment")
            self._num_undecoded += 1
            try:
                async with self._decoding:
                    return await run_in_threadpool(decode_picture, data, *self._size, self._controller.fit)
            finally:
                self._num_undecoded -= 1
        finally:
            self._num_bytes -= num_bytes

    async def _listen(self, socket: WebSocket) -> None:
        await socket.accept()
        if self._num_listeners >= _MAX_LISTENERS:
            await socket.close(_TRY_LATER, f"at most {_MAX_LISTENERS} connections are allowed")
            return
        self._num_listeners += 1
        sender = asyncio.create_task(self._send(socket))
        try:
            while True:
                message = await socket.receive()
                if message["type"] == "websocket.disconnect":
                    return
                await socket.send_text(to_json(await self._answer(message.get("text"))))
        except (WebSocketDisconnect, RuntimeError):  # the client has disconnected
            return
        finally:
            self._num_listeners -= 1
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sender

    async def _answer(self, text: str | None) -> dict[str, Any]:
        number: Any = None
        try:
            if text is None:
                raise ValueError("a message must be text that holds JSON")
            given = read_json(text)
            if not isinstance(given, dict):
                raise ValueError('a message must be an object, e.g. {"id": 1, "do": "prompt", "text": "a calm sea"}')
            number = given.pop("id", None)
            is_short = isinstance(number, str) and len(number) <= 100 and is_text(number)
            if not is_short and not isinstance(number, (int, type(None))):
                number = None
                raise ValueError("id must be a whole number or a short string")
            action = _BY_NAME.get(str(given.pop("do", None)))
            if action is None:
                raise ValueError(f"do must be one of {', '.join(_BY_NAME)}")
        except ValueError as error:
            return {"id": number, "error": str(error)}
        status, answer = await self._do(action, given)
        return {"id": number, "ok": True, "done": answer} if status < 400 else {"id": number, **answer}

    async def _send(self, socket: WebSocket) -> None:
        """Send the state when it changes, and the statistics four times a second, until the show ends."""
        known: dict[str, Any] = {}
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            while not self._is_closed:
                changed = self._changed
                state = self._controller.state()
                if state != known:
                    known = state
                    await socket.send_text(to_json({"state": state}))
                await socket.send_text(to_json({"stats": dict(self._stats())}))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), _SEND_S)
            await socket.close()


async def read_body(
    request: Request, limit: int, limits: Limits, count: Callable[[int], object] = lambda _: None
) -> bytes:
    """Read the body of a request within limits.

    Args:
        request: an HTTP request.
        limit: of its size in bytes.
        limits: of its time.
        count: called with the size of each piece before it is kept; an exception of it ends the reading.

    Raises:
        HTTPException: it is too long (413), takes too long (408), or the client has disconnected (400).
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 15 or int(announced) > limit):
        raise HTTPException(413, f"at most {limit} bytes are allowed")
    body = bytearray()
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + limits.body_s
    try:
        async with asyncio.timeout(min(limits.pause_s, limits.body_s)) as timeout:
            async for chunk in request.stream():
                if len(body) + len(chunk) > limit:
                    raise HTTPException(413, f"at most {limit} bytes are allowed")
                count(len(chunk))
                body += chunk
                timeout.reschedule(min(loop.time() + limits.pause_s, ends_s))
    except ClientDisconnect as error:
        raise HTTPException(400, "the client has disconnected") from error
    except TimeoutError as error:
        why = f"the body must arrive within {limits.body_s:g} s, without a pause of {limits.pause_s:g} s"
        raise HTTPException(408, why, {"connection": "close"}) from error
    return bytes(body)


def refuse(status: int, why: str) -> Response:
    """Return an error as JSON."""
    return Json({"error": why}, status)


def to_json(value: Any) -> str:
    """Write JSON in ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _to_number(text: str) -> float | str:
    return float(text) if re.fullmatch(r"-?\d{1,20}(\.\d{1,20})?([eE][+-]?\d{1,3})?", text, re.ASCII) else text
