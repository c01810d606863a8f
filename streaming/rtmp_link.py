"""One RTMP connection that publishes a stream (Adobe's RTMP specification 1.0), with a deadline on every wait.

libavformat can do this too, but through PyAV it holds Python's lock while it connects: a server that does not answer
would stop the whole show.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
from dataclasses import dataclass
from urllib.parse import urlsplit

from streaming import amf
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
from streaming.sinks import mask

TIMEOUT_S = 5.0  # for one answer; also for the network to take one message
_CHUNK_SIZE = 4096
_HANDSHAKE_BYTES = 1536
_CHANNELS = {SET_CHUNK_SIZE: 2, ACKNOWLEDGEMENT: 2, USER_CONTROL: 2, COMMAND: 3, AUDIO: 4, VIDEO: 6, DATA: 5}
_PING, _PONG = 6, 7
_GOODBYE_S = 0.5
_MAX_LAST_READS = 16  # a server that goes on talking is left talking


@dataclass(frozen=True)
class Address:
    """Where to publish.

    Args:
        scheme: "rtmp" or "rtmps".
        host: name or address of the server.
        port: TCP port.
        app: the path but its last part.
        key: the last part of the path with the query: the stream key, a secret.
    """

    scheme: str
    host: str
    port: int
    app: str
    key: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read a URL.

        Raises:
            SinkError: it is no address of a stream; the message does not tell the key.
        """
        form = "write rtmp://HOST[:PORT]/APP/KEY"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise SinkError(f"sink {mask(url)} is no address of a stream: {form}") from error
        app, _, key = parts.path.strip("/").rpartition("/")
        if not host or not app or not key:
            raise SinkError(f"sink {mask(url)} is no address of a stream: {form}")
        query = f"?{parts.query}" if parts.query else ""
        return cls(parts.scheme, host, port or (443 if parts.scheme == "rtmps" else 1935), app, key + query)

    @property
    def place(self) -> str:
        """The URL without the key."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "rtmps" else 1935
        return f"{self.scheme}://{host}{'' if self.port == default else f':{self.port}'}/{self.app}"


class RtmpLink:
    """A connection to a server that has agreed to take the stream.

    Args:
        address: where to publish.

    Raises:
        OSError: the network or the server did not do as they should, in `TIMEOUT_S` seconds per step. The message may
            hold what the server said, the key included.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._reader = ChunkReader()
        self._chunk_size = 128
        self._window = 2_500_000
        self._num_acknowledged = 0
        self._stream = 0
        self._inbox: list[Message] = []
        self._socket = socket.create_connection((address.host, address.port), TIMEOUT_S)
        try:
            if address.scheme == "rtmps":
                self._socket = ssl.create_default_context().wrap_socket(self._socket, server_hostname=address.host)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._shake_hands()
            self._publish()
        except BaseException:
            self._socket.close()
            raise

    def send(self, kind: int, timestamp_ms: int, payload: bytes) -> None:
        """Send one FLV tag's worth, after a look at what the server has said meanwhile.

        Args:
            kind: AUDIO, VIDEO or DATA.
            timestamp_ms: since the beginning of this connection.
            payload: the tag's body.

        Raises:
            OSError: the connection is lost, or the server has ended the stream.
        """
        self._listen()
        if kind == DATA:
            payload = amf.encode("@setDataFrame") + payload
        self._send(Message(kind, payload, timestamp_ms, self._stream))

    def close(self) -> None:
        """Say goodbye if the network takes it at once, and close the connection."""
        self._socket.settimeout(_GOODBYE_S)
        with self._socket, contextlib.suppress(OSError):  # whoever is already gone needs no goodbye
            self._command("FCUnpublish", 0, None, self._address.key)
            self._command("deleteStream", 0, None, self._stream)
            self._socket.shutdown(socket.SHUT_WR)
            # To close with something unread would reset the connection, and the last frames could be lost with it.
            for _ in range(_MAX_LAST_READS):
                if not self._socket.recv(65536):
                    break

    def _shake_hands(self) -> None:
        """The simple handshake of section 5.2: version 3, 1536 bytes each way, and each side's bytes back."""
        self._socket.sendall(b"\x03" + bytes(8) + os.urandom(_HANDSHAKE_BYTES - 8))
        answer = self._receive_exactly(1 + _HANDSHAKE_BYTES)
        if answer[0] != 3:
            raise ConnectionError("the server does not speak RTMP")
        self._socket.sendall(answer[1:])
        self._receive_exactly(_HANDSHAKE_BYTES)

    def _publish(self) -> None:
        address = self._address
        self._send(Message(SET_CHUNK_SIZE, struct.pack(">L", _CHUNK_SIZE)))
        self._chunk_size = _CHUNK_SIZE
        about: dict[str, amf.Value] = {
            "app": address.app,
            "type": "nonprivate",
            "flashVer": "FMLE/3.0 (compatible; Everframe)",
            "tcUrl": address.place,
        }
        self._command("connect", 1, about)
        self._wait_for("_result", 1)
        self._command("releaseStream", 2, None, address.key)
        self._command("FCPublish", 3, None, address.key)
        self._command("createStream", 4, None)
        stream = self._wait_for("_result", 4)[-1]
        if not isinstance(stream, float):
            raise ConnectionError("the server gave the stream no number")
        self._stream = int(stream)
        self._command("publish", 5, None, address.key, "live")
        self._wait_for("onStatus", None)

    def _command(self, name: str, transaction: int, *values: amf.Value) -> None:
        self._send(Message(COMMAND, amf.encode(name, transaction, *values), 0, self._stream))

    def _send(self, message: Message) -> None:
        self._socket.sendall(to_chunks(message, self._chunk_size, _CHANNELS[message.kind]))

    def _wait_for(self, name: str, transaction: int | None) -> list[amf.Value]:
        """Read until a command comes that answers; others are heeded and passed over."""
        while True:
            while self._inbox:
                values = self._heed(self._inbox.pop(0))
                if values[:1] == [name] and transaction in (None, *values[1:2]):
                    return values
            self._take(self._socket.recv(65536))

    def _listen(self) -> None:
        """Heed what the server has sent, without waiting for more."""
        timeout = self._socket.gettimeout()
        self._socket.setblocking(False)
        try:
            while True:
                self._take(self._socket.recv(65536))
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass  # nothing more has come
        finally:
            self._socket.settimeout(timeout)
        while self._inbox:
            self._heed(self._inbox.pop(0))

    def _take(self, data: bytes) -> None:
        if not data:
            raise ConnectionResetError("the server has closed the connection")
        try:
            self._inbox += self._reader.feed(data)
        except ValueError as error:
            raise ConnectionError(str(error)) from error

    def _heed(self, message: Message) -> list[amf.Value]:
        """Answer what the protocol wants answered; return a command's values."""
        payload = message.payload
        if message.kind == WINDOW_SIZE and len(payload) == 4:
            self._window = max(1, int.from_bytes(payload, "big"))
        elif message.kind == USER_CONTROL and payload[:2] == struct.pack(">H", _PING):
            self._send(Message(USER_CONTROL, struct.pack(">H", _PONG) + payload[2:6]))
        if self._reader.num_bytes - self._num_acknowledged >= self._window:
            self._num_acknowledged = self._reader.num_bytes
            self._send(Message(ACKNOWLEDGEMENT, struct.pack(">L", self._num_acknowledged % 2**32)))
        if message.kind != COMMAND:
            return []
        try:
            values = amf.decode(payload)
        except ValueError as error:
            raise ConnectionError(str(error)) from error
        about = values[-1] if values and isinstance(values[-1], dict) else {}
        is_refused = values[:1] == ["_error"] and values[1:2] in ([1.0], [4.0])  # connect and createStream matter
        if is_refused or about.get("level") == "error":
            raise ConnectionError(
                f"the server refused: {about.get('description') or about.get('code') or 'no reason given'}"
            )
        return values

    def _receive_exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            if not part:
                raise ConnectionResetError("the server has closed the connection")
            data += part
        return data
