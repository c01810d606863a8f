"""What the child process makes of frames, read back by an ordinary decoder."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest

from streaming.live.ffmpeg_stream import FFmpegStream
from streaming.live.hls_stream import HlsStream
from streaming.live.publisher import PublishJob, from_message, to_message
from streaming.process.child import encode
from streaming.sinks.sink import Frame
from tests.streaming.doubles import WAIT_S, card_error, closed_port, colour_card, decode, number_of, numbered, to_i420

ROOT = Path(__file__).parents[3]


def job(url: Path | str, fps: Fraction | int = 25, **others: object) -> PublishJob:
    return PublishJob(str(url), "flv", 64, 48, str(fps), **{"audio": "aac", **others})  # type: ignore[arg-type]


def record(path: Path, slots: list[int], fps: Fraction | int = 25) -> Path:
    """Publish one numbered frame per slot to a file."""
    stream = FFmpegStream(job(path, fps))
    for number, slot in enumerate(slots):
        stream.send(Frame(numbered(number % 55), slot))
    stream.close()
    return path


class Packet(NamedTuple):
    """What a packet says of itself."""

    is_video: bool
    is_key: bool
    time_s: float
    delay_s: float  # from decoding to showing


def packets(path: Path) -> list[Packet]:
    """Read the packets of a file as they stand in it."""
    with av.open(str(path)) as container:
        return [
            Packet(
                packet.stream.type == "video",
                packet.is_keyframe,
                float(packet.pts * packet.time_base),
                float((packet.pts - packet.dts) * packet.time_base),
            )
            for packet in container.demux()
            if packet.size
        ]


def test_frames_come_back_in_order_on_time_and_with_sound(tmp_path: Path) -> None:
    frames, num_audio = decode(record(tmp_path / "a.flv", list(range(50)), Fraction(30000, 1001)))
    assert [number_of(frame.to_ndarray()[:48]) for frame in frames] == list(range(50))
    times = [float(frame.time) for frame in frames]
    assert times == pytest.approx([k * 1001 / 30000 for k in range(50)], abs=0.001)
    assert num_audio * 1024 / 48000 >= times[-1]
    assert (frames[0].colorspace, frames[0].color_range) == (1, 1)  # BT.709, limited


def heard(path: Path) -> tuple[np.ndarray, float]:
    """Return the decoded sound of a file, one side of it, and when it begins in seconds."""
    parts, begins_s = [], None
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            begins_s = frame.time if begins_s is None else begins_s
            parts.append(frame.to_ndarray()[0])
    assert begins_s is not None
    return np.concatenate(parts), float(begins_s)


@pytest.mark.parametrize(("name", "muxer"), [("a.flv", "flv"), ("a.ts", "mpegts"), ("a.m3u8", "hls")])
def test_sound_is_heard_when_its_picture_is_seen(tmp_path: Path, name: str, muxer: str) -> None:
    kind = HlsStream if muxer == "hls" else FFmpegStream
    stream = kind(PublishJob(str(tmp_path / name), muxer, 64, 48, "25", "aac", has_sound=True))
    click = np.zeros((1920, 2), np.int16)
    click[:96] = 20_000
    for slot in range(75):
        is_marked = slot % 25 == 12
        stream.send(Frame(numbered(50 if is_marked else 5), slot), click if is_marked else np.zeros_like(click))
    stream.close()
    frames, _ = decode(tmp_path / name)
    flashes = [float(frame.time) for frame in frames if number_of(frame.to_ndarray()[:48]) > 30]
    wave, begins_s = heard(tmp_path / name)
    loud = np.flatnonzero(np.abs(wave) > 0.2) / 48_000 + begins_s
    clicks = loud[np.diff(loud, prepend=-1) > 0.5]
    assert len(flashes) == 3
    assert clicks.tolist() == pytest.approx(flashes, abs=0.025)  # the muxers hide at most one packet of the encoder


def test_the_audio_track_goes_on_when_the_sound_is_late(tmp_path: Path) -> None:
    stream = FFmpegStream(job(tmp_path / "a.flv", has_sound=True))
    nothing = np.zeros((0, 2), np.int16)
    for slot in range(50):
        stream.send(Frame(numbered(slot), slot), np.zeros((19_200, 2), np.int16) if slot % 10 == 9 else nothing)
    stream.close()
    frames, num_audio = decode(tmp_path / "a.flv")
    assert [number_of(frame.to_ndarray()[:48]) for frame in frames] == list(range(50))
    assert num_audio * 1024 / 48_000 == pytest.approx(2.0, abs=0.05)


def test_a_message_holds_a_frame_and_its_sound() -> None:
    sound = np.arange(20, dtype=np.int16).reshape(10, 2)
    for given in (sound, None, sound[:0]):
        fields, *data = to_message(Frame(numbered(7), 3), given)
        frame, samples = from_message(fields, b"".join(data), (72, 64))
        assert (frame.slot, number_of(frame.picture[:48])) == (3, 7)
        assert samples.tolist() == ([] if given is None else given.tolist())


@pytest.mark.parametrize(("name", "muxer"), [("a.flv", "flv"), ("a.ts", "mpegts"), ("a.m3u8", "hls")])
@pytest.mark.parametrize("profile", ["baseline", "main", "high"])
def test_colours_are_tagged_and_survive(tmp_path: Path, name: str, muxer: str, profile: str) -> None:
    kind = HlsStream if muxer == "hls" else FFmpegStream
    stream = kind(PublishJob(str(tmp_path / name), muxer, 128, 96, "30", "aac", profile=profile))
    for slot in range(30):
        stream.send(Frame(to_i420(colour_card(128, 96)), slot))
    stream.close()
    frames, _ = decode(tmp_path / name)
    assert len(frames) == 30
    tags = {(frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) for frame in frames}
    assert tags == {(1, 1, 1, 1)}  # BT.709 (ITU-T H.273), limited
    rgb = frames[-1].to_ndarray(format="rgb24", src_colorspace="ITU709", src_color_range="MPEG", dst_color_range="JPEG")
    assert card_error(rgb) <= 12


def test_the_sound_is_stereo_and_silent(tmp_path: Path) -> None:
    with av.open(str(record(tmp_path / "a.flv", list(range(25))))) as container:
        (stream,) = container.streams.audio
        assert (stream.codec_context.name, stream.sample_rate, stream.layout.name) == ("aac", 48000, "stereo")
        sounds = [frame.to_ndarray() for frame in container.decode(stream)]
    assert len(sounds) > 40
    assert max(abs(sound).max() for sound in sounds) < 1e-4


def test_a_stream_begins_with_a_key_frame_at_time_0_whenever_it_begins(tmp_path: Path) -> None:
    found = packets(record(tmp_path / "a.flv", [1000, 1001]))
    first = next(packet for packet in found if packet.is_video)
    assert first.is_key
    assert first.time_s == 0
    assert min(packet.time_s for packet in found) == 0


def test_no_frame_is_held_back_or_reordered(tmp_path: Path) -> None:
    stream = FFmpegStream(job(tmp_path / "a.flv"))
    for number in range(30):
        stream.send(Frame(numbered(number), number))
        pictures = [packet for packet in packets(tmp_path / "a.flv") if packet.is_video]
        assert [packet.time_s for packet in pictures] == pytest.approx([k * 0.04 for k in range(number + 1)])
        assert all(packet.delay_s == 0 for packet in pictures)  # no B-frames
    stream.close()


def test_key_frames_keep_to_the_clock_even_when_slots_are_dropped(tmp_path: Path) -> None:
    slots = [*range(30), *range(60, 130, 3)]  # 25 per second; a gap, then a third of the frames
    found = packets(record(tmp_path / "a.flv", slots))
    keys = [round(packet.time_s * 25) for packet in found if packet.is_video and packet.is_key]
    assert keys == [0, 60, 111]


def test_sound_and_picture_are_interleaved(tmp_path: Path) -> None:
    found = packets(record(tmp_path / "a.flv", list(range(100))))
    times = [packet.time_s for packet in found]
    assert times == sorted(times)
    sounds = [packet.time_s for packet in found if not packet.is_video]
    assert max(b - a for a, b in pairwise(sounds)) <= 0.0221  # 1024 / 48000 s, rounded to milliseconds


def test_another_muxer_without_sound(tmp_path: Path) -> None:
    stream = FFmpegStream(PublishJob(str(tmp_path / "a.ts"), "mpegts", 64, 48, "25"))
    for number in range(30):
        stream.send(Frame(numbered(number), number))
    stream.close()
    frames, num_audio = decode(tmp_path / "a.ts")
    assert [number_of(frame.to_ndarray()[:48]) for frame in frames] == list(range(30))
    assert num_audio == 0


def test_names_and_options_survive_the_quoting(tmp_path: Path) -> None:
    path, brand = tmp_path / "a'b|c:d]e [f=flv] \\ ü.mp4", "':|]"
    stream = FFmpegStream(PublishJob(str(path), "mp4", 64, 48, "25", options={"brand": brand}))
    stream.send(Frame(numbered(1), 0))
    stream.close()
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    with av.open(str(path)) as container:
        assert container.metadata["major_brand"] == brand


def test_an_option_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(av.FFmpegError):
        FFmpegStream(job(tmp_path / "a.flv", options={"no_such_option": "1"}))


def test_it_says_what_happens_tries_again_and_ends_with_its_input(tmp_path: Path) -> None:
    refused = PublishJob(f"rtmp://127.0.0.1:{closed_port()}/live/SECRET", "flv", 64, 48, "25", "aac")
    pictures = [numbered(slot).tobytes() for slot in range(20)]
    frames = b"".join(encode({"slot": slot}, picture) + picture for slot, picture in enumerate(pictures))
    torn = frames[:1000]
    jobs = encode(asdict(refused)) + encode(asdict(job(tmp_path / "a.flv")))
    done = subprocess.run(
        [sys.executable, "-m", "streaming.live.publisher_child"],
        cwd=ROOT,
        input=jobs + frames + torn,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    ready, error, on_air, end = map(json.loads, done.stdout.splitlines())
    assert (ready, error, on_air) == (
        {"state": "ready"},
        {"error": "Connection refused"},
        {"state": "on air", "sent": 0},
    )
    assert end["sent"] > 0
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(decode(tmp_path / "a.flv")[0]) == 20
    assert "SECRET" not in repr(refused)
