"""What peers cost the page at most: connections, time, memory and work."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidMessage
from websockets.sync.client import connect

from runtime import Generator
from streaming.control.controller import MAX_CUES, ShowController
from streaming.page import api as control_app
from streaming.page import jpeg
from streaming.page.connections import Limits, default_limits
from streaming.page.server import TOKEN_VARIABLE
from streaming.sinks import page_sink
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import Frame, StreamFormat
from tests.streaming.doubles import WAIT_S, colour_card, to_i420

resource = pytest.importorskip("resource", reason="descriptors are limited on POSIX systems alone")

pytestmark = pytest.mark.live
CARD = to_i420(colour_card(128, 96))
PATIENT = {"request_s": WAIT_S, "read_s": WAIT_S, "pause_s": WAIT_S, "body_s": WAIT_S}
SOON_S = 0.2


class Page:
    """A page with limits of its own, and the connections to it."""

    def __init__(self, host: str, controller: ShowController | None, limits: Limits) -> None:
        self.sink = PageSink(f"http://{host}:0", limits)
        self.sink.open(StreamFormat("a show", 128, 96, Fraction(25), "i420", dict, controller))
        self.sink.start()
        self.port = int(self.sink.name.rpartition(":")[2])
        self.open = ExitStack()

    def connect(self, sent: bytes = b"", host: str = "127.0.0.1") -> socket.socket:
        """Connect from a host of this machine and send something."""
        connection = socket.create_connection(("127.0.0.1", self.port), WAIT_S, source_address=(host, 0))
        self.open.enter_context(connection)
        connection.sendall(sent)
        return connection

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Send a request over a new connection; return the status and the answer, from JSON where it is some."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        self.open.callback(connection.close)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, json.loads(content) if is_json else content

    def answered(self, sent: bytes, status: int = 200) -> socket.socket:
        """Return a connection over which something was sent and answered, even where the limits are short."""
        while True:
            connection = self.connect(sent)
            with contextlib.suppress(OSError, EOFError):
                assert status_of(connection) == status
                return connection

    def listen(self) -> Any:
        """Open a WebSocket, even where the limits are short."""
        url = f"ws://127.0.0.1:{self.port}/api/live"
        while True:
            with contextlib.suppress(OSError, EOFError, InvalidMessage):
                return self.open.enter_context(connect(url, open_timeout=WAIT_S, compression=None))

    def close(self) -> None:
        """End it."""
        self.open.close()
        self.sink.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Page]]:
    """Starts pages, patient ones unless limits say otherwise."""
    with ExitStack() as stack:

        def start(host: str = "127.0.0.1", controller: ShowController | None = None, **limits: Any) -> Page:
            page = Page(host, controller, Limits(**{**PATIENT, **limits}))
            stack.callback(page.close)
            return page

        yield start


@pytest.fixture
def controller(prompted_bundle: Path) -> Iterator[ShowController]:
    with Generator.open(prompted_bundle, engine="onnxruntime", threads=1, seed=3) as generator:
        controller = ShowController()
        controller.attach(generator, "seed 3")
        yield controller
        controller.close()


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def status_of(connection: socket.socket) -> int:
    """Read an answer's head."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = connection.recv(1)
        if not piece:
            raise EOFError(f"the server closed the connection after {head!r}")
        head += piece
    return int(head.split()[1])


def rest_of(connection: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    with connection.makefile("rb") as file:
        return file.read()


def test_silent_connections_never_keep_the_token_holder_out(
    serve: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "chosen")
    page = serve("0.0.0.0", newcomers=3, members=2)
    silent = [page.connect() for _ in range(8)]
    assert [rest_of(connection) for connection in silent[:5]] == [b""] * 5, "the oldest make room"
    assert page.ask("GET", "/stats", Authorization="Bearer chosen")[0] == 200
    assert page.ask("GET", "/stats")[0] == 401
    assert page.ask("GET", "/stats", Authorization="Bearer chosen")[0] == 200


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux answers to every 127.0.0.0/8 by itself")
def test_a_flood_from_one_address_closes_its_own_connections(serve: Callable[..., Page]) -> None:
    page = serve(newcomers=3)
    slow = page.connect(host="127.0.0.2")
    flood = [page.connect() for _ in range(8)]
    assert [rest_of(connection) for connection in flood[:6]] == [b""] * 6
    slow.sendall(request("/stats"))
    assert status_of(slow) == 200


UPGRADE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: " + 22 * "a" + "==",
)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /stats HT",
        request("/stats")[:-2],
        request("/api/live", *UPGRADE, f"Cookie: {'x' * 9000}"),  # which uvicorn takes and websockets does not
    ],
    ids=["nothing", "half a line", "half a head", "a line too long for a WebSocket"],
)
def test_who_sends_no_whole_request_is_closed_in_time(serve: Callable[..., Page], sent: bytes) -> None:
    assert rest_of(serve(request_s=SOON_S).connect(sent)) == b""


