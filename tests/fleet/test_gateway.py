"""The page and the API of a fleet through its real server, in front of real pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from fleet.director import UnknownShowError
from fleet.server import FleetServer
from tests.fleet.pages import FakeDirector, ShowPage
from tests.fleet.waiting import WAIT_S
from tests.streaming.doubles import closed_port

TOKEN = "token-of-the-show"
SECRET = "live_8f3kq"


@pytest.fixture(scope="module")
def page() -> Iterator[ShowPage]:
    """The page of the show lobby."""
    with ShowPage(TOKEN) as page:
        yield page


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FleetServer, FakeDirector]]:
    """The server of all tests, and its director."""
    director = FakeDirector()
    with FleetServer("http://127.0.0.1:0") as server:
        assert server.start(director) == f"all shows: {server.url}"  # type: ignore[arg-type]
        yield server, director


@pytest.fixture
def server(served: tuple[FleetServer, FakeDirector]) -> FleetServer:
    return served[0]


@pytest.fixture
def director(served: tuple[FleetServer, FakeDirector], page: ShowPage) -> FakeDirector:
    """The director as it is before a test."""
    director = served[1]
    director.pages = {
        "lobby": (page.url, TOKEN),
        "hall": ("", ""),
        "attic": (f"http://127.0.0.1:{closed_port()}", TOKEN),
    }
    director.calls, director.error, director.problem = [], None, ""
    return director


@pytest.fixture
def client(server: FleetServer, director: FakeDirector) -> Iterator[httpx.Client]:
    """Asks the server; no answer may tell the token of a show's page."""

    def look(answer: httpx.Response) -> None:
        if "/stream" not in str(answer.url):
            answer.read()
            assert TOKEN not in answer.text
        assert TOKEN not in str(answer.headers)

    with httpx.Client(base_url=server.url, timeout=WAIT_S, trust_env=False, event_hooks={"response": [look]}) as client:
        yield client


def websocket(server: FleetServer, path: str, **options: Any) -> ClientConnection:
    address = server.url.replace("http://", "ws://") + path
    return connect(address, proxy=None, open_timeout=WAIT_S, close_timeout=WAIT_S, **options)


def test_the_page_of_all_shows(client: httpx.Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "script-src 'sha256-" in answer.headers["content-security-policy"]
    assert answer.headers["x-frame-options"] == "DENY"


def test_all_shows_and_machines_are_listed(client: httpx.Client, director: FakeDirector, page: ShowPage) -> None:
    director.problem = "positions cannot be written"
    answer = client.get("/api/shows")
    found = answer.json()
    assert [show["name"] for show in found["shows"]] == ["lobby", "hall", "attic"]
    assert [node["name"] for node in found["nodes"]] == ["n1", "n2"]
    assert found["problem"] == "positions cannot be written"
    assert page.url not in answer.text


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_a_show_s_page_is_asked(client: httpx.Client, method: str) -> None:
    answer = client.request(
        method,
        "/shows/lobby/api/state?a=1&b=%20c",
        content="what is sent",
        headers={"content-type": "text/x-test", "authorization": "Bearer of-the-client", "cookie": "everframe=client"},
    )
    assert answer.status_code == (201 if method == "POST" else 200)
    assert answer.json() == {
        "method": method,
        "path": "api/state",
        "query": "a=1&b=%20c",
        "body": "what is sent",
        "content-type": "text/x-test",
        "cookie": None,
        "knows": True,
    }
    assert answer.headers["cache-control"] == "no-store"
    assert not {"set-cookie", "x-other"} & set(answer.headers), "a show sets no cookies of the fleet"


@pytest.mark.parametrize("path", ["scenes/a%3Fb%23c%20d.jpg", "scenes/%C3%A9t%C3%A9", "a%25b"])
def test_a_path_arrives_as_it_is(client: httpx.Client, path: str) -> None:
    told = client.get(f"/shows/lobby/{path}").json()
    assert told["path"] == str(httpx.URL(f"http://h/{path}").path).removeprefix("/")
    assert told["query"] == ""


def test_the_show_s_errors_are_passed_on(client: httpx.Client) -> None:
    answer = client.get("/shows/lobby/refused")
    assert (answer.status_code, answer.json()) == (422, {"error": "sway must be from 0 to 4"})


def test_a_stream_is_passed_on_piece_by_piece(client: httpx.Client, page: ShowPage) -> None:
    with client.stream("GET", "/shows/lobby/stream") as answer:
        assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=frame"
        pieces = answer.iter_raw()
        assert next(pieces) == b"first"
        page.goes_on.set()
        assert b"".join(pieces) == b"second"


def test_the_address_without_a_slash_leads_to_the_page(client: httpx.Client) -> None:
    answer = client.get("/shows/lobby")
    assert (answer.status_code, answer.headers["location"]) == (308, "/shows/lobby/")


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("nobody", 404, "there is no show nobody"),
        ("hall", 503, "hall is not on air: try again in a moment"),
        ("attic", 503, "attic does not answer: try again in a moment"),
    ],
)
def test_a_page_that_is_not_there(client: httpx.Client, server: FleetServer, name: str, status: int, told: str) -> None:
    answer = client.get(f"/shows/{name}/")
    assert (answer.status_code, answer.json()) == (status, {"error": told})
    with websocket(server, f"/shows/{name}/ws") as socket, pytest.raises(ConnectionClosed):
        socket.recv(WAIT_S)
    assert socket.close_code == 1013
    assert socket.close_reason == told


