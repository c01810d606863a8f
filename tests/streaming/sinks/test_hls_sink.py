"""HLS: a real playlist in a folder."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest

from streaming.errors import SinkError
from streaming.live.hls import NUM_SEGMENTS, HlsFolder
from streaming.live.hls_stream import HlsStream
from streaming.live.publisher import PublisherProcess, PublishJob
from streaming.output.fan_out import FanOut, SinkStats
from streaming.sinks.hls_sink import HlsSink
from streaming.sinks.sink import Frame
from streaming.sinks.table import make_sinks
from tests.fakes import FakeClock
from tests.streaming.doubles import decode, feed, numbered


@pytest.mark.live
def test_hls_is_a_playlist_of_the_last_seconds(tmp_path: Path) -> None:
    playlist = tmp_path / "live.m3u8"
    (tmp_path / "live-5.ts").write_bytes(b"of a show before")
    (tmp_path / "live-mine.ts").write_bytes(b"somebody's")
    [sink] = make_sinks([str(playlist)], "i420")
    assert isinstance(sink, HlsSink)
    job: list[PublishJob] = []
    sink._dial = lambda made: (job.append(made), PublisherProcess(made))[1]
    sink.open(feed(fps=10))
    sink.start()
    try:
        for slot in range(400):  # 40 s of video, as fast as they are taken
            while not sink.write(Frame(numbered(slot % 55), slot)):
                pass
            if slot == 350:
                assert "#EXT-X-ENDLIST" not in playlist.read_text()
    finally:
        sink.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert "live-5.ts" not in names
    assert "live-mine.ts" in names
    assert len(names) <= NUM_SEGMENTS + 4, names
    text = playlist.read_text()
    assert text.count("#EXTINF:2.0") >= NUM_SEGMENTS - 1
    assert "#EXT-X-INDEPENDENT-SEGMENTS" in text
    assert "#EXT-X-ENDLIST" in text
    video, num_audio = decode(playlist)
    assert len(video) == pytest.approx(10 * 2 * NUM_SEGMENTS, abs=20)
    assert num_audio > 100


def test_hls_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"there is no folder .*nowhere; make it first"):
        HlsSink(str(tmp_path / "nowhere" / "live.m3u8")).open(feed())


def full_disk(limits: list[int]) -> Callable[[PublishJob], PublisherProcess]:
    """Return what makes links, whose processes may write files of so many bytes; after the list, of any size."""
    resource = pytest.importorskip("resource")

    def dial(job: PublishJob) -> PublisherProcess:
        link = PublisherProcess(job)
        if limits:
            limit = limits.pop(0)
            resource.prlimit(link.pid, resource.RLIMIT_FSIZE, (limit, limit))
        return link

    return dial


def show(sink: HlsSink, num_frames: int, fps: int = 10) -> SinkStats:
    """Give a sink so many frames once it is on air, as fast as it takes them; return how it did."""
    fan_out = FanOut([sink])
    fan_out.open(feed(fps=fps))
    fan_out.wait_ready()
    (thread,) = fan_out.threads
    slot, last = 0, 10**9
    while slot < last:
        fan_out.put(numbered(slot % 55), slot)
        slot += 1
        while thread._queue:
            time.sleep(0.001)
        if last == 10**9 and sink.is_up():
            last = slot + num_frames
    fan_out.close()
    return fan_out.stats()[0]


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux sets the limits of another process")


@linux
def test_nothing_that_is_lost_counts_as_written(tmp_path: Path) -> None:
    sink = HlsSink(str(tmp_path / "live.m3u8"), dial=full_disk([2000] * 1000))  # a playlist would fit
    stats = show(sink, 30)
    assert stats.errors >= 1
    assert stats.written == 0
    assert stats.dropped >= 30
    assert "File too large" in stats.result
    assert list(tmp_path.iterdir()) == []


@linux
def test_what_was_kept_before_the_disk_was_full_counts(tmp_path: Path) -> None:
    (tmp_path / "live-5.ts").write_bytes(b"of a show before")
    clock = FakeClock(0.0)
    sink = HlsSink(str(tmp_path / "live.m3u8"), dial=full_disk([2000]), clock=clock)
    sink.open(feed(fps=10))
    sink.start()
    number = 0
    while not sink.errors:
        sink.write(Frame(numbered(number % 55), number))
        number += 1
    assert [path.name for path in tmp_path.iterdir()] == ["live-5.ts"], "it stays until there is something better"
    clock.advance(10.0)
    while not sink.is_up():
        sink.write(Frame(numbered(0), number))
        number += 1
    for slot in range(number, number + 30):
        assert sink.write(Frame(numbered(slot % 55), slot))
    sink.close()
    assert sink.errors == 1
    assert sink.reconnects == 1
    assert 20 <= sink.lost <= number
    assert len(decode(tmp_path / "live.m3u8")[0]) == 31
    assert not (tmp_path / "live-5.ts").exists()


@linux
def test_an_end_that_is_lost_is_an_error(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    sink = HlsSink(str(tmp_path / "live.m3u8"))
    sink.open(feed(fps=10))
    sink.start()
    while not sink.write(Frame(numbered(0), 0)):
        pass
    assert sink._publisher is not None
    for slot in range(1, 30):
        sink.write(Frame(numbered(slot), slot))
    resource.prlimit(sink._publisher.pid, resource.RLIMIT_FSIZE, (0, 0))
    sink.close()
    assert sink.errors == 1
    assert "File too large" in sink.result()
    assert sink.lost in (10, 30)  # the first segment was complete by then, or not


@pytest.mark.parametrize("name", ["a:b", "%d", "100%", "a b#?&", "é", "-"])
def test_a_name_is_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "%d").mkdir()
    path = Path("%d") / f"{name}.m3u8"
    target = HlsSink.to_target(str(path))
    stream = HlsStream(PublishJob(target.url, target.muxer, 64, 48, "25", target.audio))
    for number in range(54):
        stream.send(Frame(numbered(number), number))
    stream.close()
    assert stream.num_kept == 54
    playlist = path.read_text()
    segments = [line for line in playlist.splitlines() if not line.startswith("#")]
    assert len(segments) == 2
    assert {unquote(urlsplit(urljoin("http://host/folder/", line)).path) for line in segments} == {
        f"/folder/{file.name}" for file in (tmp_path / "%d").iterdir() if file.suffix == ".ts"
    }, "a browser finds them"
    assert len(list((tmp_path / "%d").iterdir())) == 3
    assert len(decode(tmp_path / path)[0]) == 54


def test_numbers_go_on_when_the_clock_was_set_back(tmp_path: Path) -> None:
    ahead = int(time.time()) + 10**6
    (tmp_path / f"live-{ahead}.ts").touch()
    (tmp_path / f"live-{ahead + 5}.ts.tmp").touch()
    (tmp_path / f"live-b-{ahead + 9}.ts").touch()
    assert HlsFolder(tmp_path / "live.m3u8").options()["start_number"] == str(ahead + 6)


def test_names_that_cannot_be_written_are_refused_before_the_show(tmp_path: Path) -> None:
    (tmp_path / "folder.m3u8").mkdir()
    for name, message in {
        "x" * 250 + ".m3u8": "File name too long; choose another path",
        "x" * 240 + ".m3u8": "File name too long; choose another path",
        "folder.m3u8": "is a folder",
    }.items():
        with pytest.raises(SinkError, match=message):
            HlsSink(str(tmp_path / name)).open(feed())
    HlsSink(str(tmp_path / f"{'x' * 230}.m3u8")).open(feed())
    assert [path.name for path in tmp_path.iterdir()] == ["folder.m3u8"]


def test_a_folder_that_vanishes_is_an_error_and_may_come_back(tmp_path: Path) -> None:
    folder = tmp_path / "www"
    folder.mkdir()
    hls = HlsFolder(folder / "live.m3u8")
    hls.open("live-1.ts", 2, {}).close()
    shutil.rmtree(folder)
    part = hls.open("live-2.ts", 2, {})
    assert part.write(b"lost") == 4
    part.close()
    with pytest.raises(OSError, match="No such file or directory"):
        hls.check()
    folder.mkdir()
    part = hls.open("live-3.ts", 2, {})
    part.write(b"kept")
    assert (folder / "live-3.ts.tmp").read_bytes() == b"kept"
    part.close()
    hls.check()
    assert [path.name for path in folder.iterdir()] == ["live-3.ts"]


def test_the_chain_of_an_earlier_show_is_not_signed(tmp_path: Path) -> None:
    chain = tmp_path / "live.segments.jsonl"
    for first, is_mine in (("an earlier show", False), ("this show, and more", False), ("this show", True)):
        chain.write_text(f"{first}\n")
        sink = HlsSink(str(tmp_path / "live.m3u8"))
        sink.open(replace(feed(), chain="this show"))
        sink.close()
        assert sink.product == (chain if is_mine else None)
    assert chain.read_text() == "this show\n"


def test_segments_without_a_chain_replace_that_of_an_earlier_show(tmp_path: Path) -> None:
    chain = tmp_path / "live.segments.jsonl"
    chain.write_text("an earlier show\n")
    hls = HlsFolder(tmp_path / "live.m3u8")
    assert chain.exists(), "until there is a segment"
    hls.open("live-1.ts", 2, {}).close()
    hls.check()
    assert not chain.exists()
