"""SRT through the system's libsrt, by ctypes, because PyAV's FFmpeg is built without it.

SRT is UDP with encryption and retransmission within a fixed delay. Specification:
draft-sharabayko-srt; the functions are those of libsrt 1.4 and later, see its docs/API/API-functions.md.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import socket
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

MODES = ("caller", "listener")
DEFAULT_LATENCY_MS, _MAX_LATENCY_MS = 120, 8000
_LIBRARIES = ("srt-gnutls", "srt-openssl", "srt")  # the two names in Debian, and the name elsewhere
_CONNECT_MS = 4000  # less than CONNECT_S, so that libsrt's reason is reported
_SEND_MS = 4000
_DRAIN_S = 1.0  # for the receiver to get and play the last packets
_LOOK_S = 0.01
MESSAGE_BYTES = 7 * 188  # MPEG-TS packets that fit into one network packet (1500 bytes)
_OPTION = {  # SRT_SOCKOPT of srt.h
    "receive_waits": 2,
    "send_timeout_ms": 13,
    "unconfirmed": 19,
    "latency_ms": 23,
    "passphrase": 26,
    "connect_timeout_ms": 36,
    "streamid": 46,
    "idle_timeout_ms": 55,
}
_REJECTED = 1002  # SRT_ECONNREJ


@dataclass(frozen=True)
class SrtAddress:
    """A parsed SRT URL.

    Args:
        host: name or IP address.
        port: UDP.
        mode: "caller" connects to the host, "listener" waits for a connection.
        latency_ms: delay of the stream, in which lost packets can be sent again.
        streamid: identifies the stream to the server; often a key.
        passphrase: for encryption, 10 to 79 characters, or empty for none.
    """

    host: str
    port: int
    mode: str = "caller"
    latency_ms: int = DEFAULT_LATENCY_MS
    streamid: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)


def parse(url: str) -> SrtAddress:
    """Parse "srt://HOST:PORT[?streamid=...&passphrase=...&latency=MS&mode=caller|listener]".

    Raises:
        ValueError: it is not such a URL; the message says why, without values.
    """
    place, _, query = url.partition("?")  # without urlsplit: stream ids often begin with an unquoted "#!::"
    parts = urlsplit(place)
    host, port = parts.hostname, parts.port
    if not host or not port or parts.path not in ("", "/") or parts.username is not None:
        raise ValueError("it needs a host and a port, followed by nothing or a ?")
    values = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name not in ("streamid", "passphrase", "latency", "mode"):
            raise ValueError("after the ?, only streamid, passphrase, latency and mode are allowed")
        values[name] = unquote(value)
    mode, latency = values.get("mode", "caller"), values.get("latency", str(DEFAULT_LATENCY_MS))
    if mode not in MODES:
        raise ValueError(f"mode must be {' or '.join(MODES)}")
    if not latency.isdecimal() or int(latency) > _MAX_LATENCY_MS:
        raise ValueError(f"latency must be a whole number of milliseconds up to {_MAX_LATENCY_MS}")
    streamid, passphrase = values.get("streamid", ""), values.get("passphrase", "")
    if passphrase and not 10 <= len(passphrase.encode()) <= 79:
        raise ValueError("a passphrase must have 10 to 79 characters")
    if len(streamid.encode()) > 512:
        raise ValueError("a streamid must have at most 512 characters")
    return SrtAddress(host, port, mode, int(latency), streamid, passphrase)


def find_library() -> str | None:
    """Return the name of libsrt for the system's loader, or None."""
    return next(filter(None, map(ctypes.util.find_library, _LIBRARIES)), None)


