"""HLS: a real playlist in a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming.errors import SinkError
from streaming.live.publishing import ChildLink, Job
from streaming.sink import Frame
from streaming.sinks.hls_sink import NUM_SEGMENTS, HlsSink
from streaming.sinks.table import make_sinks
from tests.streaming.doubles import decode, feed, numbered


@pytest.mark.live
def test_hls_is_a_playlist_of_the_last_seconds(tmp_path: Path) -> None:
    playlist = tmp_path / "live.m3u8"
    (tmp_path / "live-5.ts").write_bytes(b"of a show before")
    (tmp_path / "live-mine.ts").write_bytes(b"somebody's")
    [sink] = make_sinks([str(playlist)], "i420")
    assert isinstance(sink, HlsSink)
    job: list[Job] = []
    sink._dial = lambda made: (job.append(made), ChildLink(made))[1]
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
