"""Encoders: their choice, the error messages, and that no encoder delays frames."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import pytest

from streaming.live import encoders
from streaming.live.encoders import ENCODERS, H264Encoder, choose, why_not
from streaming.live.ffmpeg_stream import find_encoder
from streaming.live.h264 import open_video, to_video_frame
from streaming.live.publisher import PublishJob
from streaming.sinks.sink import Frame
from tests.streaming.doubles import card_error, colour_card, feed, to_i420

SIZE = (64, 48, Fraction(30))
ROOT = Path(__file__).resolve().parents[3]


def test_the_first_encoder_that_works_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def pretend(encoder: H264Encoder, *_size: object) -> str | None:
        asked.append(encoder.codec)
        return None if encoder.codec == "h264_qsv" else "no such card"

    monkeypatch.setattr(encoders, "why_not", pretend)
    assert choose("auto", *SIZE) == "qsv"
    assert asked == ["h264_nvenc", "h264_videotoolbox", "h264_qsv"]
    assert choose("qsv", *SIZE) == "qsv"
    with pytest.raises(ValueError, match=r"--encoder nvenc does not work here \(no such card\): omit --encoder"):
        choose("nvenc", *SIZE)


def test_the_processor_is_the_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "why_not", lambda *_: "no card at all")
    assert choose("auto", *SIZE) == "x264"
    assert choose("x264", *SIZE) == "x264"


def test_trying_an_encoder_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    level = av.logging.get_level()
    for encoder in ENCODERS.values():
        reason = why_not(encoder, *SIZE)
        assert reason is None or (reason and "\n" not in reason)
    assert why_not(ENCODERS["x264"], *SIZE) is None
    assert why_not(H264Encoder("h264_of_nobody", "", {}, {}), *SIZE) == "this FFmpeg was built without it"
    assert why_not(H264Encoder("libx264", "", {"tune": "film", "rc-lookahead": "40"}, {}), *SIZE) == "it delays frames"
    assert why_not(ENCODERS["x264"], 63, 48, Fraction(30)) is not None
    assert capfd.readouterr() == ("", "")
    assert av.logging.get_level() == level


def test_a_card_that_is_taken_is_replaced_by_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    job = PublishJob("rtmp://h/a/k", "flv", 64, 48, "30", encoder="nvenc")
    monkeypatch.setattr("streaming.live.ffmpeg_stream.why_not", lambda *_: "OpenEncodeSessionEx failed: out of memory")
    assert find_encoder(job) is ENCODERS["x264"]
    monkeypatch.setattr("streaming.live.ffmpeg_stream.why_not", lambda *_: None)
    assert find_encoder(job) is ENCODERS["nvenc"]


def test_profiles_and_constant_rates() -> None:
    options = ENCODERS["amf"].live_options("baseline", 3_000_000, is_constant=True)
    assert (options["profile"], options["filler_data"], options["b"], options["bf"]) == (
        "constrained_baseline",
        "1",
        "3000000",
        "0",
    )
    assert "filler_data" not in ENCODERS["amf"].live_options("main", 1, is_constant=False)
    assert ENCODERS["x264"].live_options("main", 1, is_constant=True)["x264-params"] == "chromaloc=1:nal-hrd=cbr"


@pytest.mark.parametrize("pixels", ["yuv420p", "nv12"])
def test_a_frame_comes_out_for_each_that_goes_in(pixels: str) -> None:
    encoder = H264Encoder("libx264", "", ENCODERS["x264"].live, {}, pixels)
    about = feed(128, 96)
    context = open_video(about, encoder, encoder.live_options("high", 2_000_000, is_constant=False))
    decoder = av.CodecContext.create("h264", "r")
    picture = to_i420(colour_card(128, 96))
    shown = []
    for slot in range(20):
        video = to_video_frame(Frame(picture, slot), about, slot, pixels=pixels, is_key=slot == 10)
        (packet,) = context.encode(video)
        assert packet.is_keyframe == (slot in (0, 10))
        if slot == 10:  # whoever comes now can begin here
            decoder = av.CodecContext.create("h264", "r")
            shown.clear()
        shown += decoder.decode(packet)
    shown += decoder.decode(None)
    assert len(shown) == 10
    assert {(frame.colorspace, frame.color_range) for frame in shown} == {(1, 1)}  # BT.709, limited
    assert card_error(shown[-1].to_ndarray(format="rgb24")) <= 12


def test_the_log_names_the_encoder_and_a_wrong_one_costs_status_2(tmp_path: Path, bundle: Path) -> None:
    command = [sys.executable, "-m", "streaming", str(bundle), "--engine", "onnxruntime", "--seconds", "0.2"]

    def play(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    done = play("--to", str(tmp_path / "a.mp4"), "--encoder", "x264")
    assert done.returncode == 0, done.stderr
    assert "H.264 by libx264, on the CPU" in done.stderr
    assert "H.264" not in play("--to", "null").stderr
    name = "videotoolbox" if sys.platform == "linux" else "amf"
    done = play("--to", str(tmp_path / "b.mp4"), "--encoder", name)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --encoder {name} does not work here (")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
