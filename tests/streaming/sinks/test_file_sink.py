"""Recordings, read back with a decoder: frames, order, times, colours, and the files after a failure."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import pytest

from streaming.errors import SinkError
from streaming.sinks.file_sink import FileSink
from streaming.sinks.output_file import OutputFile
from streaming.sinks.sink import Frame
from tests.streaming.doubles import card_error, colour_card, decode, feed, number_of, numbered, to_i420


def record(path: Path, slots: list[int], fps: Fraction | int = 30) -> FileSink:
    """Record one numbered frame per slot."""
    sink = FileSink(str(path))
    sink.open(feed(fps=fps))
    sink.start()
    for number, slot in enumerate(slots):
        assert sink.write(Frame(numbered(number), slot))
    sink.close()
    return sink


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_frame_comes_back_in_order_and_on_time(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"show{suffix}"
    sink = record(path, list(range(50)), Fraction(30000, 1001))
    frames, _ = decode(path)
    assert [number_of(frame.to_ndarray()[:48]) for frame in frames] == list(range(50))
    assert [float(frame.time) for frame in frames] == pytest.approx([k * 1001 / 30000 for k in range(50)], abs=0.001)
    assert sink.result().startswith(str(path))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_colours_are_tagged_and_survive(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"card{suffix}"
    sink = FileSink(str(path))
    sink.open(feed(128, 96))
    sink.start()
    for slot in range(5):
        sink.write(Frame(to_i420(colour_card(128, 96)), slot))
    sink.close()
    frames, _ = decode(path)
    bt709, limited = 1, 1  # ITU-T H.273, and libavutil's AVCOL_RANGE_MPEG
    for frame in frames:
        assert (frame.format.name, frame.width, frame.height) == ("yuv420p", 128, 96)
        assert (frame.colorspace, frame.color_primaries, frame.color_trc) == (bt709,) * 3
        assert frame.color_range == limited
        # A player that believes the tags:
        rgb = frame.to_ndarray(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG", dst_color_range="JPEG")
        assert card_error(rgb) <= 5
        wrong = frame.to_ndarray(format="rgb24", src_colorspace="ITU601", src_color_range="MPEG")
        assert card_error(wrong) > 15  # the card would show a wrong matrix


def test_dropped_slots_leave_a_gap_in_time_and_the_file_begins_at_0(tmp_path: Path) -> None:
    path = tmp_path / "gaps.mp4"
    record(path, [7, 8, 11, 12, 20], 25)
    frames, _ = decode(path)
    assert [round(float(frame.time) * 25) for frame in frames] == [0, 1, 4, 5, 13]


def test_a_finished_mp4_is_an_ordinary_one(tmp_path: Path) -> None:
    path = tmp_path / "web.mp4"
    record(path, list(range(10)))
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 10, "its index is of the whole file, not of fragments"
        assert float(container.duration / 1e6) == pytest.approx(10 / 30, abs=0.05)


def test_there_is_a_key_frame_every_two_seconds(tmp_path: Path) -> None:
    path = tmp_path / "keys.mkv"
    record(path, list(range(45)), 10)
    with av.open(str(path)) as container:
        keys = [round(float(packet.pts * packet.time_base)) for packet in container.demux() if packet.is_keyframe]
    assert keys == [0, 2, 4]


def test_an_older_recording_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "old.mp4"
    path.write_bytes(b"older")
    sink = FileSink(str(path))
    sink.open(feed())
    sink.start()
    sink.write(Frame(numbered(0), 0))
    assert path.read_bytes() == b"older"
    sink.close()
    assert len(decode(path)[0]) == 1


@pytest.mark.parametrize("is_started", [True, False])
def test_a_show_that_never_began_leaves_no_file(tmp_path: Path, is_started: bool) -> None:
    sink = FileSink(str(tmp_path / "none.mp4"))
    sink.open(feed())
    if is_started:
        sink.start()
    sink.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_show_without_frames_leaves_no_file(tmp_path: Path) -> None:
    sink = record(tmp_path / "none.mkv", [])
    assert list(tmp_path.iterdir()) == []
    assert sink.result() == ""


def test_paths_that_cannot_be_written_are_refused_when_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    for path, message in {
        tmp_path / "missing" / "a.mp4": "there is no folder",
        tmp_path / "folder.mp4": "is a folder",
        tmp_path / ("x" * 250 + ".mp4"): "name too long",  # with .partial behind it
    }.items():
        with pytest.raises(SinkError, match=f"(?i){message}"):
            FileSink(str(path)).open(feed())
    assert [file.name for file in tmp_path.iterdir()] == ["folder.mp4"]


def test_a_deleted_recording_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "lost.mkv"
    sink = FileSink(str(path))
    sink.open(feed())
    sink.start()
    sink.write(Frame(numbered(0), 0))
    (tmp_path / "lost.mkv.partial").unlink()  # another program has deleted it
    with pytest.raises(SinkError, match=r"lost\.mkv failed: .*\.partial was deleted, and the recording with it"):
        sink.write(Frame(numbered(1), 1))
    with pytest.raises(SinkError, match=r"lost\.mkv failed: No such file or directory"):
        sink.close()
    assert not path.exists()


def test_two_recordings_never_share_a_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    first, second = FileSink(str(tmp_path / "show.mp4")), FileSink(str(tmp_path / "sub" / ".." / "show.mp4"))
    first.open(feed())
    with pytest.raises(SinkError, match="another recording writes to it; choose another path"):
        second.open(feed())
    first.start()
    assert all(first.write(Frame(numbered(number), number)) for number in range(5))
    first.close()
    assert len(decode(tmp_path / "show.mp4")[0]) == 5
    second.open(feed())  # free again
    second.discard()
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["show.mp4"]


@pytest.mark.parametrize("name", ["18:07.mkv", "file:a.mp4", "%d.mkv", "a b#?.mp4", "concat:a|b.mkv", "-.mp4", "é.mkv"])
def test_a_path_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    record(Path(name), [0, 1])
    assert [file.name for file in tmp_path.iterdir()] == [name]
    with (tmp_path / name).open("rb") as file, av.open(file) as container:
        assert len(list(container.decode(video=0))) == 2


def test_a_partial_that_is_not_a_regular_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.mkv.partial")
    (tmp_path / "link.mkv.partial").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "device.mkv.partial").symlink_to("/dev/null")
    (tmp_path / "folder.mkv.partial").mkdir()
    before = sorted(tmp_path.iterdir())
    for name in ("pipe", "link", "device"):
        with pytest.raises(
            SinkError, match=r"there is a link, a pipe, a socket or a device of that name; choose anoth"
        ):
            FileSink(str(tmp_path / f"{name}.mkv")).open(feed())
    with pytest.raises(SinkError, match="Is a directory; choose another path"):
        FileSink(str(tmp_path / "folder.mkv")).open(feed())
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the path of a socket must be short
        listener.bind("socket.mkv.partial")
        with pytest.raises(SinkError, match="there is a link, a pipe, a socket or a device of that name"):
            FileSink("socket.mkv").open(feed())
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "socket.mkv.partial"])


def test_a_recording_whose_folder_is_deleted_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    sink = FileSink(str(tmp_path / "sub" / "a.mp4"))
    sink.open(feed())
    sink.start()
    sink.write(Frame(numbered(0), 0))
    shutil.rmtree(tmp_path / "sub")
    with pytest.raises(SinkError, match="was deleted"):
        sink.write(Frame(numbered(1), 1))
    with pytest.raises(SinkError, match="No such file or directory"):
        sink.close()
    assert list(tmp_path.iterdir()) == []


@contextlib.contextmanager
def small_files(size_bytes: int) -> Iterator[None]:
    """Let this process write no file beyond a size, as a full disk would."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    with OutputFile(tmp_path / "file", "") as file, small_files(1000), pytest.raises(OSError, match="File too large"):
        file.write(bytes(1500))
    assert (tmp_path / "file").stat().st_size == 1000
    sink = FileSink(str(tmp_path / "a.mkv"))
    sink.open(feed())
    sink.start()

    def write_for_ever() -> None:
        for number in itertools.count():
            sink.write(Frame(numbered(number % 55), number))

    with (
        small_files(1000),
        pytest.raises(SinkError, match=r"a\.mkv failed: File too large; the unfinished file is .*\.partial"),
    ):
        write_for_ever()
    with contextlib.suppress(SinkError):
        sink.close()
