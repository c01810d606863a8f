"""The machine card and the writing of files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.report import write_beside
from runtime.engines import cpu


def test_the_card_is_plain_data_about_this_machine() -> None:
    card = machine.machine_card()
    assert json.loads(json.dumps(card)) == card
    assert card["cpu"]
    assert card["python"].startswith("3.")
    assert card["packages"]["numpy"]


def test_memory_is_read(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemFree: 1 kB\nMemTotal:       25165824 kB\n")
    assert machine._read_memory(tmp_path / "meminfo") == 24.0


def test_an_unknown_system_has_no_flags_and_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(machine, "_MEMINFO", tmp_path / "none")
    card = machine.machine_card()
    assert card["flags"] == []
    assert card["memory_gib"] is None


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder with a test identity."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_commit_says_whether_it_was_changed(tmp_path: Path) -> None:
    folder = tmp_path.resolve()
    assert machine._commit(folder) is None
    git(folder, "init", "-q")
    (folder / "a").write_text("1")
    git(folder, "add", "a")
    git(folder, "commit", "-q", "-m", "a")
    head = git(folder, "rev-parse", "HEAD")
    assert machine._commit(folder) == head
    (folder / "a").write_text("2")
    assert machine._commit(folder) == head + "-dirty"
    (folder / "installed").mkdir()
    assert machine._commit(folder / "installed") is None


def test_a_file_is_whole_or_absent(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_beside(file, lambda beside: beside.write_text("old"))

    def fail(beside: Path) -> None:
        beside.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_beside(file, fail)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
