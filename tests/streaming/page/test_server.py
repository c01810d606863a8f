"""The page's server: its port, its token, and addresses that also work below another path."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path
from urllib.parse import urljoin

import pytest

import streaming.page
from streaming.errors import SinkError
from streaming.page.connections import WebSocketProtocol, default_limits
from streaming.page.server import MAX_MESSAGE_BYTES, TOKEN_VARIABLE, bind, invitation, make_config, token_for

FOLDER = Path(streaming.page.__file__).parent
# Where a page names an address: HTML attributes, fetch, WebSocket, and pictures that scripts make.
ADDRESSES = re.compile(
    r"""(?:\b(?:src|href|action)="|(?:fetch|new URL|new WebSocket)\(["`]|\bsrc(?: =|:) ["`])([^"`?$]*)"""
)


def test_the_page_s_addresses_work_below_another_path() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in (FOLDER / "page.html", FOLDER / "motion.js"))
    found = {address for address in ADDRESSES.findall(text) if not address.startswith("data:")}
    assert found == {"api/live", "stream.mjpeg", "api/webrtc", "api/scenes/", "api/cues/image", "api/camera"}
    below = "http://127.0.0.1:8000/shows/lobby/"
    assert {urljoin(below, address) for address in found} == {below + address for address in found}
    assert not re.findall(r"""["'`]/(?:api|stream|stats|metrics)""", text), "an address from the root"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_only_this_machine_needs_no_token(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "a\nb")  # is not looked at
    assert token_for(host) == ("", False)


def test_a_token_is_that_of_the_environment_or_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "chosen")
    assert token_for("0.0.0.0") == ("chosen", False)
    for value in ("", None):
        if value is None:
            monkeypatch.delenv(TOKEN_VARIABLE)
        else:
            monkeypatch.setenv(TOKEN_VARIABLE, value)
        (first, is_new), (second, _) = token_for("0.0.0.0"), token_for("0.0.0.0")
        assert is_new
        assert first != second
        assert len(first) >= 20
        assert f"http://HOST:8000/?token={first}, where HOST is" in invitation(8000, first)


def test_a_free_port_is_taken() -> None:
    with bind("127.0.0.1", 0, "http://127.0.0.1:0") as one, bind("localhost", 0, "http://localhost:0") as two:
        ports = {one.getsockname()[1], two.getsockname()[1]}
        assert len(ports) == 2
        assert 0 not in ports


@pytest.mark.parametrize(
    ("error", "port", "sentence"),
    [
        (errno.EADDRINUSE, 8000, "port 8000 is in use; stop what uses it or choose another port, e.g. 8001"),
        (errno.EADDRINUSE, 65535, "port 65535 is in use; stop what uses it or choose another port, e.g. 1"),
        (errno.EACCES, 80, "port 80 is not allowed; choose one from 1024 to 65535"),
        (errno.ENOBUFS, 8000, os.strerror(errno.ENOBUFS)),
    ],
)
def test_a_port_that_is_not_available_is_refused(
    error: int, port: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> socket.socket:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(socket, "create_server", refuse)
    with pytest.raises(SinkError, match=f"^sink http://127.0.0.1:{port} cannot be served: {sentence}$"):
        bind("127.0.0.1", port, f"http://127.0.0.1:{port}")


def test_messages_are_bounded_and_nothing_is_logged() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        raise AssertionError("nobody asks")

    limits = default_limits()
    config = make_config(lambda: app, limits)  # type: ignore[arg-type, return-value]
    assert (config.ws_max_size, config.ws, config.ws_per_message_deflate) == (
        MAX_MESSAGE_BYTES,
        WebSocketProtocol,
        False,
    )
    assert (config.backlog, config.proxy_headers, config.access_log) == (limits.accepts, False, False)
