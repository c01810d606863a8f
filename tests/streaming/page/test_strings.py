"""Strings that cannot be encoded, read or sent on: each is refused in a sentence, and the page goes on."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from fractions import Fraction
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from runtime import Generator
from streaming.commandline import main
from streaming.control.controller import ShowController
from streaming.errors import SinkError
from streaming.page.guard import RequestGuard, is_same_origin
from streaming.page.server import TOKEN_VARIABLE
from streaming.page.webrtc import check
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import StreamFormat
from tests.streaming.doubles import WAIT_S, feed

HALF = "\ud800"  # of a surrogate pair, which JSON can hold and UTF-8 cannot
SINK = {"name": "\udcff.mp4", "written": 0, "dropped": 0, "errors": 0, "reconnects": 0, "bitrate": None, "is_up": True}


class Room:
    """A control room over a real, small generator; its show records to a file whose name is not UTF-8."""

    def __init__(self, generator: Generator, host: str) -> None:
        self.controller = ShowController()
        self.controller.attach(generator, "\udcff.png")
        self.sink = PageSink(f"http://{host}:0")
        size = generator.width, generator.height
        self.sink.open(StreamFormat("a show", *size, Fraction(25), "i420", lambda: {"sinks": [SINK]}, self.controller))
        self.sink.start()
        self.port = int(self.sink.name.rpartition(":")[2])

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, content

    def ask_raw(self, head: bytes) -> bytes:
        """Send a request's head; return the answer's first line."""
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as connection:
            connection.sendall(head)
            return connection.makefile("rb").readline()

    def listen(self, **headers: str) -> ClientConnection:
        url = f"ws://127.0.0.1:{self.port}/api/live"
        return connect(url, additional_headers=headers, open_timeout=WAIT_S, compression=None)

    def close(self) -> None:
        self.sink.close()
        self.controller.close()


@pytest.fixture(scope="module")
def generator(prompted_bundle: Path) -> Iterator[Generator]:
    with Generator.open(prompted_bundle, engine="onnxruntime", threads=1, seed=3) as generator:
        yield generator


@pytest.fixture(scope="module")
def room(generator: Generator) -> Iterator[Room]:
    room = Room(generator, "127.0.0.1")
    yield room
    room.close()


@pytest.mark.live
@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/api/prompt", {"text": HALF}, 422),
        ("POST", "/api/cues", {"text": f"a calm {HALF} sea"}, 422),
        ("POST", "/api/cues", {"seed": 1, HALF: 1}, 422),
        ("POST", "/api/cues", {"seed": HALF}, 422),
        ("POST", "/api/cues", HALF, 422),
        ("POST", "/api/cues/1/take", {"dissolve_s": [HALF]}, 422),
        ("POST", "/api/webrtc", {"type": "offer", "sdp": f"v=0\r\nm=video {HALF}"}, 422),
        ("POST", "/api/webrtc", {"type": HALF, "sdp": "v=0"}, 422),
        ("PUT", "/api/controls/%ED%A0%80", {"value": 1}, 404),
        ("PUT", "/api/controls/%00%0A%FF", {"value": 1}, 404),
        ("DELETE", "/api/cues/%ED%A0%80", None, 404),
        ("POST", "/api/cues/image?label=%ED%A0%80&dissolve_s=%FF", None, 422),
    ],
)
def test_half_a_character_is_refused_over_http(room: Room, method: str, path: str, body: Any, status: int) -> None:
    got, answer = room.ask(method, path, None if body is None else json.dumps(body).encode())
    assert got == status
    assert list(json.loads(answer)) in (["error"], ["detail"])


@pytest.mark.live
def test_half_a_character_that_was_sent_as_bytes_is_refused_as_well(room: Room) -> None:
    status, answer = room.ask("POST", "/api/prompt", b'{"text": "\xed\xa0\x80"}')
    assert (status, json.loads(answer)) == (422, {"error": 'text holds half of a surrogate pair, got "\\ud800"'})


@pytest.mark.live
def test_half_a_character_is_refused_over_a_websocket(room: Room) -> None:
    with room.listen() as listener:
        for message in (
            {"id": 1, "do": "prompt", "text": HALF},
            {"id": 1, "do": "set", "name": HALF, "value": 1},
            {"id": 1, "do": HALF},
            {"id": 1, "do": "prompt", "seed": 1, HALF: 1},
            {"id": HALF, "do": "prompt", "seed": 1},
            {"id": {HALF: HALF}, "do": "prompt", "seed": 1},
        ):
            listener.send(json.dumps(message))
            while "id" not in (answer := json.loads(listener.recv(timeout=WAIT_S))):
                pass
            assert answer["id"] == (1 if message["id"] == 1 else None)
            assert answer["error"]
    assert not room.controller.state()["cues"]


@pytest.mark.live
def test_names_of_files_that_are_no_utf_8_are_told(room: Room) -> None:
    assert json.loads(room.ask("GET", "/api/state")[1])["on_air"] == "\udcff.png"
    assert json.loads(room.ask("GET", "/stats")[1])["sinks"][0]["name"] == "\udcff.mp4"
    status, metrics = room.ask("GET", "/metrics")
    assert status == 200
    assert b'everframe_sink_up{sink="?.mp4"} 1.0' in metrics
    with room.listen() as listener:
        received = [json.loads(listener.recv(timeout=WAIT_S)) for _ in range(2)]
    assert received[0]["state"]["on_air"] == "\udcff.png"
    assert received[1]["stats"]["sinks"][0]["name"] == "\udcff.mp4"


@pytest.mark.live
@pytest.mark.parametrize("origin", ["http://[", "http://]", "http://[::1", "http://\xe9\xff", "//", "http://a\u2100b"])
def test_an_origin_that_is_no_address_is_another_site(room: Room, origin: str) -> None:
    assert not is_same_origin(origin, f"127.0.0.1:{room.port}")
    sent = origin.encode("latin-1", "replace").decode("latin-1")
    assert room.ask("GET", "/api/state", Origin=sent)[0] == 403
    if sent.isascii():
        with pytest.raises(InvalidStatus, match="403"), room.listen(Origin=sent):
            pass


def test_an_offer_is_text() -> None:
    with pytest.raises(ValueError, match="sdp holds half of a surrogate pair"):
        check({"type": "offer", "sdp": f"v=0\r\nm=video {HALF}"})
    with pytest.raises(ValueError, match=r"^an offer asks for video, or for video and audio; this one asks for x{60}$"):
        check({"type": "offer", "sdp": "m=" + 5000 * "x"})


@pytest.mark.live
def test_odd_bytes_are_no_token(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "chosen")
    room = Room(generator, "0.0.0.0")
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    upgrade += b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    try:
        for line in (
            b"Cookie: everframe=\xff\xfe\xed\xa0\x80; \x80=\x80",
            b'Cookie: everframe="\\377\\000"; everframe',
            b"Cookie: everframe=" + 1000 * b'"\\',
            b"Authorization: Bearer \xed\xa0\x80",
            b"Authorization: \xff\xff",
        ):
            head = b"Host: localhost\r\n" + line + b"\r\n"
            assert room.ask_raw(b"GET /stats HTTP/1.1\r\n" + head + b"\r\n").split()[1] == b"401", line
            refused = room.ask_raw(b"GET /api/live HTTP/1.1\r\n" + head + upgrade + b"\r\n").split()[1]
            assert refused in (b"400", b"403"), line
        for token in ("%ED%A0%80", "%FF", "\xe9", "chosen%00"):
            assert room.ask("GET", f"/?token={quote(token, safe='%')}")[0] == 401
        assert room.ask("GET", "/stats", Authorization="Bearer chosen")[0] == 200
    finally:
        room.close()


@pytest.mark.parametrize(
    "token", ["p\xe4ssw\xf6rt", "\u26bd", "\udcff", "a\nb", "a\tb", "a\x7f", " a", "a ", " ", "x" * 1001]
)
def test_a_token_that_cannot_travel_is_refused(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    sink = PageSink("http://0.0.0.0:0")
    with pytest.raises(SinkError, match=r"^EVERFRAME_TOKEN cannot be used as a token: .* 1000 printable ASCII"):
        sink.open(feed())


def test_such_a_token_ends_the_command_with_one_sentence(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "p\xe4ssw\xf6rt")
    assert main([str(bundle), "--seconds", "0.2", "--to", "http://0.0.0.0:0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: EVERFRAME_TOKEN cannot be used as a token")
    assert error.count("\n") == 1


def test_every_printable_token_comes_back_from_the_browser() -> None:
    token = "".join(chr(number) for number in range(33, 127)) + " and more"
    guard = RequestGuard("0.0.0.0", token)

    def judge(path: str, query: str = "", *headers: tuple[bytes, bytes]) -> Any:
        names = [(b"host", b"127.0.0.1"), *headers]
        return guard.judge({"type": "http", "path": path, "query_string": query.encode(), "headers": names})

    entered = judge("/", f"token={quote(token, safe='')}")
    assert entered.status_code == 303
    cookie = SimpleCookie(entered.headers["set-cookie"])["everframe"].OutputString(attrs=[])
    assert judge("/stats", "", (b"cookie", cookie.encode())) is None
    assert judge("/stats", "", (b"authorization", b"Bearer " + token.encode())) is None
    assert judge("/stats", "", (b"authorization", b"Bearer " + token[:-1].encode())).status_code == 401


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "\udcff", "b\xfccher..example"])
def test_a_host_that_cannot_be_looked_up_is_refused(host: str) -> None:
    with pytest.raises(SinkError, match="use 127"):
        PageSink(f"http://{host}:0").open(feed())
