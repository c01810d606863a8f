"""A recording whose process is killed plays to its last second, and is not overwritten by the next one."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from streaming.sinks.file_sink import FileSink
from streaming.sinks.sink import Frame
from tests.streaming.doubles import decode, feed, number_of, numbered

ROOT = Path(__file__).resolve().parents[3]
FRAMES, FPS = 150, 30
RECORD = f"""
import sys, time
from streaming.sinks.file_sink import FileSink
from streaming.sinks.sink import Frame
from tests.streaming.doubles import feed, numbered
sink = FileSink(sys.argv[1])
sink.open(feed(fps={FPS}))
sink.start()
for slot in range({FRAMES}):
    sink.write(Frame(numbered(slot % 55), slot))
print("written", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_an_unfinished_recording_has_all_but_its_last_second(tmp_path: Path, suffix: str) -> None:
    fps = 24
    sink = FileSink(str(tmp_path / f"show{suffix}"))
    sink.open(feed(fps=fps))
    sink.start()
    for number in range(54):
        sink.write(Frame(numbered(number), number))
        written = number + 1
        if written in (fps // 2, 30, 36, 37, 38, 39, 54):  # the first half second, and any moment after it
            shutil.copy(tmp_path / f"show{suffix}.partial", copy := tmp_path / f"copy{suffix}")
            found = [number_of(frame.to_ndarray()[:48]) for frame in decode(copy)[0]]
            assert found[:-3] == list(range(len(found) - 3)), "only the last may lack what they were made from"
            assert len(found) >= max(1, written - fps)
    sink.close()
    assert len(decode(tmp_path / f"show{suffix}")[0]) == 54


@pytest.mark.live
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_killed_recording_plays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"show{suffix}"
    child = subprocess.Popen([sys.executable, "-c", RECORD, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not path.exists()
    sink = FileSink(str(path))
    sink.open(feed(fps=FPS))
    kept = tmp_path / f"show.recovered-1{suffix}"
    assert str(kept) in sink.invitation
    sink.start()
    sink.write(Frame(numbered(7), 0))
    sink.close()
    video, _ = decode(kept)
    assert len(video) >= FRAMES - FPS
    numbers = [number_of(frame.to_ndarray()[:48]) for frame in video]
    whole = len(numbers) - 8  # a few frames at the cut lack those that they were made from
    assert numbers[:whole] == [slot % 55 for slot in range(whole)]
    assert len(decode(path)[0]) == 1
    again = FileSink(str(path))
    again.open(feed())
    assert again.invitation == ""
    again.discard()
    assert kept.exists()


def test_a_second_recovered_recording_gets_its_own_name(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "a.mkv.partial").write_bytes(b"half")
        sink = FileSink(str(tmp_path / "a.mkv"))
        sink.open(feed())
        sink.discard()
        assert (tmp_path / f"a.recovered-{number}.mkv").read_bytes() == b"half"
    assert not (tmp_path / "a.mkv.partial").exists()