def test_the_reason_of_a_closed_websocket_is_cut(server: FleetServer, director: FakeDirector) -> None:
    with websocket(server, f"/shows/{'%C3%A9' * 300}/ws") as socket, pytest.raises(ConnectionClosed):
        socket.recv(WAIT_S)
    assert socket.close_reason is not None
    assert socket.close_reason.startswith("there is no show éé")


def test_messages_pass_both_ways(server: FleetServer, director: FakeDirector) -> None:
    with websocket(server, "/shows/lobby/ws") as socket:
        assert socket.recv(WAIT_S) == "knows"
        for sent, answer in (("a", "got a"), (b"\0b", b"got \0b"), ("", "got ")):
            socket.send(sent)
            assert socket.recv(WAIT_S) == answer
        socket.send("end")
        with pytest.raises(ConnectionClosed):
            socket.recv(WAIT_S)


@pytest.mark.parametrize(
    ("method", "path", "body", "call", "answer"),
    [
        ("DELETE", "/api/shows/lobby", None, ("remove", "lobby"), {"name": "lobby"}),
        ("POST", "/api/shows/lobby/move", None, ("move", "lobby"), {"name": "lobby"}),
        ("POST", "/api/nodes/n1/drain", None, ("drain", "n1"), {"node": "n1"}),
        (
            "POST",
            "/api/shows/lobby/bundle",
            {"bundle": "bundles/other", "dissolve_s": 2},
            ("change_bundle", "lobby", "bundles/other", 2.0),
            {"name": "lobby"},
        ),
        (
            "POST",
            "/api/shows/lobby/bundle",
            {"bundle": "bundles/other"},
            ("change_bundle", "lobby", "bundles/other", 1.0),
            {"name": "lobby"},
        ),
        (
            "POST",
            "/api/bundles",
            {"from": "bundles/one", "to": "bundles/two", "dissolve_s": 0},
            ("roll", "bundles/one", "bundles/two", 0.0),
            {"changed": ["lobby"], "not_on_air": ["hall"]},
        ),
    ],
)
def test_what_is_asked_is_done(
    client: httpx.Client,
    director: FakeDirector,
    method: str,
    path: str,
    body: Any,
    call: tuple[Any, ...],
    answer: dict[str, Any],
) -> None:
    given = client.request(method, path, content=None if body is None else json.dumps(body))
    assert (given.status_code, given.json(), director.calls) == (200, answer, [call])
    for error, status in ((UnknownShowError("no show"), 404), (ValueError("it is bad"), 422), (OSError("away"), 503)):
        director.error = error
        given = client.request(method, path, content=None if body is None else json.dumps(body))
        assert (given.status_code, given.json()) == (status, {"error": str(error)})


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("/api/bundles", b"{", "JSON"),
        ("/api/bundles", b"[]", "the body must be a JSON object"),
        ("/api/bundles", b"\xff", "JSON"),
        ("/api/bundles", b"", "from must be a text, got None"),
        ("/api/bundles", b'{"from": "a"}', "to must be a text, got None"),
        ("/api/shows/lobby/bundle", b'{"bundle": ""}', "bundle must be a text, got ''"),
        ("/api/shows/lobby/bundle", b'{"bundle": 5}', "bundle must be a text, got 5"),
        ("/api/shows/lobby/bundle", b'{"bundle": "b", "dissolve_s": -1}', "dissolve_s must be 0 to 3600 seconds"),
        ("/api/shows/lobby/bundle", b'{"bundle": "b", "dissolve_s": true}', "dissolve_s must be 0 to 3600 seconds"),
        ("/api/shows", b"{}", "a show needs a name"),
        ("/api/shows", b'{"name": 5}', "a show needs a name"),
        ("/api/shows", b'{"name": "A"}', "small letters"),
        ("/api/shows", b'{"name": "a", "scen": "lake"}', "did you mean scene?"),
        ("/api/shows", b'{"name": "a", "to": ["clip.mp4"]}', "sink 1 is no stream"),
        ("/api/shows", b'{"name": "a", "image": "/etc/passwd"}', "has image, which is for the fleet's own file"),
    ],
)
def test_a_bad_body_is_one_sentence(
    client: httpx.Client, director: FakeDirector, path: str, body: bytes, told: str
) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == 422
    assert told in answer.json()["error"]
    assert director.calls == []


