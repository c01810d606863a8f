"""The ledger: nothing in it can be changed, and nothing about it holds up a show."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from provenance.facts import BundleFacts, ShowFacts
from provenance.ledger import BEAT, END, PROMPT, SIGNED, START
from provenance.ledger.command import main
from provenance.ledger.store import Ledger
from provenance.ledger.writer import LedgerWriter

WAIT_S = 30.0
FACTS = ShowFacts(
    "a" * 32, "0.3.0", "2026-11-29T20:00:00Z", (BundleFacts("sea", "0" * 64, "generator"),), (1280, 720), "30"
)


def _start(mark: str | None = None, **more: Any) -> dict[str, Any]:
    return {**FACTS.to_json(), "mark": mark, "sinks": ["night.mp4"], **more}


def _fill(path: Path) -> None:
    with Ledger(path, is_writer=True) as ledger:
        ledger.append("one", "2026-11-29T20:00:00Z", START, _start("0123456789ab"), "0123456789ab")
        ledger.append("one", "2026-11-29T20:00:00Z", PROMPT, {"at_s": 0.0, "prompt": {"scene": "lake"}})
        ledger.append("two", "2026-11-29T20:00:05Z", START, _start("ffffffffffff"), "ffffffffffff")
        ledger.append("one", "2026-11-29T20:00:10Z", BEAT, {"frame": 300})
        ledger.append("two", "2026-11-29T20:00:11Z", BEAT, {"frame": 150})
        ledger.append("one", "2026-11-29T20:00:20Z", END, {"frame": 600, "reason": "interrupted"})
        ledger.append("one", "2026-11-29T20:00:21Z", SIGNED, {"file": "night.mp4"})


def test_events_come_back(tmp_path: Path) -> None:
    _fill(tmp_path / "shows.sqlite")
    with Ledger(tmp_path / "shows.sqlite") as ledger:
        assert [event.kind for event in ledger.events(show="one")] == [START, PROMPT, BEAT, END, SIGNED]
        assert [event.id for event in ledger.events((BEAT,))] == [4, 5]
        last = ledger.last("one", BEAT)
        assert last is not None
        assert last.data == {"frame": 300}
        assert ledger.last("two", END) is None
        assert ledger.first_changed() is None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET mark = NULL",
        "DELETE FROM events",
        "DELETE FROM events WHERE id = 7",
        "INSERT OR REPLACE INTO events SELECT id, 'x', time, kind, mark, data, hash FROM events WHERE id = 1",
        "INSERT INTO events SELECT 99, show, time, kind, mark, data, hash FROM events WHERE id = 1",
        "REPLACE INTO events SELECT 7, show, time, kind, mark, data, hash FROM events WHERE id = 1",
    ],
)
def test_events_cannot_be_changed(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "shows.sqlite"
    _fill(path)
    database = sqlite3.connect(path)
    before = database.execute("SELECT * FROM events").fetchall()
    with pytest.raises(sqlite3.IntegrityError, match="the ledger is append-only"):
        database.execute(statement)
    database.rollback()
    assert database.execute("SELECT * FROM events").fetchall() == before
    database.close()


def test_a_change_behind_the_triggers_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shows.sqlite"
    _fill(path)
    database = sqlite3.connect(path)
    database.execute("DROP TRIGGER events_stay")
    database.execute("UPDATE events SET mark = '000000000000' WHERE id = 3")
    database.commit()
    database.close()
    with Ledger(path) as ledger:
        assert ledger.first_changed() == 3
    assert main([str(path)]) == 1
    assert "event 3 of" in capsys.readouterr().err


def test_a_payload_leads_to_its_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shows.sqlite"
    _fill(path)
    assert main([str(path), "--payload", "0123456789AB"]) == 0
    told = capsys.readouterr().out
    assert "mark     0123456789ab" in told
    assert "frames 0 to 600" in told
    assert "scene lake" in told
    assert "ffffffffffff" not in told
    assert main([str(path), "--payload", "ffffffffffff", "--json"]) == 0
    show = json.loads(capsys.readouterr().out)
    assert (show["state"], show["last_frame"], show["ended"]) == ("ended without closing", 150, None)
    assert main([str(path), "--payload", "000000000000"]) == 1
    assert "no show in" in capsys.readouterr().err


def test_a_show_that_may_still_run_is_not_called_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shows.sqlite"
    time = datetime.now(UTC).isoformat(timespec="seconds")
    with Ledger(path, is_writer=True) as ledger:
        ledger.append("one", time, START, _start())
    assert main([str(path)]) == 0
    assert "running, or killed just now" in capsys.readouterr().out


def test_what_is_no_ledger_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, other = tmp_path / "text", tmp_path / "other.sqlite"
    text.write_text("this is no database, although it is longer than its header, which has a hundred bytes. " * 3)
    database = sqlite3.connect(other)
    database.execute("CREATE TABLE mine (a)")
    database.close()
    for path in (text, other):
        before = path.read_bytes()
        for is_writer in (False, True):
            with pytest.raises(ValueError, match=r"cannot be used|is no ledger"):
                Ledger(path, is_writer=is_writer)
        assert path.read_bytes() == before
    with pytest.raises(ValueError, match="there is no folder"):
        Ledger(tmp_path / "no" / "a.sqlite", is_writer=True)
    assert main([str(tmp_path / "none.sqlite")]) == 2
    assert "there is no ledger at" in capsys.readouterr().err
    assert main([str(other), "--payload", "12"]) == 2
    assert "--payload: the payload of a mark is 12 hexadecimal digits" in capsys.readouterr().err


def test_shows_at_the_same_time_share_a_ledger(tmp_path: Path) -> None:
    path = tmp_path / "shows.sqlite"

    def run(name: str) -> None:
        writer = LedgerWriter(path, name, lambda line: None, retry_s=0.01)
        for frame in range(20):
            writer.note(PROMPT, {"at_s": frame, "prompt": {}})
        assert writer.close(WAIT_S) == 0

    threads = [threading.Thread(target=run, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT_S)
    with Ledger(path) as ledger:
        assert ledger.first_changed() is None
        for name in "abc":
            assert [event.data["at_s"] for event in ledger.events(show=name)] == list(range(20))


def test_a_busy_file_is_tried_again_and_nothing_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provenance.ledger.store._BUSY_S", 0.01)
    path = tmp_path / "shows.sqlite"
    said: list[str] = []
    told = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        told.set()

    writer = LedgerWriter(path, "one", say, retry_s=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for frame in range(3):
        writer.note(BEAT, {"frame": frame})
    writer.note(END, {"frame": 3, "reason": "interrupted"})
    assert told.wait(WAIT_S)
    other.execute("ROLLBACK")
    other.close()
    assert writer.close(WAIT_S) == 0
    assert "cannot be written (database is locked): the show goes on" in said[0]
    assert "can be written again" in said[1]
    assert len(said) == 2
    with Ledger(path) as ledger:
        kinds = [event.kind for event in ledger.events()]
    assert kinds[-1] == END
    assert kinds.count(BEAT) in (1, 2), "beats that wait replace one another; one may be on its way"


def test_events_that_cannot_be_written_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provenance.ledger.store._BUSY_S", 0.01)
    path = tmp_path / "shows.sqlite"
    writer = LedgerWriter(path, "one", lambda line: None, retry_s=0.01)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    writer.note(START, _start())
    writer.note(END, {"frame": 3, "reason": "interrupted"})
    assert writer.close(0.1) == 2
    other.execute("ROLLBACK")
    other.close()


def test_a_full_disk_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "shows.sqlite"
    is_full, refused = True, threading.Event()
    real = Ledger.append

    def append(self: Ledger, *args: Any) -> None:
        if is_full:
            refused.set()
            raise OSError(28, "No space left on device", str(path))
        real(self, *args)

    monkeypatch.setattr(Ledger, "append", append)
    said: list[str] = []
    writer = LedgerWriter(path, "one", said.append, retry_s=0.01)
    writer.note(START, _start())
    assert refused.wait(WAIT_S)
    is_full = False
    assert writer.close(WAIT_S) == 0
    assert [line.partition(":")[0] for line in said] == [
        f"the ledger {path} cannot be written (No space left on device)",
        f"the ledger {path} can be written again; nothing was lost",
    ]


def test_beats_are_not_written_for_every_frame(tmp_path: Path) -> None:
    path = tmp_path / "shows.sqlite"
    writer = LedgerWriter(path, "one", lambda line: None, beat_s=1e9)
    for frame in range(100):
        writer.beat(frame)
    writer.close(WAIT_S)
    with Ledger(path) as ledger:
        assert [event.data["frame"] for event in ledger.events((BEAT,))] == [0]


def test_a_show_that_never_begins_leaves_no_ledger(tmp_path: Path) -> None:
    LedgerWriter(tmp_path / "shows.sqlite", "one", lambda line: None).close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["n\udcff.mp4", object()])
def test_an_event_that_cannot_be_encoded_holds_up_no_other(tmp_path: Path, bad: Any) -> None:
    path = tmp_path / "shows.sqlite"
    said: list[str] = []
    writer = LedgerWriter(path, "one", said.append, retry_s=0.01)
    writer.note(START, _start(sinks=[bad]))
    writer.note(END, {"frame": 3, "reason": "interrupted"})
    assert writer.close(WAIT_S) == 1
    assert said == []
    with Ledger(path) as ledger:
        assert [event.kind for event in ledger.events()] == [END]
        assert ledger.first_changed() is None
    with Ledger(path, is_writer=True) as ledger, pytest.raises(ValueError, match="encode"):
        ledger.append("one", "2026-11-29T20:00:00Z", START, {"sinks": [bad]})


def _change(path: Path, number: int, **columns: Any) -> None:
    """Change an event as somebody can who may write the file."""
    database = sqlite3.connect(path)
    database.execute("DROP TRIGGER IF EXISTS events_stay")
    for column, value in columns.items():
        database.execute(f"UPDATE events SET {column} = CAST(? AS TEXT) WHERE id = ?", (value, number))
    database.commit()
    database.close()


@pytest.mark.parametrize(
    "data",
    [
        "{}",
        '{"bundles": []}',
        '{"bundles": 3, "sinks": 4, "width": [], "height": 1}',
        '{"bundles": [1, {"name": 2, "sha256": 3}, {"role": "link"}]}',
        "no JSON",
        "[1]",
        '{"sinks": ["\\ud800"]}',
        b"\xff\xfe",
    ],
)
def test_changed_data_end_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], data: str | bytes) -> None:
    path = tmp_path / "shows.sqlite"
    _fill(path)
    _change(path, 1, data=data)
    _change(path, 2, data=data, time="yesterday")
    for arguments in ([str(path)], [str(path), "--json"], [str(path), "--payload", "0123456789ab"]):
        assert main(arguments) == 1
        told = capsys.readouterr()
        told.out.encode()
        assert "event 1 of" in told.err
        assert "do not rely on it" in told.err
        assert told.out


def test_a_changed_time_ends_no_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shows.sqlite"
    _fill(path)
    _change(path, 5, time="yesterday")
    assert main([str(path)]) == 1
    told = capsys.readouterr()
    assert "ended without closing (last seen yesterday)" in told.out
    assert "event 5 of" in told.err


def test_a_damaged_file_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shows.sqlite"
    _fill(path)
    data = bytearray(path.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 200] = b"\xff" * 200
    path.write_bytes(data)
    assert main([str(path)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_links_are_a_chain_and_helpers_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shows.sqlite"
    roles = {"sea": "generator", "ink": "link", "cut": "matte", "fields": "areas"}
    bundles = [BundleFacts(name, "0" * 64, role).to_json() for name, role in roles.items()]
    with Ledger(path, is_writer=True) as ledger:
        ledger.append("one", "2026-11-29T20:00:00Z", START, _start(bundles=bundles))
    assert main([str(path)]) == 0
    told = capsys.readouterr().out.splitlines()
    assert f"  bundle   sea {'0' * 12} > ink {'0' * 12}" in told
    assert f"  matte    cut {'0' * 12}" in told
    assert f"  areas    fields {'0' * 12}" in told


@pytest.mark.parametrize("text", ["0x0123456789ab", "0x123456789a", "0123456789ab ", ""])
def test_a_payload_is_written_as_for_a_show(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = tmp_path / "shows.sqlite"
    _fill(path)
    assert main([str(path), "--payload", text]) == 2
    assert f"12 hexadecimal digits, e.g. 00c0ffee1234, got {text!r}" in capsys.readouterr().err


@contextmanager
def _without_rights(folder: Path) -> Iterator[None]:
    """Be somebody who may read a folder and not write it; as root, somebody else."""
    folder.chmod(0o555)
    for file in folder.iterdir():
        file.chmod(0o644)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.mark.skipif(os.name != "posix", reason="rights of a folder")
def test_a_ledger_is_read_where_nothing_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        path, other = Path(name) / "shows.sqlite", Path(name) / "copy.sqlite"
        _fill(path)
        with _without_rights(path.parent):
            assert main([str(path)]) == 0
            assert "frames 0 to 600" in capsys.readouterr().out
        with Ledger(path, is_writer=True) as ledger:
            ledger.append("two", "2026-11-29T20:00:30Z", END, {"frame": 900, "reason": "interrupted"})
            shutil.copy(path, other)
            shutil.copy(f"{path}-wal", f"{other}-wal")
        with _without_rights(path.parent):
            assert main([str(other)]) == 2
            assert "copy.sqlite-wal has its last events" in capsys.readouterr().err
        assert main([str(other)]) == 0
        assert "frames 0 to 900" in capsys.readouterr().out