def test_nor_may_a_later_request_stay_unfinished(serve: Callable[..., Page]) -> None:
    rest_of(serve(request_s=SOON_S).answered(request("/stats") + b"GET /stats HT"))


def test_a_refused_request_gains_no_time(serve: Callable[..., Page], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "chosen")
    rest_of(serve("0.0.0.0", request_s=SOON_S).answered(request("/stats") + b"GET /stats HT", 401))


def test_streams_and_websockets_outlast_the_limit_for_a_request(serve: Callable[..., Page]) -> None:
    page = serve(request_s=SOON_S)
    stream = page.answered(request("/stream.mjpeg"))
    listener = page.listen()
    assert rest_of(page.connect()) == b"", "a limit that began later has passed"
    page.sink.write(Frame(CARD, 0))
    with stream.makefile("rb") as file:
        while file.readline() != b"Content-Type: image/jpeg\r\n":
            pass
    listener.send('{"id": 1, "do": "nothing"}')
    while "id" not in (message := json.loads(listener.recv(timeout=WAIT_S))):
        pass
    assert "do must be one of" in message["error"]


def test_there_are_places_for_members_and_an_idle_one_makes_room(serve: Callable[..., Page]) -> None:
    page = serve(members=2)
    idle = page.answered(request("/stats"))
    page.listen()
    listener = page.listen()
    rest_of(idle)
    status, answer = page.ask("GET", "/stats")
    assert (status, answer) == (503, {"error": "too many connections: try again in a moment"})
    listener.close()
    while page.ask("GET", "/stats")[0] == 503:  # until the server has seen that it is closed
        pass
    assert page.ask("GET", "/stats")[0] == 200


def test_streams_leave_places_for_those_who_control_the_show(serve: Callable[..., Page]) -> None:
    page = serve(members=4)
    for _ in range(2):
        page.answered(request("/stream.mjpeg"))
    assert page.ask("GET", "/stream.mjpeg") == (503, {"error": "at most 2 viewers are allowed: try again later"})
    assert page.ask("GET", "/stats")[0] == 200
    assert page.sink.state() == "2 watching"


def test_who_stops_reading_is_cut_off(serve: Callable[..., Page], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "to_jpeg", lambda picture: bytes(2**20))
    page = serve(read_s=SOON_S)
    page.answered(request("/stream.mjpeg"))
    deadline_s = time.monotonic() + WAIT_S
    while page.sink.state() == "1 watching":
        page.sink.write(Frame(CARD, 0))
        assert time.monotonic() < deadline_s
        time.sleep(0.001)
    assert page.ask("GET", "/stats")[0] == 200


@pytest.mark.parametrize("limits", [{"pause_s": SOON_S}, {"body_s": SOON_S}])
@pytest.mark.parametrize("path", ["/api/cues/image", "/api/prompt", "/api/webrtc"])
def test_a_body_has_to_arrive_in_time(serve: Callable[..., Page], limits: dict[str, float], path: str) -> None:
    page = serve(**limits)
    connection = page.connect(request(path, "Content-Length: 9", method="POST") + b"half")
    assert status_of(connection) == 408
    assert b"the body must arrive within" in rest_of(connection)


def test_an_unread_body_has_to_arrive_in_time(serve: Callable[..., Page]) -> None:
    rest_of(serve(request_s=SOON_S).answered(request("/stats", "Content-Length: 9") + b"half"))


def test_a_stalled_upload_holds_no_other_up(
    serve: Callable[..., Page], controller: ShowController, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_app, "decode_picture", lambda data, width, height, fit: colour_card(128, 96))
    page = serve(controller=controller)
    stalled = page.answered(
        request("/api/cues/image", "Content-Length: 9", "Expect: 100-continue", method="POST"), 100
    )  # the server waits for the body
    stalled.sendall(b"half")
    assert page.ask("POST", "/api/cues/image", b"a picture")[0] == 201
    stalled.sendall(b"other")
    assert status_of(stalled) == 201