def test_a_long_body_is_refused(client: httpx.Client, director: FakeDirector) -> None:
    answer = client.post("/api/bundles", content=b" " * (2**16 + 1))
    assert (answer.status_code, answer.json()) == (413, {"error": "at most 65536 bytes are allowed"})
    assert director.calls == []


def test_a_show_is_added(client: httpx.Client, director: FakeDirector) -> None:
    given = {"name": "attic", "bundle": "bundles/landscape", "cpus": 2, "to": [f"rtmp://h/live/{SECRET}"]}
    answer = client.post("/api/shows", content=json.dumps(given))
    assert (answer.status_code, answer.json()) == (201, {"name": "attic"})
    [(call, show)] = director.calls
    assert (call, show.name, show.cpus, show.to) == ("add", "attic", 2.0, (f"rtmp://h/live/{SECRET}",))


@pytest.mark.parametrize("given", [{"to": "env:PLACE"}, {"to": ["rtmp://h/live/env:PLACE"]}, {"to=env:PLACE": True}])
def test_clients_cannot_read_the_environment(
    client: httpx.Client, director: FakeDirector, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any]
) -> None:
    monkeypatch.setenv("PLACE", f"rtmp://h/live/{SECRET}")
    answer = client.post("/api/shows", content=json.dumps({"name": "attic", **given}))
    assert answer.status_code == 422
    assert SECRET not in answer.text
    monkeypatch.delenv("PLACE")
    assert client.post("/api/shows", content=json.dumps({"name": "attic", **given})).text == answer.text
    assert director.calls == []


def test_anything_else_is_not_found(client: httpx.Client) -> None:
    for method, path, status in (("GET", "/api", 404), ("GET", "/shows/", 404), ("PUT", "/api/shows", 405)):
        answer = client.request(method, path)
        assert answer.status_code == status
        assert list(answer.json()) == ["error"]


def test_another_website_is_refused(client: httpx.Client, server: FleetServer, director: FakeDirector) -> None:
    evil = {"origin": "http://evil.example"}
    for method, path in (("DELETE", "/api/shows/lobby"), ("GET", "/api/shows"), ("GET", "/shows/lobby/api/state")):
        answer = client.request(method, path, headers=evil)
        assert (answer.status_code, answer.json()) == (403, {"error": "requests from other websites are refused"})
        assert client.request(method, path, headers={"host": "evil.example"}).status_code == 421
    assert director.calls == []
    with pytest.raises(InvalidStatus):
        websocket(server, "/shows/lobby/ws", origin="http://evil.example")
    with websocket(server, "/shows/lobby/ws", origin=server.url) as socket:
        assert socket.recv(WAIT_S) == "knows"


def test_the_metrics_of_all_shows(client: httpx.Client, director: FakeDirector) -> None:
    text = '# HELP everframe_fps Frames.\n# TYPE everframe_fps gauge\neverframe_fps{sink="a"} 25.0\n'
    with ShowPage(TOKEN, text) as one, ShowPage("", "this is no metric\n") as two:
        director.pages |= {"lobby": (one.url, TOKEN), "stairs": (two.url, "")}
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    assert 'everframe_fps{show="lobby",sink="a"} 25.0' in lines
    assert 'everframe_fleet_show_state{show="hall",state="starts",tenant="acme"} 1.0' in lines
    assert 'everframe_fleet_node_shows{node="n1"} 4.0' in lines
    assert not any('node="n2"' in line for line in lines)
