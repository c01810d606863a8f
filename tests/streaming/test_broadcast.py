"""The Python API: `from streaming import stream`."""

from __future__ import annotations

import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import streaming
from runtime import BundleError, EngineError
from streaming import Frame, Sink, SinkError, StreamFormat, stream
from streaming.control.cues import Cue
from tests.streaming.doubles import WAIT_S, ScriptedSink, decode

ROOT = Path(__file__).parents[2]


class CountingSink(Sink):
    """Keeps the slots of its frames."""

    name = "counting"

    def open(self, stream_format: StreamFormat) -> None:
        self.format = stream_format
        self.slots: list[int] = []

    def write(self, frame: Frame) -> bool:
        self.slots.append(frame.slot)
        return True

    def close(self) -> None:
        self.is_closed = True


def test_sinks_of_both_kinds_get_the_show(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sink = CountingSink()
    path = tmp_path / "show.mkv"
    assert stream(bundle, to=[path, sink], seconds=0.5, engine="onnxruntime", control={"sway": 2}) == 0
    assert sink.is_closed
    assert (sink.format.title, sink.format.width, sink.format.encoder) == ("tiny", 64, "x264")
    assert sink.slots[0] == 0
    assert sink.slots[-1] <= 14
    assert len(decode(path)[0]) >= 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.splitlines()[0] == "tiny: 64 x 48, 30 fps, onnxruntime fp32"


def test_verbose_prints_why_the_engine_was_chosen(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stream(bundle, to=[CountingSink()], seconds=0.1, engine="onnxruntime", verbose=True) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "tiny: 64 x 48, 30 fps, onnxruntime fp32"
    assert "fp32" in lines[1]
    assert lines[2] == "on air: counting. Ctrl-C ends the show."


def test_options_are_those_of_the_command_line(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr("streaming.broadcast.run_show", lambda options, *_: seen.append(options) or 0)
    options: dict[str, Any] = {"fps": Fraction(30000, 1001), "text": "--help", "cue": ["1:text=storm", "2:sway=1"]}
    stream(bundle, to=["null"], control={"sway": -1.5, "gain": 1}, trust_engines=True, image=None, seed=7, **options)
    [parsed] = seen
    assert (parsed.bundle, parsed.to, parsed.seconds) == (str(bundle), ["null"], None)
    assert (parsed.fps, parsed.text, parsed.image, parsed.seed) == (Fraction(30000, 1001), "--help", None, 7)
    assert parsed.control == [("sway", -1.5), ("gain", 1.0)]
    assert parsed.cue == [Cue(Fraction(1), "text", "storm"), Cue(Fraction(2), "sway", 1.0)]
    assert (parsed.trust_engines, parsed.verbose, parsed.engine) == (True, False, "auto")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": []}, r"to must be a list of sinks with at least one, e.g. \[\"clip.mp4\"\], got \[\]"),
        ({"to": "null"}, "to must be a list of sinks with at least one"),
        ({"sed": 7}, "unrecognized arguments: --sed=7"),
        ({"help": True}, "stream takes no option 'help'"),
        ({"seed": 1.5}, "--seed: got '1.5', expected a whole number"),
        ({"seconds": -1}, "--seconds: got '-1', expected a number above 0"),
        ({"control": {"sway": "much"}}, "--control: got 'sway=much'"),
        ({"control": {"swai": 1}}, 'there is no control "swai"'),
    ],
)
def test_a_bad_option_is_a_value_error(bundle: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stream(bundle, **{"to": ["null"], **options})


def test_other_errors_keep_their_types(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        stream(tmp_path / "nothing", to=["null"])
    with pytest.raises(SinkError, match='there is no sink "webcm"'):
        stream(bundle, to=["webcm"])
    broken = ScriptedSink("broken", {"open": SinkError("it cannot be opened")})
    with pytest.raises(SinkError, match="it cannot be opened"):
        stream(bundle, to=[broken])
    with pytest.raises(EngineError):
        stream(bundle, to=["null"], engine="tensorrt")


def test_the_camera_of_the_page_needs_a_page(bundle: Path) -> None:
    with pytest.raises(ValueError, match="--input page is the camera of a browser on the page: add --to http://"):
        stream(bundle, to=["null"], input="page")


def test_the_status_tells_that_no_sink_is_left(bundle: Path) -> None:
    assert stream(bundle, to=[ScriptedSink("broken", {"write": SinkError("it failed")})], engine="onnxruntime") == 1


def test_it_runs_on_any_thread(bundle: Path) -> None:
    results: list[int] = []
    thread = threading.Thread(target=lambda: results.append(stream(bundle, to=["null"], seconds=0.1)))
    thread.start()
    thread.join(WAIT_S)
    assert results == [0]


def test_importing_is_cheap_and_names_are_found() -> None:
    assert all(getattr(streaming, name) is not None for name in streaming.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'streem'"):
        _ = streaming.streem
    code = (
        "import sys, streaming\n"
        "heavy = {'numpy', 'av', 'argparse', 'runtime', 'streaming.broadcast', 'importlib.metadata'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