def test_uploads_are_bounded_together(
    serve: Callable[..., Page], controller: ShowController, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def decode(data: bytes, width: int, height: int, fit: str) -> Any:
        begun.set()
        assert go_on.wait(WAIT_S)
        raise ValueError("it is no picture")

    monkeypatch.setattr(control_app, "decode_picture", decode)
    monkeypatch.setattr(control_app, "_MAX_UPLOAD_BYTES", 10)
    monkeypatch.setattr(control_app, "_MAX_UNDECODED", 1)
    page = serve(controller=controller)
    first = page.connect(request("/api/cues/image", "Content-Length: 4", method="POST") + b"abcd")
    assert begun.wait(WAIT_S)
    status, answer = page.ask("POST", "/api/cues/image", b"1234567")
    assert (status, answer["error"]) == (503, "too many pictures are being sent: try again in a moment")
    status, answer = page.ask("POST", "/api/cues/image", b"123456")
    assert (status, answer["error"]) == (503, "too many pictures wait to be decoded: try again in a moment")
    go_on.set()
    assert status_of(first) == 415
    assert page.ask("POST", "/api/cues/image", b"1234567890")[0] == 415, "what was counted is free again"


def test_a_dropped_cue_is_not_computed(controller: ShowController, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, ready = threading.Event(), threading.Event(), threading.Event()
    made = []
    generator = controller._generator
    assert generator is not None
    original = generator.prepare

    def prepare(**parts: Any) -> Any:
        made.append(parts["seed"])
        begun.set()
        assert go_on.wait(WAIT_S)
        return original(**parts)

    def look() -> None:
        if any(cue["label"] == "seed 999" and cue["state"] == "ready" for cue in controller.state()["cues"]):
            ready.set()

    monkeypatch.setattr(generator, "prepare", prepare)
    controller.on_change.append(look)
    cue = controller.prepare({"seed": 0})
    assert begun.wait(WAIT_S)
    controller.drop(cue["id"])
    for seed in range(1, 8 * MAX_CUES + 1):
        controller.drop(controller.prepare({"seed": seed})["id"])
    controller.prepare({"seed": 999})
    go_on.set()
    assert ready.wait(WAIT_S)
    assert made == [0, 999], "what had begun, and what was wanted"


def test_a_cue_that_cannot_be_shown_affects_no_other(
    controller: ShowController, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    done = threading.Event()

    def look() -> None:
        states[:] = [cue["state"] for cue in controller.state()["cues"]]
        if states == ["failed", "ready"]:
            done.set()

    controller.on_change.append(look)
    assert controller._generator is not None
    monkeypatch.setattr(controller._generator, "take", lambda memory, dissolve_s: int("not a number"))
    controller.prepare({"seed": 1}, take_s=0.0)
    controller.prepare({"seed": 2})
    assert done.wait(WAIT_S), states


def test_errors_that_repeat_are_told_once(
    serve: Callable[..., Page], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = serve()
    loop = page.sink._loop
    assert loop is not None
    full = OSError(errno.EMFILE, "Too many open files")

    async def fail() -> None:
        for _ in range(100):
            loop.call_exception_handler({"message": "socket.accept() out of system resource", "exception": full})
            loop.call_exception_handler({"message": "a fault", "exception": RuntimeError("a fault")})

    asyncio.run_coroutine_threadsafe(fail(), loop).result(WAIT_S)
    assert page.sink.state() == "0 watching, but no connection can be accepted: Too many open files"
    assert page.sink.errors == 1, "the status shows the state once"
    assert [record.getMessage().splitlines()[0] for record in caplog.records] == ["a fault"]
    monkeypatch.setattr(page_sink, "_REPORT_AGAIN_S", 0.0)
    asyncio.run_coroutine_threadsafe(fail(), loop).result(WAIT_S)
    assert page.sink.errors == 101


@pytest.mark.parametrize(
    ("descriptors", "newcomers", "members"),
    [(resource.RLIM_INFINITY, 50, 150), (65536, 50, 150), (1024, 50, 150), (256, 16, 48), (8, 1, 1)],
)
def test_most_descriptors_are_left_to_the_sinks(
    descriptors: int, newcomers: int, members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (descriptors, descriptors))
    limits = default_limits()
    assert (limits.newcomers, limits.members) == (newcomers, members)
    assert limits.accepts <= newcomers
