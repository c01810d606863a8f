"""One show in a process of its own, beside a keeper of this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet import show_process
from fleet.config import to_show
from fleet.show_process import ShowProcess, ShowSettings
from streaming.page.server import TOKEN_VARIABLE
from tests import tiny
from tests.fleet.keepers import LocalKeeper
from tests.fleet.seeing import FPS, SeeingSink
from tests.fleet.waiting import WAIT_S

LEASE_S = 60.0  # no show of these tests loses its lease by itself
NODE = ("a node", "127.0.0.1")
Start = Callable[..., ShowProcess]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle, 64 x 48 at 30 frames per second."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "tiny", fps=str(FPS))


@pytest.fixture
def keeper() -> LocalKeeper:
    return LocalKeeper("lobby", LEASE_S)


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> list[SeeingSink]:
    """The sinks of all processes that a test starts, one of each."""
    made: list[SeeingSink] = []

    def make(specs: Any, pixels: str) -> list[SeeingSink]:
        made.append(SeeingSink())
        return made[-1:]

    monkeypatch.setattr(show_process, "make_sinks", make)
    return made


@pytest.fixture
def ends() -> list[int]:
    """Exit statuses with which processes wanted to end at once."""
    return []


@pytest.fixture
def start(bundle: Path, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a process; the values are those of the show's table."""
    monkeypatch.setenv(TOKEN_VARIABLE, "")  # which the process sets
    started: list[ShowProcess] = []

    def begin(**values: Any) -> ShowProcess:
        table = {"bundle": str(bundle), "to": ["null"], "engine": "onnxruntime", "no_mark": True, **values}
        settings = ShowSettings(LEASE_S, 0.05)
        started.append(ShowProcess(to_show("lobby", table, {}), settings, keeper, NODE, ends.append))
        return started[-1]

    yield begin
    for process in started:
        process.stop(keep=False)
        for thread in process._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()
