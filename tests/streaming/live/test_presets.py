"""The services' rules, and a real stream that follows them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from streaming.live.ffmpeg_stream import FFmpegStream
from streaming.live.presets import PRESETS
from streaming.live.publisher import PublishJob
from streaming.sinks.rtmp_sink import RtmpSink
from streaming.sinks.sink import Frame
from tests.streaming.doubles import feed


@pytest.mark.parametrize(
    ("name", "height", "fps", "kbits"),
    [
        ("twitch", 256, Fraction(30), 3000), ("twitch", 720, Fraction(60), 4500), ("twitch", 1080, Fraction(60), 6000),
        ("twitch", 2160, Fraction(60), 6000), ("youtube", 240, Fraction(24), 4000),
        ("youtube", 1080, Fraction(30), 10_000), ("youtube", 1080, Fraction(60000, 1001), 12_000),
    ],
)  # fmt: skip
def test_rates(name: str, height: int, fps: Fraction, kbits: int) -> None:
    assert PRESETS[name].bitrate(height, fps) == 1000 * kbits


def test_a_live_sink_takes_the_rules_of_its_feed() -> None:
    sink = RtmpSink("rtmp://live.example.com/app/KEY")
    sink.open(replace(feed(fps=30), preset="twitch"))
    assert (sink._job.bitrate, sink._job.audio_bitrate, sink._job.profile) == (3_000_000, 128_000, "main")
    sink.open(feed(fps=30))
    assert (sink._job.bitrate, sink._job.audio_bitrate, sink._job.profile) == (None, None, "high")


def test_a_stream_keeps_its_rate_and_its_key_frames(tmp_path: Path) -> None:
    path = tmp_path / "stream.flv"
    rules = PRESETS["twitch"]
    job = PublishJob(str(path), "flv", 64, 48, "30", "aac", {}, rules.profile, 400_000, 1000 * rules.audio_kbits)
    stream = FFmpegStream(job)
    rng = np.random.default_rng(0)
    picture = np.full((72, 64), 128, np.uint8)
    for slot in range(210):
        if slot > 120:  # two seconds of nothing at all, which a variable rate would spend nothing on
            picture[:] = rng.integers(16, 235, picture.shape)
        stream.send(Frame(picture, slot))
    stream.close()
    sizes, keys = [0, 0, 0], []
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.profile == "Main"
        for packet in container.demux(video=0):
            if packet.pts is not None and packet.size:
                second = int(packet.pts * packet.time_base) // 2
                sizes[min(second, 2)] += packet.size
                keys += [round(float(packet.pts * packet.time_base), 2)] * packet.is_keyframe
    assert keys == [0, 2, 4, 6]
    assert 8 * sizes[1] / 2 == pytest.approx(400_000, rel=0.15), "a still picture is filled up to the rate"