class SrtOutput:
    """A connection to which MPEG-TS is written as to a file.

    Args:
        address: the receiver.

    Raises:
        OSError: libsrt is missing, or there is no connection; the message contains no secret.
    """

    def __init__(self, address: SrtAddress) -> None:
        name = find_library()
        if name is None:
            raise OSError("libsrt is not installed")
        self._latency_s = address.latency_ms / 1000
        self._srt: Any = ctypes.CDLL(name)
        self._srt.srt_getlasterror_str.restype = self._srt.srt_rejectreason_str.restype = ctypes.c_char_p
        self._srt.srt_startup()
        self._srt.srt_setloglevel(0)  # it would print on standard error; errors are raised instead
        self._socket = self._srt.srt_create_socket()
        try:
            self._set("latency_ms", address.latency_ms)
            self._set("connect_timeout_ms", _CONNECT_MS)
            self._set("idle_timeout_ms", _SEND_MS)
            self._set("send_timeout_ms", _SEND_MS)
            if address.passphrase:
                self._set("passphrase", address.passphrase)
            if address.streamid and address.mode == "caller":
                self._set("streamid", address.streamid)
            where = _to_sockaddr(address)
            if address.mode == "caller":
                self._check(self._srt.srt_connect(self._socket, where, len(where)))
            else:
                self._accept(where)
        except BaseException:
            self._srt.srt_close(self._socket)
            raise

    def write(self, data: bytes) -> int:
        """Send packets of MPEG-TS.

        Args:
            data: a whole number of packets of 188 bytes.

        Returns:
            The number of bytes written: all.

        Raises:
            OSError: the connection is lost.
        """
        for start in range(0, len(data), MESSAGE_BYTES):
            message = bytes(data[start : start + MESSAGE_BYTES])
            self._check(self._srt.srt_send(self._socket, message, len(message)))
        return len(data)

    def close(self) -> None:
        """Wait until the sent packets are confirmed and played, for at most a second, and disconnect.

        The receiver delays packets by the latency, and drops those that it has not played when the connection closes.
        """
        deadline_s = time.monotonic() + _DRAIN_S
        count, size = ctypes.c_int32(), ctypes.c_int(4)
        while time.monotonic() < deadline_s:
            option = _OPTION["unconfirmed"]
            if self._srt.srt_getsockflag(self._socket, option, ctypes.byref(count), ctypes.byref(size)) or not count:
                break
            time.sleep(_LOOK_S)
        time.sleep(max(0.0, min(self._latency_s, deadline_s - time.monotonic())))
        self._srt.srt_close(self._socket)

    def _accept(self, where: bytes) -> None:
        self._set("receive_waits", 0)
        self._check(self._srt.srt_bind(self._socket, where, len(where)))
        self._check(self._srt.srt_listen(self._socket, 1))
        deadline_s = time.monotonic() + _CONNECT_MS / 1000
        while (caller := self._srt.srt_accept(self._socket, None, None)) < 0:
            if time.monotonic() >= deadline_s:
                raise TimeoutError("no receiver has connected yet")
            time.sleep(_LOOK_S)
        self._srt.srt_close(self._socket)
        self._socket = caller

    def _set(self, name: str, value: int | str) -> None:
        data = value.encode() if isinstance(value, str) else struct.pack("=i", value)
        self._check(self._srt.srt_setsockflag(self._socket, _OPTION[name], data, len(data)))

    def _check(self, status: int) -> None:
        if status >= 0:
            return
        number, text = self._srt.srt_getlasterror(None), self._srt.srt_getlasterror_str().decode(errors="replace")
        if number == _REJECTED:
            why = self._srt.srt_rejectreason_str(self._srt.srt_getrejectreason(self._socket)).decode(errors="replace")
            text = f"the server refused the stream ({why})"
        raise ConnectionError(text.rstrip("."))


def _to_sockaddr(address: SrtAddress) -> bytes:
    """Return the address as a struct sockaddr_in or sockaddr_in6."""
    family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0]
    number = socket.inet_pton(family, str(where[0]))
    is_v4 = family == socket.AF_INET
    size = 16 if is_v4 else 28
    head = struct.pack("=BB" if sys.platform == "darwin" else "=H", *([size] * (sys.platform == "darwin")), family)
    rest = number + bytes(8) if is_v4 else bytes(4) + number + bytes(4)
    return head + struct.pack(">H", address.port) + rest
