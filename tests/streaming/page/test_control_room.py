"""The control room's API through a real server: what it does, and what it refuses."""

from __future__ import annotations

import http.client
import io
import json
import threading
import time
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from runtime import Generator
from streaming.control.controller import ShowController
from streaming.page.guard import is_loopback, is_same_origin
from streaming.page.server import TOKEN_VARIABLE
from streaming.page.uploads import decode_picture
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import StreamFormat
from tests.streaming.doubles import WAIT_S, card_error, colour_card

SINK = {
    "name": "a",
    "state": "on air",
    "written": 5,
    "dropped": 1,
    "errors": 2,
    "is_up": False,
    "bitrate": 640_000,
    "reconnects": 3,
}
STATS = {"engine": "fake fp32", "fps": 25.0, "frames": 3, "late": 2, "p99_ms": 12.5, "sinks": [SINK]}


class Room:
    """A control room over a real, small generator."""

    def __init__(self, generator: Generator, host: str = "127.0.0.1") -> None:
        self.controller = ShowController()
        self.controller.attach(generator, "seed 3")
        self.sink = PageSink(f"http://{host}:0")
        size = generator.width, generator.height
        self.sink.open(StreamFormat("a show", *size, Fraction(25), "i420", lambda: STATS, self.controller))
        self.sink.start()
        self.port = int(self.sink.name.rpartition(":")[2])

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Send a request; return the status and the answer, from JSON where it is some."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = answer.headers.get("content-type") == "application/json"
        return answer.status, json.loads(content) if is_json and content else content

    def listen(self, **headers: str) -> ClientConnection:
        """Open a WebSocket."""
        return connect(
            f"ws://127.0.0.1:{self.port}/api/live", additional_headers=headers, open_timeout=WAIT_S, compression=None
        )

    def close(self) -> None:
        """End it."""
        self.sink.close()
        self.controller.close()


@pytest.fixture(scope="module")
def generator(prompted_bundle: Path) -> Iterator[Generator]:
    with Generator.open(prompted_bundle, engine="onnxruntime", threads=1, seed=3) as generator:
        yield generator


@pytest.fixture
def room(generator: Generator) -> Iterator[Room]:
    room = Room(generator)
    yield room
    room.close()


UNREAD: WeakKeyDictionary[ClientConnection, list[Any]] = WeakKeyDictionary()  # what came before an answer


def say(socket: ClientConnection, message: Any) -> Any:
    """Send a message and return its answer; other messages are kept for `state_where`."""
    socket.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
    while True:
        answer = json.loads(socket.recv(timeout=WAIT_S))
        if "id" in answer:
            return answer
        UNREAD.setdefault(socket, []).append(answer)


def state_where(socket: ClientConnection, is_so: Any) -> Any:
    """Return the first state that meets a condition, also one that came before the last answer."""
    unread, ends_s = UNREAD.pop(socket, []), time.monotonic() + WAIT_S
    while time.monotonic() < ends_s:
        message = unread.pop(0) if unread else json.loads(socket.recv(timeout=WAIT_S))
        if "state" in message and is_so(message["state"]):
            return message["state"]
    raise TimeoutError("no such state")


