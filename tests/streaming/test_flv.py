"""FLV tags: put into a file and read by a decoder that knows nothing of us."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from streaming.flv import FlvEncoder, Tag
from streaming.rtmp_chunks import AUDIO, DATA, VIDEO
from streaming.sink import Frame
from tests.streaming.doubles import decode, feed, number_of, numbered


def encode(slots: list[int], fps: Fraction | int = 25) -> list[list[Tag]]:
    """Encode one numbered frame per slot; return the tags of each."""
    encoder = FlvEncoder(feed(fps=fps))
    return [encoder.encode(Frame(numbered(number % 55), slot)) for number, slot in enumerate(slots)]


def to_file(tags: list[Tag], path: Path) -> Path:
    """Write tags as a file (Adobe Flash Video File Format 10.1, annex E.3)."""
    data = b"FLV\x01\x05\x00\x00\x00\x09" + bytes(4)
    for tag in tags:
        stamp = struct.pack(">L", tag.timestamp_ms)
        data += bytes([tag.kind]) + struct.pack(">L", len(tag.payload))[1:] + stamp[1:] + stamp[:1] + bytes(3)
        data += tag.payload + struct.pack(">L", 11 + len(tag.payload))
    path.write_bytes(data)
    return path


def is_key(tag: Tag) -> bool:
    return tag.kind == VIDEO and tag.payload[0] >> 4 == 1


def test_frames_come_back_in_order_on_time_and_with_sound(tmp_path: Path) -> None:
    tags = [tag for part in encode(list(range(50)), Fraction(30000, 1001)) for tag in part]
    frames, num_audio = decode(to_file(tags, tmp_path / "a.flv"))
    assert [number_of(frame.to_ndarray()[:48]) for frame in frames] == list(range(50))
    times = [float(frame.time) for frame in frames]
    assert times == pytest.approx([k * 1001 / 30000 for k in range(50)], abs=0.001)
    assert num_audio * 1024 / 48000 >= times[-1]
    assert (frames[0].colorspace, frames[0].color_range) == (1, 1)


def test_the_sound_is_stereo_and_silent(tmp_path: Path) -> None:
    path = to_file([tag for part in encode(list(range(25))) for tag in part], tmp_path / "a.flv")
    with av.open(str(path)) as container:
        (stream,) = container.streams.audio
        assert (stream.codec_context.name, stream.sample_rate, stream.layout.name) == ("aac", 48000, "stereo")
        sounds = [frame.to_ndarray() for frame in container.decode(stream)]
    assert len(sounds) > 40
    assert max(abs(sound).max() for sound in sounds) < 1e-4


def test_a_stream_begins_with_headers_and_a_key_frame_at_time_0_whenever_it_begins() -> None:
    first = encode([1000, 1001])[0]
    assert [tag.kind for tag in first[:3]] == [DATA, VIDEO, AUDIO]
    assert first[0].payload[3:13] == b"onMetaData"
    assert [tag.payload[1] for tag in first[1:3]] == [0, 0]  # both decoders' configuration
    pictures = [tag for tag in first if tag.kind == VIDEO and tag.payload[1] == 1]
    assert len(pictures) == 1  # nothing is held back
    assert is_key(pictures[0])
    assert {tag.timestamp_ms for tag in first} == {0}


def test_no_frame_is_held_back_or_reordered() -> None:
    for number, tags in enumerate(encode(list(range(60)))):
        pictures = [tag for tag in tags if tag.kind == VIDEO and tag.payload[1] == 1]
        assert [tag.timestamp_ms for tag in pictures] == [number * 40]
        assert pictures[0].payload[2:5] == b"\0\0\0"  # composition time: no B-frames


def test_key_frames_keep_to_the_clock_even_when_slots_are_dropped() -> None:
    slots = [*range(30), *range(60, 130, 3)]  # 25 per second; a gap, then a third of the frames
    keys = [tag.timestamp_ms // 40 for part in encode(slots) for tag in part if is_key(tag) and tag.payload[1] == 1]
    assert keys == [0, 60, 111]


def test_sound_and_picture_are_interleaved() -> None:
    tags = [tag for part in encode(list(range(100))) for tag in part if tag.kind != DATA]
    stamps = [tag.timestamp_ms for tag in tags]
    assert stamps == sorted(stamps)
    sounds = [tag.timestamp_ms for tag in tags if tag.kind == AUDIO][1:]
    assert max(b - a for a, b in pairwise(sounds)) <= 22  # 1024 / 48000 s
