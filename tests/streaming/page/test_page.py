"""The page through a real server on a free port, and who may ask it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import io
import json
import re
import socket
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streaming.errors import SinkError
from streaming.page import jpeg
from streaming.page.guard import is_allowed_host
from streaming.sinks.page_sink import PageSink
from streaming.sinks.sink import Frame, StreamFormat
from tests.streaming.doubles import WAIT_S, card_error, colour_card, feed, to_i420

STATS = {"engine": "fake fp32", "fps": 25.0, "frames": 3, "sinks": []}
CARD = to_i420(colour_card(128, 96))


class Page:
    """A page sink that is on air."""

    def __init__(self) -> None:
        self.sink = PageSink("http://127.0.0.1:0")
        self.sink.open(StreamFormat("a show", 128, 96, Fraction(25), "i420", lambda: STATS))
        self.sink.start()
        self.port = int(self.sink.name.rpartition(":")[2])
        self._open = contextlib.ExitStack()

    def get(self, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        self._open.callback(connection.close)
        connection.request("GET", path, headers=headers)
        return self._open.enter_context(connection.getresponse())

    def hang_up(self) -> None:
        self._open.close()


@pytest.fixture
def page() -> Iterator[Page]:
    """A page on a free port."""
    page = Page()
    yield page
    page.sink.close()
    page.hang_up()


class Watcher:
    """A browser's side of /stream.mjpeg."""

    def __init__(self, page: Page) -> None:
        self.response = page.get("/stream.mjpeg")
        kind = self.response.headers["content-type"]
        self.boundary = b"--" + kind.partition("boundary=")[2].encode()
        assert kind.startswith("multipart/x-mixed-replace")
        assert self.response.readline().strip() == self.boundary

    def part(self) -> bytes:
        """Return the next JPEG; its end is there at once, without another frame."""
        headers = http.client.parse_headers(self.response)
        assert headers["content-type"] == "image/jpeg"
        data = self.response.read(int(headers["content-length"]))
        assert self.response.readline() == b"\r\n"
        assert self.response.readline().strip() == self.boundary
        return data


@pytest.mark.live
def test_the_page_needs_nothing_from_elsewhere_and_its_policy_says_so(page: Page) -> None:
    answer = page.get("/")
    html = answer.read().decode()
    assert answer.status == 200
    assert "Everframe" in html
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", html)
    assert "//" not in re.sub(r"\"[^\"\n]*\"|// .*", "", re.sub(r"<!doctype.*?>", "", html))
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    for tag in ("style", "script"):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(content.encode()).digest()).decode() for content in contents]
        assert f"{tag}-src " + " ".join(f"'sha256-{digest}'" for digest in digests) + ";" in policy
    assert html.count("<script") == len(contents) == 2
    assert "<!-- " not in html, "every script is in the page"
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.live
def test_stats_and_frame(page: Page) -> None:
    assert page.get("/frame.jpg").status == 503
    page.sink.write(Frame(CARD, 0))
    answer = page.get("/frame.jpg")
    with Image.open(io.BytesIO(answer.read())) as image:
        assert card_error(np.asarray(image.convert("RGB"))) <= 6
    stats = json.loads(page.get("/stats").read())
    assert stats == {"title": "a show", "width": 128, "height": 96, "wanted_fps": 25.0, "has_webrtc": True, **STATS}
    assert page.get("/page.html").status == 404
    assert page.get("/../pyproject.toml").status == 404


@pytest.mark.live
def test_a_frame_is_encoded_once_for_all_watchers_and_never_for_none(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_encoded = 0

    def count(picture: object) -> bytes:
        nonlocal num_encoded
        num_encoded += 1
        return b"jpeg %d" % num_encoded

    monkeypatch.setattr(jpeg, "to_jpeg", count)
    for slot in range(5):
        page.sink.write(Frame(CARD, slot))
    assert num_encoded == 0
    watchers = [Watcher(page), Watcher(page)]
    assert page.sink.state() == "2 watching"
    for number in range(1, 4):
        page.sink.write(Frame(CARD, 10 + number))
        assert [watcher.part() for watcher in watchers] == [b"jpeg %d" % number] * 2
    assert num_encoded == 3


@pytest.mark.live
def test_a_viewer_that_does_not_read_delays_no_other(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg, "to_jpeg", lambda picture: bytes(2**20))
    stuck, reading = Watcher(page), Watcher(page)
    for slot in range(40):  # 40 MB: more than any socket holds for the one who is stuck
        page.sink.write(Frame(CARD, slot))
        assert len(reading.part()) == 2**20
    assert stuck.response.status == 200


@pytest.mark.live
def test_closing_ends_the_streams_and_frees_the_port() -> None:
    page = Page()
    watcher = Watcher(page)
    page.sink.close()
    assert watcher.response.read() == b""
    page.hang_up()
    with socket.create_server(("127.0.0.1", page.port)):
        pass


@pytest.mark.live
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.7.7", ""])
def test_other_names_are_turned_away(page: Page, host: str) -> None:
    for path in ("/", "/stats", "/frame.jpg", "/stream.mjpeg"):
        assert page.get(path, Host=host).status in (400, 421)


@pytest.mark.parametrize(
    ("header", "bound", "is_allowed"),
    [
        ("localhost:8000", "127.0.0.1", True),
        ("LOCALHOST", "127.0.0.1", True),
        ("show.localhost:8000", "127.0.0.1", True),
        ("127.0.0.1:8000", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", True),
        ("[::1]:8000", "127.0.0.1", True),
        ("studio.lan:8000", "studio.lan", True),
        ("Studio.LAN", "studio.lan", True),
        ("192.168.1.5:8000", "192.168.1.5", True),
        ("192.168.1.5:8000", "0.0.0.0", True),
        ("[fe80::1]:8000", "::", True),
        (socket.gethostname(), "0.0.0.0", True),
        ("evil.example", "0.0.0.0", False),
        ("evil.example", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", False),
        ("evil.example:localhost", "127.0.0.1", False),
        ("192.168.1.5", "127.0.0.1", False),
        ("[::1].evil.example", "127.0.0.1", False),
        ("2130706433", "127.0.0.1", False),
        ("", "127.0.0.1", False),
    ],
)
def test_hosts(header: str, bound: str, is_allowed: bool) -> None:
    assert is_allowed_host(header, bound) is is_allowed


def test_a_port_in_use_is_refused_with_another_one() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(SinkError, match=f"port {port} is in use; .* choose another port"):
            PageSink(f"http://127.0.0.1:{port}").open(feed())


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(SinkError, match="not an address of this machine; use 127"):
        PageSink("http://192.0.2.1:8000").open(feed())  # an address for documentation (RFC 5737)


@pytest.mark.parametrize(
    "spec", ["http://", "http://127.0.0.1", "http://127.0.0.1:x", "http://h:99999", "http://h:80/path", "http://a@h:80"]
)
def test_what_is_no_address_of_a_page_is_refused(spec: str) -> None:
    with pytest.raises(SinkError, match=r"is not the address of a page.*: write http://HOST:PORT"):
        PageSink(spec)


def test_a_page_that_never_started_lets_its_port_go() -> None:
    sink = PageSink("http://127.0.0.1:0")
    sink.open(feed())
    sink.discard()
    with socket.create_server(("127.0.0.1", int(sink.name.rpartition(":")[2]))):
        pass


def test_the_page_is_part_of_the_package() -> None:
    pyproject = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    package_data = pyproject["tool"]["setuptools"]["package-data"]
    assert "*.html" in package_data.get("streaming.page", []), "an installed everframe would have no page.html"
    assert "*.js" in package_data.get("streaming.page", [])