@pytest.mark.live
def test_a_show_is_controlled_over_http(room: Room, generator: Generator) -> None:
    status, state = room.ask("GET", "/api/state")
    assert (status, state["is_ready"], state["takes"]) == (200, True, ["text", "image", "clip", "past", "seed"])
    name, most = state["controls"][0]["name"], state["controls"][0]["maximum"]
    assert room.ask("PUT", f"/api/controls/{name}", {"value": most}) == (200, {"value": most})
    assert generator.controls[name] == most
    status, refusal = room.ask("PUT", f"/api/controls/{name}", {"value": most + 1})
    assert status == 422
    assert f"{name} must be from" in refusal["error"]
    assert room.ask("PUT", "/api/controls/nothing", {"value": 1})[0] == 404
    assert (state["scenes"], room.ask("GET", "/api/scenes/lake")[0]) == ([], 404)
    assert room.ask("PUT", f"/api/controls/{name}", {"value": None})[0] == 422
    assert room.ask("POST", "/api/prompt", {"seed": 4, "text": None})[0] == 422
    with room.listen() as socket:
        status, cue = room.ask("POST", "/api/cues", {"text": "a calm sea", "seed": 4})
        assert (status, cue["state"], cue["label"]) == (201, "preparing", "a calm sea")
        state_where(socket, lambda state: [item["state"] for item in state["cues"]] == ["ready"])
        assert room.ask("POST", f"/api/cues/{cue['id']}/take", {"dissolve_s": 0})[1]["state"] == "on air"
        assert room.ask("GET", "/api/state")[1]["on_air"] == "a calm sea"
        room.ask("POST", "/api/prompt", {"seed": 9})
        state_where(socket, lambda state: [item["state"] for item in state["cues"]] == ["ready", "on air"])
    assert room.ask("DELETE", f"/api/cues/{cue['id']}") == (200, {})
    assert room.ask("DELETE", f"/api/cues/{cue['id']}")[0] == 404
    assert room.ask("DELETE", "/api/cues/image")[0] == 405
    assert room.ask("DELETE", "/api/cues/-1")[0] == 404
    for number in (2**60, 5000 * "9", "%D9%A1"):
        assert room.ask("DELETE", f"/api/cues/{number}")[0] == 404, number
    assert room.ask("POST", "/api/input/animate")[0] == 422
    assert (state["person"], state["behind"]) == (None, None)
    status, refusal = room.ask("PUT", "/api/behind", {"what": "blur"})
    assert (status, refusal["error"]) == (422, "this show has no person: start it with --input and --matte")


@pytest.mark.live
def test_a_show_is_controlled_over_a_websocket(room: Room, generator: Generator) -> None:
    with room.listen() as socket:
        assert state_where(socket, lambda state: True)["on_air"] == "seed 3"
        name = room.controller.state()["controls"][0]["name"]
        assert say(socket, {"id": 1, "do": "set", "name": name, "value": 0.25}) == {
            "id": 1, "ok": True, "done": {"value": 0.25},
        }  # fmt: skip
        assert generator.controls[name] == 0.25
        assert say(socket, {"id": "x", "do": "prompt", "text": "a calm sea", "dissolve_s": 0})["done"]["kind"] == "text"
        state_where(socket, lambda state: state["on_air"] == "a calm sea")
        assert "error" in say(socket, {"id": 2, "do": "take", "cue": 99})
        for wrong in ("", "[]", "{", '{"do": 1}', '{"id": {}, "do": "take"}', b"\xff", '{"do": "take", "cue": 1e999}'):
            assert "error" in say(socket, wrong), wrong
        while "stats" not in (message := json.loads(socket.recv(timeout=WAIT_S))):
            pass
        assert message["stats"]["frames"] == 3


@pytest.mark.live
def test_a_picture_becomes_a_scene(room: Room) -> None:
    file = io.BytesIO()
    Image.fromarray(colour_card(128, 96)).save(file, "PNG")
    with room.listen() as socket:
        status, cue = room.ask("POST", "/api/cues/image?label=card.png&dissolve_s=0", file.getvalue())
        assert (status, cue["label"], cue["kind"]) == (201, "card.png", "image")
        state_where(socket, lambda state: state["on_air"] == "card.png")
    assert room.ask("POST", "/api/cues/image", b"no picture")[0] == 415
    assert room.ask("POST", "/api/cues/image", b"")[0] == 415
    for query in (
        "dissolve_s=x",
        "dissolve_s=1_0",
        "dissolve_s=%201",
        "dissolve_s=nan",
        "dissolve_s=-1",
        f"label={201 * 'x'}",
    ):
        assert room.ask("POST", f"/api/cues/image?{query}", file.getvalue())[0] == 422, query
    assert room.ask("POST", "/api/cues/image", bytes(20 * 2**20 + 1))[0] == 413
    assert room.ask("POST", "/api/cues", bytes(2**17))[0] == 413


