"""Endurance: its checks, and the readers of its streams."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks import plots
from benchmarks.live.receiver import jpegs
from benchmarks.machine import tree_mb
from benchmarks.scenarios.endurance import judge, to_markdown
from benchmarks.scenarios.show_process import can_decode, media_ends
from streaming.live.ffmpeg_stream import FFmpegStream
from streaming.live.publisher import PublishJob
from streaming.sinks.sink import Frame
from tests.streaming.doubles import numbered

ENDS = {
    "video_end_s": 100.0,
    "audio_end_s": 100.021,
    "received": 2950,
    "recorded": 3000,
    "recorded_s": 100.0,
    "fps": 30,
}


def samples(**last: Any) -> list[dict[str, Any]]:
    """Return the samples of a show of 100 s; what was lost before the tenth second was lost in the warm-up."""
    sinks = [{"name": name, "dropped": 5, "errors": 0} for name in ("rtmp", "recording", "http")]
    common = {"late": 3, "dropped": 2, "filled": 1, "p50_ms": 8.0, "p99_ms": 12.0, "resident_mb": 400.0, "sinks": sinks}
    return [
        {"at_s": 1.0, "frames": 30, **common, "late": 0, "dropped": 0, "filled": 0, "resident_mb": 300.0},
        *({"at_s": float(at_s), "frames": 30 * at_s, **common} for at_s in range(10, 100)),
        {"at_s": 100.0, "frames": 3000, **common, **last},
    ]


def passed(checks: dict[str, dict[str, Any]]) -> dict[str, bool]:
    return {name: check["passed"] for name, check in checks.items()}


def test_losses_in_the_warm_up_do_not_count() -> None:
    checks = judge(samples(), ENDS, warm_up_s=10)
    assert passed(checks) == {"frames": True, "sound": True, "recording": True, "memory": True}
    assert checks["frames"]["what"].startswith("2,700 frames after the warm-up: 0 slots without one, 0 filled, 0 late")
    assert "+21 ms apart" in checks["sound"]["what"]
    assert passed(judge(samples(), ENDS, warm_up_s=0.5))["frames"] is False


@pytest.mark.parametrize(
    "last",
    [
        {"dropped": 3},
        {"filled": 2},
        {"sinks": [{"name": name, "dropped": 6 if name == "http" else 5, "errors": 0} for name in ["a", "b", "http"]]},
        {"sinks": [{"name": name, "dropped": 5, "errors": int(name == "b")} for name in ["a", "b", "http"]]},
    ],
)
def test_losses_after_the_warm_up_count(last: dict[str, Any]) -> None:
    assert passed(judge(samples(**last), ENDS, warm_up_s=10))["frames"] is False


def test_sound_that_lags_a_hole_in_the_file_and_memory_that_grows() -> None:
    assert passed(judge(samples(), {**ENDS, "audio_end_s": 99.95}, warm_up_s=10))["sound"] is False
    assert passed(judge(samples(), {**ENDS, "recorded": 2998}, warm_up_s=10))["recording"] is False
    growing = [{**sample, "resident_mb": 400.0 + sample["at_s"] / 10} for sample in samples()]
    assert passed(judge(growing, ENDS, warm_up_s=10))["memory"] is False
    unknown = [{**sample, "resident_mb": None} for sample in samples()]
    assert "memory" not in judge(unknown, ENDS, warm_up_s=10)


def test_a_table_and_a_picture(tmp_path: Path) -> None:
    checks = judge(samples(), ENDS, warm_up_s=10)
    result = {"bundle": "a", "seconds": 100, "fps": 30, "checks": checks, "samples": samples()}
    assert to_markdown(result).count("| held |") == 4
    assert "**failed**" in to_markdown({**result, "checks": judge(samples(dropped=9), ENDS, warm_up_s=10)})
    plots.endurance(result, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 1000


def test_a_show_without_a_recording_is_judged_without_it() -> None:
    ends = {key: value for key, value in ENDS.items() if not key.startswith("recorded")}
    assert passed(judge(samples(), ends, warm_up_s=10)) == {"frames": True, "sound": True, "memory": True}


def test_the_ends_of_a_stream(tmp_path: Path) -> None:
    stream = FFmpegStream(PublishJob(str(tmp_path / "a.mkv"), "matroska", 64, 48, "30", "aac"))
    for slot in range(60):
        stream.send(Frame(numbered(slot % 55), slot))
    stream.close()
    found = media_ends(str(tmp_path / "a.mkv"))
    assert found["video"]["packets"] == 60
    assert found["video"]["end_s"] == pytest.approx(2.0, abs=0.002)
    assert found["audio"]["end_s"] == pytest.approx(2.0, abs=0.06)
    assert can_decode(str(tmp_path / "a.mkv"))


def test_a_reader_that_finds_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert media_ends(str(tmp_path / "none.mkv")) == {}
    assert "none.mkv ended by" in capsys.readouterr().err
    assert not can_decode(str(tmp_path / "none.mkv"))


def test_pictures_are_counted_and_the_memory_of_children_is_added() -> None:
    body = b"--b\r\n" + b"".join(
        b"Content-Type: image/jpeg\r\nContent-Length: 3\r\n\r\nxyz\r\n--b\r\n" for _ in range(4)
    )
    assert list(jpegs(io.BytesIO(body))) == [b"xyz"] * 4
    alone = tree_mb(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1) as child:
        assert child.stdout is not None
        child.stdout.readline()
        both = tree_mb(os.getpid())
        child.communicate(b"\n")
    assert (alone is None) == (both is None)
    assert alone is None or (both is not None and both > alone)


@pytest.mark.parametrize("words", [["--seconds", "60", "--warm-up", "60"], ["--fps", "0"], ["--switch-every", "-1"]])
def test_invalid_numbers_are_refused(words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("benchmarks.scenarios.endurance.check_server", lambda: None)
    assert command.main(["endurance", "bundles/satellite", *words]) == 2
    assert capsys.readouterr().err.startswith("benchmarks: --warm-up must be at least 1")
