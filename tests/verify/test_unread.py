"""What of a source was not read is said: damaged frames, a missing end, a limit, another size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.verify.marked_video import TEXT, clip, write
from verify import command
from verify.frames import Unread, read_frames

SIZE = (480, 272)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A marked MP4 of 3 seconds."""
    return write(tmp_path_factory.mktemp("videos") / "whole.mp4", clip(*SIZE, count=75))


def damaged(whole: Path, folder: Path) -> Path:
    """Return a copy whose frames cannot be decoded from the second third on."""
    content = bytearray(whole.read_bytes())
    begin = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    first = begin + (end - begin) // 3
    content[first:end] = bytes(end - first)
    (folder / "damaged.mp4").write_bytes(content)
    return folder / "damaged.mp4"


def test_nothing_is_said_where_all_was_read(whole: Path) -> None:
    unread = Unread()
    assert sum(1 for _ in read_frames(str(whole), None, unread)) == 75
    assert unread == Unread(stated_s=3.0)
    assert unread.sentences() == []


def test_frames_before_a_damaged_one_count(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(damaged(whole, tmp_path))]) == 0
    told = capsys.readouterr()
    assert f"Marked: payload {TEXT}." in told.out
    assert "Reading ended at 0." in told.out or "Reading ended at 1." in told.out
    assert "s: Invalid data found when processing input. What comes after it was not read." in told.out
    assert told.err == ""


def test_a_file_that_was_cut_short_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "cut.mkv", clip(*SIZE, count=75, payload=None))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert command.main([str(file)]) == 1
    assert "The file is cut short or damaged: it says that it lasts 3.0 s" in capsys.readouterr().out


def test_a_limit_is_told(whole: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_SECONDS_FILE", 1.0)
    assert command.main([str(whole)]) == 0
    assert "Only the first 1 s of 3.0 s were read: give --seconds for more." in capsys.readouterr().out
    assert command.main([str(whole), "--json", "--seconds", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["mark"]["unread"]["limit_s"] == 2.0


def test_frames_of_another_size_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parts = [write(tmp_path / f"{width}.h264", clip(width, 272, count=20, payload=None)) for width in (480, 400)]
    both = tmp_path / "both.h264"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert command.main([str(both)]) == 1
    told = capsys.readouterr().out
    assert "20 frames were not read, because their size differs from that of the first one." in told
