"""The RTMP connection against a scripted server on a real socket: what it asks, answers, refuses and gives up on."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest

from streaming import amf, rtmp_link
from streaming.errors import SinkError
from streaming.rtmp_chunks import (
    ACKNOWLEDGEMENT,
    AUDIO,
    COMMAND,
    DATA,
    SET_CHUNK_SIZE,
    USER_CONTROL,
    VIDEO,
    WINDOW_SIZE,
    ChunkReader,
    Message,
    to_chunks,
)
from streaming.rtmp_link import Address, RtmpLink
from tests.streaming.doubles import WAIT_S

Answer = Callable[["Server", list[amf.Value]], None]


class Server:
    """A server for one connection, on its own thread, that answers commands as the test says."""

    def __init__(self, answers: dict[str, Answer], version: int = 3) -> None:
        self.received: list[Message] = []
        self.commands: list[list[amf.Value]] = []
        self.is_over = threading.Event()
        self._has_come = threading.Condition()
        self._answers = answers
        self._version = version
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT_S)
        self.address = Address("rtmp", "127.0.0.1", self._listener.getsockname()[1], "live", "SECRET")
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def send(self, kind: int, payload: bytes) -> None:
        self._socket.sendall(to_chunks(Message(kind, payload), 128, 3))

    def hang_up(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        with self._has_come:
            assert self._has_come.wait_for(condition, WAIT_S)

    def close(self) -> None:
        self._listener.close()
        self.thread.join(WAIT_S)

    def _serve(self) -> None:
        try:
            self._socket, _ = self._listener.accept()
        except OSError:
            return  # the test never connected
        with self._socket:
            self._socket.settimeout(WAIT_S)
            with contextlib.suppress(OSError):  # the connection was cut, by whichever side the test wants
                self._talk()
            self.is_over.set()

    def _talk(self) -> None:
        hello = self._read(1537)
        self._socket.sendall(bytes([self._version]) + bytes(8) + b"s" * 1528 + hello[1:])
        assert self._read(1536) == bytes(8) + b"s" * 1528
        reader = ChunkReader()
        while data := self._socket.recv(4096):
            for message in reader.feed(data):
                values = amf.decode(message.payload) if message.kind == COMMAND else []
                if values and str(values[0]) in self._answers:
                    self._answers[str(values[0])](self, values)
                with self._has_come:
                    self.received.append(message)
                    self.commands += [values] if values else []
                    self._has_come.notify_all()

    def _read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            if not part:
                raise ConnectionResetError
            data += part
        return data


def result(*values: amf.Value) -> Answer:
    return lambda server, command: server.send(COMMAND, amf.encode("_result", command[1], *values))


def status(level: str, code: str, description: str) -> Answer:
    about = {"level": level, "code": code, "description": description}
    return lambda server, command: server.send(COMMAND, amf.encode("onStatus", 0, None, about))


GOOD: dict[str, Answer] = {
    "connect": result({}, {"code": "NetConnection.Connect.Success"}),
    "createStream": result(None, 7),
    "publish": status("status", "NetStream.Publish.Start", "go ahead"),
}


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Start servers, and stop them after the test."""
    servers: list[Server] = []

    def start(answers: dict[str, Answer], version: int = 3) -> Server:
        servers.append(Server(answers, version))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def test_it_publishes_as_the_specification_says(serve: Callable[..., Server]) -> None:
    server = serve(GOOD)
    link = RtmpLink(server.address)
    link.send(DATA, 0, amf.encode("onMetaData", {"width": 64}))
    link.send(VIDEO, 40, bytes(10_000))
    link.send(AUDIO, 43, b"\xaf\x01")
    link.close()
    assert server.is_over.wait(WAIT_S)
    assert [command[0] for command in server.commands] == [
        "connect",
        "releaseStream",
        "FCPublish",
        "createStream",
        "publish",
        "FCUnpublish",
        "deleteStream",
    ]
    about = server.commands[0][2]
    assert isinstance(about, dict)
    assert (about["app"], about["tcUrl"]) == ("live", f"rtmp://127.0.0.1:{server.address.port}/live")
    assert server.commands[4][3:] == ["SECRET", "live"]
    media = [message for message in server.received if message.kind in (AUDIO, VIDEO, DATA)]
    assert [(message.kind, message.timestamp_ms, message.stream) for message in media] == [
        (DATA, 0, 7),
        (VIDEO, 40, 7),
        (AUDIO, 43, 7),
    ]
    assert amf.decode(media[0].payload) == ["@setDataFrame", "onMetaData", {"width": 64}]
    assert len(media[1].payload) == 10_000


