"""SRT through the system's libsrt, by ctypes: PyAV's own FFmpeg is built without it.

SRT is UDP with retransmission, encryption and a fixed delay in which a lost packet can be sent again. Specification:
draft-sharabayko-srt; the calls are those of libsrt 1.4 and later, docs/API/API-functions.md there.
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
_LIBRARIES = ("srt-gnutls", "srt-openssl", "srt")  # as Debian names its two, and as everybody else does
_CONNECT_MS = 4000  # less than the link's own patience, so that the reason is libsrt's
_SEND_MS = 4000
_DRAIN_S = 1.0  # for the other side to get, and to give on, what was sent last
_LOOK_S = 0.01
MESSAGE_BYTES = 7 * 188  # of MPEG-TS, which fit into one packet of the network (1500 bytes)
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
    """What an SRT URL says.

    Args:
        host: name or number.
        port: UDP.
        mode: "caller" connects to the host, "listener" waits there for one that does.
        latency_ms: by which the stream is delayed, so that lost packets can be sent again.
        streamid: what the server knows the stream by; often a key.
        passphrase: for encryption, 10 to 79 characters, or empty for none.
    """

    host: str
    port: int
    mode: str = "caller"
    latency_ms: int = DEFAULT_LATENCY_MS
    streamid: str = field(default="", repr=False)
    passphrase: str = field(default="", repr=False)


def parse(url: str) -> SrtAddress:
    """Read "srt://HOST:PORT[?streamid=...&passphrase=...&latency=MS&mode=caller|listener]".

    Raises:
        ValueError: it is something else; the message says what of it, and shows no value.
    """
    place, _, query = url.partition("?")  # not by urlsplit: stream ids begin with "#!::", often as they are
    parts = urlsplit(place)
    host, port = parts.hostname, parts.port
    if not host or not port or parts.path not in ("", "/") or parts.username is not None:
        raise ValueError("it needs a host and a port, and nothing between them and a ?")
    values = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name not in ("streamid", "passphrase", "latency", "mode"):
            raise ValueError("behind the ? stand streamid, passphrase, latency and mode, and nothing else")
        values[name] = unquote(value)
    mode, latency = values.get("mode", "caller"), values.get("latency", str(DEFAULT_LATENCY_MS))
    if mode not in MODES:
        raise ValueError(f"mode is {' or '.join(MODES)}")
    if not latency.isdecimal() or int(latency) > _MAX_LATENCY_MS:
        raise ValueError(f"latency is a whole number of milliseconds up to {_MAX_LATENCY_MS}")
    streamid, passphrase = values.get("streamid", ""), values.get("passphrase", "")
    if passphrase and not 10 <= len(passphrase.encode()) <= 79:
        raise ValueError("a passphrase has 10 to 79 characters")
    if len(streamid.encode()) > 512:
        raise ValueError("a streamid has at most 512 characters")
    return SrtAddress(host, port, mode, int(latency), streamid, passphrase)


def find_library() -> str | None:
    """Return the name of libsrt as the system's loader knows it, or None."""
    return next(filter(None, map(ctypes.util.find_library, _LIBRARIES)), None)


class SrtOutput:
    """A connection that takes MPEG-TS, as a file would.

    Args:
        address: where to.

    Raises:
        OSError: there is no libsrt, or no connection; the message says why and may hold no secret.
    """

    def __init__(self, address: SrtAddress) -> None:
        name = find_library()
        if name is None:
            raise OSError("libsrt is not installed")
        self._latency_s = address.latency_ms / 1000
        self._srt: Any = ctypes.CDLL(name)
        self._srt.srt_getlasterror_str.restype = self._srt.srt_rejectreason_str.restype = ctypes.c_char_p
        self._srt.srt_startup()
        self._srt.srt_setloglevel(0)  # it would write on standard error; what matters is raised
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
            How many bytes were taken: all.

        Raises:
            OSError: the connection is lost.
        """
        for start in range(0, len(data), MESSAGE_BYTES):
            message = bytes(data[start : start + MESSAGE_BYTES])
            self._check(self._srt.srt_send(self._socket, message, len(message)))
        return len(data)

    def close(self) -> None:
        """Wait until what was sent has been confirmed and shown, for at most a second, and leave.

        The receiver holds everything back by the latency, and loses what it still holds when we leave.
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
                raise TimeoutError("nobody has called yet")
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
            text = f"the server has refused the stream ({why})"
        raise ConnectionError(text.rstrip("."))


def _to_sockaddr(address: SrtAddress) -> bytes:
    """Return the address as the system's calls take it: struct sockaddr_in or sockaddr_in6."""
    family, _, _, _, where = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0]
    number = socket.inet_pton(family, str(where[0]))
    is_v4 = family == socket.AF_INET
    size = 16 if is_v4 else 28
    head = struct.pack("=BB" if sys.platform == "darwin" else "=H", *([size] * (sys.platform == "darwin")), family)
    rest = number + bytes(8) if is_v4 else bytes(4) + number + bytes(4)
    return head + struct.pack(">H", address.port) + rest