def png_bomb(width: int, height: int) -> bytes:
    """Return a small PNG that says it is huge, and is."""
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width * 3)) for _ in range(height)) + packer.flush()

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\0\0\0"
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_pictures_are_decoded_in_a_child_process() -> None:
    file = io.BytesIO()
    Image.fromarray(colour_card(400, 300)).save(file, "JPEG", quality=95)
    assert card_error(decode_picture(file.getvalue(), 64, 48)) <= 12
    assert decode_picture(file.getvalue(), 64, 64).shape == (64, 64, 3)
    assert decode_picture(file.getvalue(), 64, 64, "blur").shape == (48, 64, 3)  # the frame's rest is filled later
    with pytest.raises(ValueError, match="12000 x 9000 pixels, at most 40,000,000 are allowed"):
        decode_picture(png_bomb(12000, 9000), 64, 48)
    truncated = file.getvalue()[:2000]
    with pytest.raises(ValueError, match="it is damaged, or not one of JPEG"):
        decode_picture(truncated, 64, 48)
    with pytest.raises(ValueError, match="at most 20 MiB, got 21"):
        decode_picture(bytes(21 * 2**20), 64, 48)
    with pytest.raises(ValueError, match="takes too long to decode"):
        decode_picture(file.getvalue(), 64, 48, patience_s=0.0)


@pytest.mark.live
def test_the_description_is_of_what_there_is(room: Room) -> None:
    status, api = room.ask("GET", "/api/openapi.json")
    assert (status, api["openapi"]) == (200, "3.1.0")
    assert "a show" in api["info"]["title"]
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            concrete = path.replace("{cue}", "77").replace("{name}", "nothing")
            status, _ = room.ask(method.upper(), concrete, {} if method != "get" else None)
            assert str(status) in operation["responses"], (method, path, status)
            assert room.ask("PATCH", concrete)[0] == 405


@pytest.mark.live
def test_prometheus_reads_the_metrics(room: Room) -> None:
    status, text = room.ask("GET", "/metrics")
    assert status == 200
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }
    assert values["everframe_frames_total",] == 3
    assert values["everframe_late_frames_total",] == 2
    assert values["everframe_frame_seconds", "0.99"] == 0.0125
    assert values["everframe_sink_frames_total", "a"] == 5
    assert values["everframe_sink_up", "a"] == 0
    assert values["everframe_sink_reconnects_total", "a"] == 3
    assert values["everframe_sink_bits_per_second", "a"] == 640_000


@pytest.mark.live
def test_pages_of_other_sites_are_turned_away(room: Room) -> None:
    own, other = f"http://127.0.0.1:{room.port}", "https://evil.example"
    assert room.ask("GET", "/api/state", Origin=own)[0] == 200
    for origin in (other, "null", f"http://127.0.0.1:{room.port + 1}"):
        assert room.ask("GET", "/api/state", Origin=origin)[0] == 403
        assert room.ask("POST", "/api/prompt", {"seed": 1}, Origin=origin)[0] == 403
        with pytest.raises(InvalidStatus), room.listen(Origin=origin):
            pass
    with pytest.raises(InvalidStatus), room.listen(Host="evil.example"):
        pass
    with room.listen(Origin=own):
        pass


def test_origins_and_loopback() -> None:
    assert is_same_origin("http://localhost:8000", "LOCALHOST:8000")
    assert not is_same_origin("http://localhost:8000", "localhost")
    assert not is_same_origin("null", "localhost")
    assert not is_same_origin("ftp://localhost", "localhost")
    assert is_loopback("127.0.0.1")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert not is_loopback("studio.lan")


