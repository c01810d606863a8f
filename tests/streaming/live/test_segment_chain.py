"""The chain of segments as the publishing process writes it: it goes on after a break, and only in its own file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from provenance.facts import BundleFacts, ShowFacts
from provenance.segments import begin_line, check_chain
from streaming.live.hls import HlsFolder
from streaming.live.segment_chain import SegmentChain

BUNDLE = BundleFacts("sea", "0" * 64, "generator")
SHOWS = [begin_line(ShowFacts(name * 32, "0.3.0", "2026-11-29T20:00:00Z", (BUNDLE,), (64, 48), "30")) for name in "ab"]


def _segment(chain: SegmentChain, folder: Path, number: int) -> None:
    data = bytes([number]) * 100
    (folder / f"live-{number}.ts").write_bytes(data)
    chain.add(f"live-{number}.ts", hashlib.sha256(data).hexdigest(), len(data))


def test_a_stream_that_begins_again_continues_its_chain(tmp_path: Path) -> None:
    path = tmp_path / "live.segments.jsonl"
    for part in range(3):
        chain = SegmentChain(tmp_path / "live.m3u8", SHOWS[0])
        for number in (2 * part, 2 * part + 1):
            _segment(chain, tmp_path, number)
        if part == 0:
            with path.open("a") as file:
                file.write('{"bytes": 10')  # the process was killed there
    report = check_chain(path)
    assert (report.state, report.segments, report.present) == ("unsigned", 6, 6)


def test_another_show_begins_a_chain_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "live.segments.jsonl"
    _segment(SegmentChain(tmp_path / "live.m3u8", SHOWS[0]), tmp_path, 1)
    chain = SegmentChain(tmp_path / "live.m3u8", SHOWS[1])
    assert path.read_text().startswith(SHOWS[0]), "until it has a segment"
    _segment(chain, tmp_path, 2)
    assert path.read_text().startswith(SHOWS[1] + "\n")
    assert check_chain(path).segments == 1
    assert sorted(item.name for item in tmp_path.iterdir()) == ["live-1.ts", "live-2.ts", "live.segments.jsonl"]


def test_a_link_of_its_name_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text(SHOWS[0] + "\n")
    (tmp_path / "live.segments.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="there is a link"):
        _segment(SegmentChain(tmp_path / "live.m3u8", SHOWS[0]), tmp_path, 1)
    assert (tmp_path / "mine").read_text() == SHOWS[0] + "\n"


def test_the_folder_of_a_stream_writes_its_chain(tmp_path: Path) -> None:
    hls = HlsFolder(tmp_path / "live.m3u8", chain=SHOWS[0])
    for name, parts in (("live-1.ts", (b"first ", b"part")), ("live-2.ts", (b"second",)), ("live.m3u8", (b"#EXTM3U",))):
        part = hls.open(name, 2, {})
        for data in parts:
            part.write(data)
        part.close()
    hls.check()
    report = check_chain(tmp_path / "live.segments.jsonl")
    assert (report.segments, report.present, report.changed) == (2, 2, ())


def test_a_chain_that_cannot_be_written_is_an_error_of_the_stream(tmp_path: Path) -> None:
    (tmp_path / "live.segments.jsonl").mkdir()
    hls = HlsFolder(tmp_path / "live.m3u8", chain=SHOWS[0])
    hls.open("live-1.ts", 2, {}).close()
    with pytest.raises(OSError, match="Is a directory"):
        hls.check()
