"""The web server of a fleet: its address and its token."""

from __future__ import annotations

import httpx
import pytest

from fleet.server import FleetServer
from streaming.errors import SinkError
from streaming.page.server import TOKEN_VARIABLE
from tests.fleet.pages import FakeDirector
from tests.fleet.waiting import WAIT_S


@pytest.mark.parametrize(
    "address",
    [
        "",
        "8080",
        "http://127.0.0.1",
        "https://127.0.0.1:8080",
        "http://[::1",
        "http://h:port",
        "http://h:99999",
        "http://h:1/x",
    ],
)
def test_a_bad_address_is_one_sentence(address: str) -> None:
    with pytest.raises(ValueError, match="is no address of a page: write http://HOST:PORT") as caught:
        FleetServer(address)
    assert str(caught.value).startswith(f'[fleet] page = "{address}"')


def test_a_port_that_is_in_use_is_one_sentence() -> None:
    with FleetServer("http://127.0.0.1:0") as server:
        port = server.url.rpartition(":")[2]
        with pytest.raises(SinkError, match=f"port {port} is in use; stop what uses it or choose another port"):
            FleetServer(server.url)


def test_a_page_for_other_machines_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with FleetServer("http://0.0.0.0:0") as server:
        told = server.start(FakeDirector())  # type: ignore[arg-type]
        assert f"?token={server.token}" in told
        address = server.url.replace("0.0.0.0", "127.0.0.1")
        with httpx.Client(base_url=address, timeout=WAIT_S, trust_env=False) as client:
            assert client.get("/api/shows").status_code == 401
            assert client.delete("/api/shows/lobby").status_code == 401
            client.headers["authorization"] = f"Bearer {server.token}"
            assert client.get("/api/shows").status_code == 200


def test_the_token_may_be_chosen_and_is_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "a-chosen-token")
    with FleetServer("http://0.0.0.0:0") as server:
        assert server.token == "a-chosen-token"
        assert server.token not in server.start(FakeDirector())  # type: ignore[arg-type]
