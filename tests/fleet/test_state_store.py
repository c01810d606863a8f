"""Positions in files: in a folder and in a store of fsspec, which may be full, read-only, or not there."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from fleet.state_store import StateStore
from tests.fleet.waiting import WAIT_S, wait_until

_NUMBERS = itertools.count()


class FaultyStore(MemoryFileSystem):
    """A store that fails as told.

    Attributes:
        faults: name of a method -> what it raises.
    """

    protocol = "faulty"
    store: dict[str, Any] = {}  # noqa: RUF012 - as in the class above it
    pseudo_dirs = [""]  # noqa: RUF012
    faults: dict[str, Exception] = {}  # noqa: RUF012

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self._fail("makedirs")
        super().makedirs(path, exist_ok)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> Any:
        self._fail("pipe_file")
        return super().pipe_file(path, value, mode, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> Any:
        self._fail("cat_file")
        return super().cat_file(path, start, end, **kwargs)

    def rm_file(self, path: str) -> None:
        self._fail("rm_file")
        super().rm_file(path)

    def _fail(self, method: str) -> None:
        if method in self.faults:
            raise self.faults[method]


@pytest.fixture
def faults() -> Iterator[dict[str, Exception]]:
    """What the store at faulty:// raises, by method; nothing at first."""
    fsspec.register_implementation("faulty", FaultyStore, clobber=True)
    FaultyStore.faults.clear()
    yield FaultyStore.faults
    FaultyStore.faults.clear()
    FaultyStore.store.clear()


@pytest.fixture(params=["folder", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "state") if request.param == "folder" else f"memory://shows{next(_NUMBERS)}"


def test_what_was_written_last_is_read(address: str) -> None:
    store = StateStore(address)
    assert store.load("lobby") == (b"", "")
    store.save("lobby", b"\0at 10", "")
    wait_until(lambda: store.load("lobby") == (b"\0at 10", ""))
    for number in range(20):
        store.save("lobby", b"at %d" % number, "bundles/other")
    store.save("hall", b"elsewhere", "")
    wait_until(lambda: store.load("lobby") == (b"at 19", "bundles/other") and store.load("hall") == (b"elsewhere", ""))
    assert StateStore(address).load("lobby") == (b"at 19", "bundles/other")
    assert store.error == ""


def test_what_was_removed_is_gone(address: str) -> None:
    store = StateStore(address)
    for name in ("lobby", "hall"):
        store.save(name, b"at 10", "")
        wait_until(lambda name=name: store.load(name)[0])  # type: ignore[misc]
    store.remove("lobby")
    store.remove("lobby")
    assert store.flush(WAIT_S)
    assert (store.load("lobby"), store.load("hall"), store.error) == ((b"", ""), (b"at 10", ""), "")


def test_no_half_written_file_is_left(tmp_path: Path) -> None:
    store = StateStore(str(tmp_path))
    store.save("lobby", b"at 10", "")
    wait_until(lambda: store.load("lobby")[0])
    assert store.flush(WAIT_S)
    [path] = tmp_path.iterdir()
    assert (path.name, path.read_bytes()) == ("lobby.position", b'{"bundle": ""}\nat 10')


@pytest.mark.parametrize("content", [b"{", b"[]\nat 10", b"{}\nat 10", b"\xff\nat 10", b""])
def test_a_damaged_file_begins_anew_and_is_told(tmp_path: Path, content: bytes) -> None:
    store = StateStore(str(tmp_path))
    (tmp_path / "lobby.position").write_bytes(content)
    assert store.load("lobby") == (b"", "")
    assert (store.error_of("lobby"), store.error_of("hall")) == (store.error, "")
    assert store.error.startswith(f"the position of lobby cannot be read from {tmp_path}: ")
    assert store.error.endswith("; it begins anew")
    assert "\n" not in store.error
    store.save("lobby", b"at 20", "")
    wait_until(lambda: store.error == "", "a good write")
    assert store.load("lobby") == (b"at 20", "")


def test_a_good_write_of_one_show_hides_no_error_of_another(tmp_path: Path) -> None:
    (tmp_path / "lobby.position").write_bytes(b"{")
    store = StateStore(str(tmp_path))
    store.load("lobby")
    store.save("hall", b"at 10", "")
    assert store.flush(WAIT_S)
    assert store.error.startswith("the position of lobby cannot be read")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device"), "No space left on device"),
        (PermissionError(30, "Read-only file system"), "Read-only file system"),
        (RuntimeError("no\ncredentials"), "no credentials"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_store_that_takes_nothing_is_told_until_it_does(
    faults: dict[str, Exception], error: Exception, told: str
) -> None:
    store = StateStore("faulty://shows")
    faults["pipe_file"] = error
    store.save("lobby", b"at 10", "")
    wait_until(lambda: store.error, "a failed write")
    assert store.error == f"positions cannot be written to faulty://shows: {told}; free or change it"
    faults.clear()
    store.save("lobby", b"at 20", "")
    wait_until(lambda: store.error == "", "a good write")
    assert store.load("lobby") == (b"at 20", "")


def test_a_failed_write_keeps_the_position_before(faults: dict[str, Exception]) -> None:
    store = StateStore("faulty://shows")
    store.save("lobby", b"at 10", "")
    wait_until(lambda: store.load("lobby")[0])
    faults["pipe_file"] = OSError(28, "No space left on device")
    store.save("lobby", b"at 20", "")
    wait_until(lambda: store.error, "a failed write")
    assert store.load("lobby") == (b"at 10", "")


def test_a_store_that_cannot_be_read_is_told(faults: dict[str, Exception]) -> None:
    store = StateStore("faulty://shows")
    faults["cat_file"] = RuntimeError("no credentials")
    assert store.load("lobby") == (b"", "")
    assert store.error == "the position of lobby cannot be read from faulty://shows: no credentials; it begins anew"


def test_a_position_that_cannot_be_deleted_is_told(faults: dict[str, Exception]) -> None:
    store = StateStore("faulty://shows")
    faults["rm_file"] = RuntimeError("no credentials")
    store.remove("lobby")
    assert store.flush(WAIT_S)
    assert store.error == "positions cannot be deleted at faulty://shows: no credentials; free or change it"


@pytest.mark.parametrize("address", ["nowhere://shows", "/dev/null/shows", "s3x://"])
def test_an_address_that_cannot_be_used_is_one_sentence(address: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is looked at below
        StateStore(address)
    assert str(caught.value).startswith(f'[fleet] state = "{address}" cannot be used: ')
    assert "\n" not in str(caught.value)


def test_so_is_one_without_credentials(faults: dict[str, Exception]) -> None:
    faults["makedirs"] = RuntimeError("unable to locate credentials")
    with pytest.raises(ValueError, match="cannot be used: unable to locate credentials"):
        StateStore("faulty://shows")


def test_without_fsspec_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        ValueError, match=r"a fleet needs fsspec, which is not installed: pip install 'everframe\[cluster\]'"
    ):
        StateStore("memory://shows")