@pytest.mark.live
def test_beyond_this_machine_it_wants_a_token(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    room = Room(generator, "0.0.0.0")
    try:
        token = room.sink.invitation.partition("?token=")[2].partition(",")[0]
        assert len(token) >= 20
        assert token not in room.sink.name + room.sink.state() + room.sink.result()
        for path in ("/", "/stream.mjpeg", "/frame.jpg", "/stats", "/api/state", "/metrics", "/?token=wrong"):
            assert room.ask("GET", path)[0] == 401, path
        with pytest.raises(InvalidStatus), room.listen():
            pass
        assert room.ask("GET", "/api/state", Authorization=f"Bearer {token}")[0] == 200
        assert room.ask("GET", "/api/state", Authorization="Bearer \xe9")[0] == 401
        assert room.ask("GET", "/api/state", Cookie="everframe=wrong; ;;=")[0] == 401
        connection = http.client.HTTPConnection("127.0.0.1", room.port, timeout=WAIT_S)
        connection.request("GET", f"/?token={token}")
        answer = connection.getresponse()
        cookie = answer.headers["set-cookie"]
        assert (answer.status, answer.headers["location"]) == (303, "/")
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        connection.close()
        assert room.ask("GET", "/", Cookie=cookie.partition(";")[0])[0] == 200
        with room.listen(Cookie=cookie.partition(";")[0]):
            pass
    finally:
        room.close()
    monkeypatch.setenv(TOKEN_VARIABLE, "chosen")
    room = Room(generator, "0.0.0.0")
    try:
        assert room.sink.invitation == ""
        assert room.ask("GET", "/stats", Authorization="Bearer chosen")[0] == 200
    finally:
        room.close()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["text", "seed", "dissolve_s", "cue", "name", "value", "do", "id", "x"])


@pytest.mark.live
def test_strange_messages_of_each_kind_are_answered(room: Room) -> None:
    """Every request is answered without an internal error, and the room works as before."""
    names = ["prepare", "prompt", "take", "take_next", "drop", "set", "animate", "behind", "nothing"]
    paths = [
        "/api/cues",
        "/api/prompt",
        "/api/cues/1/take",
        "/api/cues/next/take",
        "/api/cues/x",
        "/api/controls/motion",
        "/api/input/animate",
    ]
    paths += ["/api/cues/image?dissolve_s=nan", "/api/state", "/../etc/passwd", "/%2e%2e/pyproject.toml", "/api/live"]
    methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"]

    @settings(max_examples=300, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(
        st.dictionaries(KEYS, JSON, max_size=4) | JSON,
        st.none() | st.binary(max_size=40),
        st.sampled_from(methods),
        st.sampled_from(paths),
        st.sampled_from(names),
    )
    def attack(value: Any, junk: bytes | None, method: str, path: str, name: str) -> None:
        body = json.dumps(value).encode() if junk is None else junk
        status, _ = room.ask(method, path, body)
        assert status < 500
        if isinstance(value, dict):
            value = {"do": name, **value}
        answer = say(socket, json.dumps(value) if junk is None else junk)
        assert "error" in answer or answer["ok"]
        if len(cues := room.controller.state()["cues"]) > 12:
            for cue in cues:
                room.controller.drop(cue["id"])

    with room.listen() as socket:
        attack()
        with pytest.raises(ConnectionClosed):
            say(socket, "x" * 2**17)
    assert room.ask("GET", "/api/state")[0] == 200
    assert threading.active_count() < 60


@pytest.mark.live
@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/prompt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
        b"POST /api/prompt HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /api/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: localhost\r\n\r\n",
    ],
)
def test_broken_requests_are_refused_or_dropped(room: Room, raw: bytes) -> None:
    import socket

    with socket.create_connection(("127.0.0.1", room.port), WAIT_S) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").readline()
    assert not answer or answer.split()[1][:1] == b"4", answer
    assert room.ask("GET", "/api/state")[0] == 200