def test_pings_and_windows_are_answered(serve: Callable[..., Server]) -> None:
    def publish(server: Server, command: list[amf.Value]) -> None:
        server.send(WINDOW_SIZE, struct.pack(">L", 1000))
        server.send(USER_CONTROL, struct.pack(">HL", 6, 12345))
        server.send(SET_CHUNK_SIZE, struct.pack(">L", 128))
        GOOD["publish"](server, command)

    server = serve({**GOOD, "publish": publish})
    link = RtmpLink(server.address)
    server.wait_for(lambda: any(message.kind == USER_CONTROL for message in server.received))
    pong = next(message for message in server.received if message.kind == USER_CONTROL)
    assert pong.payload == struct.pack(">HL", 7, 12345)
    server.send(DATA, bytes(1500))
    while not any(message.kind == ACKNOWLEDGEMENT for message in server.received):
        link.send(AUDIO, 0, b"\xaf\x01")  # each send also heeds what has come in
        assert len(server.received) < 100_000
    link.close()


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ({"connect": lambda s, c: s.send(COMMAND, amf.encode("_error", 1, None, {"description": "no app"}))}, "no app"),
        ({**GOOD, "publish": status("error", "NetStream.Publish.BadName", "")}, "NetStream.Publish.BadName"),
        ({**GOOD, "createStream": result(None, None)}, "gave the stream no number"),
        ({**GOOD, "publish": lambda s, c: s.hang_up()}, "closed the connection"),
        ({**GOOD, "publish": lambda s, c: s.send(COMMAND, b"\x02\x00")}, "AMF0 data end"),
        ({"connect": lambda s, c: s._socket.sendall(b"\xff" * 50)}, "never sent"),
    ],
)
def test_refusals_and_nonsense_are_oserrors(
    serve: Callable[..., Server], answers: dict[str, Answer], message: str
) -> None:
    server = serve(answers)
    with pytest.raises(OSError, match=message):
        RtmpLink(server.address)
    assert server.is_over.wait(WAIT_S)  # our end of the connection is closed


def test_another_protocol_is_noticed(serve: Callable[..., Server]) -> None:
    with pytest.raises(OSError, match="does not speak RTMP"):
        RtmpLink(serve(GOOD, version=72).address)


def test_a_server_that_says_nothing_is_given_up(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtmp_link, "TIMEOUT_S", 0.05)
    with pytest.raises(TimeoutError):
        RtmpLink(serve({}).address)


def send_for_ever(link: RtmpLink) -> None:
    for number in range(1_000_000):
        link.send(AUDIO, number, b"\xaf\x01")
    raise AssertionError("nobody noticed")


def test_a_connection_that_is_lost_is_noticed(serve: Callable[..., Server]) -> None:
    server = serve(GOOD)
    link = RtmpLink(server.address)
    server.hang_up()
    assert server.is_over.wait(WAIT_S)
    with pytest.raises(OSError, match=r"."):
        send_for_ever(link)
    link.close()


def test_a_stream_that_the_server_ends_is_noticed(serve: Callable[..., Server]) -> None:
    server = serve(GOOD)
    link = RtmpLink(server.address)
    status("error", "NetStream.Publish.Denied", "the owner ended it")(server, [])
    with pytest.raises(OSError, match="the owner ended it"):
        send_for_ever(link)
    link.close()


@pytest.mark.parametrize(
    ("url", "address", "place"),
    [
        ("rtmp://h/app/k", Address("rtmp", "h", 1935, "app", "k"), "rtmp://h/app"),
        ("rtmps://h/a/b/k?x=1", Address("rtmps", "h", 443, "a/b", "k?x=1"), "rtmps://h/a/b"),
        ("rtmp://h:19350/app/k", Address("rtmp", "h", 19350, "app", "k"), "rtmp://h:19350/app"),
        ("rtmp://[::1]/app/k/", Address("rtmp", "::1", 1935, "app", "k"), "rtmp://[::1]/app"),
    ],
)
def test_addresses(url: str, address: Address, place: str) -> None:
    assert Address.parse(url) == address
    assert address.place == place


def test_an_address_without_a_key_is_refused() -> None:
    with pytest.raises(SinkError, match=r"rtmp://host/\*\*\* is no address"):
        Address.parse("rtmp://host/app")
