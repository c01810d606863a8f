"""Whole shows that are played from outside."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pythonosc.osc_message_builder import OscMessageBuilder

from runtime import Generator
from streaming import Frame, Sink, StreamFormat, stream
from streaming.arguments import parse
from streaming.commandline import main
from streaming.control.controller import ShowController
from streaming.errors import ClosedError
from streaming.instrument.instrument import Instrument
from streaming.sound.levels import LevelFollower
from tests.streaming.doubles import WAIT_S
from tests.streaming.instrument import fake_midi

ROOT = Path(__file__).parents[3]


class PlayingSink(Sink):
    """Sends an OSC message at each frame until the show has done what it says, then closes."""

    name = "playing"

    def __init__(self, port: int) -> None:
        self._place = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.stats: dict[str, Any] = {}
        self.threads: set[str] = set()

    def open(self, stream_format: StreamFormat) -> None:
        self._format = stream_format

    def write(self, frame: Frame) -> bool:
        assert self._format.controller is not None
        controls = {item["name"]: item["value"] for item in self._format.controller.state()["controls"]}
        if controls["sway"] == 2.5:
            self.stats = dict(self._format.stats())
            self.threads = {thread.name for thread in threading.enumerate()}
            raise ClosedError
        builder = OscMessageBuilder(address="/everframe/control/sway")
        builder.add_arg(2.5)
        self._socket.sendto(builder.build().dgram, self._place)
        return True

    def close(self) -> None:
        self._socket.close()


def left_threads() -> list[str]:
    """Return the names of our threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("OSC", "performer"))]


def free_port() -> int:
    """Return a free UDP port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_a_show_is_played_by_osc(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = free_port()
    sink = PlayingSink(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(WAIT_S)
        out = f"127.0.0.1:{receiver.getsockname()[1]}"
        assert stream(bundle, to=[sink], seconds=WAIT_S, engine="onnxruntime", osc=port, osc_out=out) == 0
        assert receiver.recv(65536).startswith(b"/everframe/state/control/")
    assert sink.stats["osc"]["messages"] >= 1
    assert sink.stats["osc"]["errors"] == 0
    assert {f"OSC 127.0.0.1:{port}", f"OSC to {out}", "performer"} <= sink.threads
    lines = capsys.readouterr().err.splitlines()
    assert f"OSC at 127.0.0.1:{port}" in lines
    assert f"OSC to {out}" in lines
    assert left_threads() == []


def test_a_show_without_these_options_needs_no_package(bundle: Path) -> None:
    code = (
        "import sys\n"
        "from streaming import stream\n"
        f"assert stream({str(bundle)!r}, to=['null'], seconds=0.1, engine='onnxruntime') == 0\n"
        "sys.exit(', '.join({'pythonosc', 'mido'} & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=4 * WAIT_S, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--osc", "PORT"], "error: --osc 127.0.0.1:PORT cannot be used: port PORT is in use; stop what uses it or"),
        (["--osc-out", "a..b:9000"], "error: --osc-out a..b:9000 cannot be used: there is no host 'a..b'; write its"),
        (["--map", "sway=audio.bass"], "error: --map sway=audio.bass needs a sound: add --sound mic, a file, or input"),
        (["--map", "sway=audio.bas"], "the source is one of audio.level, audio.bass"),
        (["--midi", "faders"], "error: --midi PORT and --midi-map FILE belong together: add the other one"),
        (["--midi-map", "a.toml"], "error: --midi PORT and --midi-map FILE belong together"),
        (["--midi", "keys", "--midi-map", "MAP"], "error: --midi: there is no MIDI input 'keys'; there are: Pads"),
        (["--midi", "faders", "--midi-map", "MAP"], 'error: --midi-map: there is no control "motion"'),
    ],
)
def test_what_cannot_be_played_is_one_sentence(
    bundle: Path,
    words: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MIDO_BACKEND", fake_midi.__name__)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = str(other.getsockname()[1])
        given = {"PORT": port, "MAP": str(ROOT / "examples" / "midi-map.toml")}
        words = [given.get(word, word) for word in words]
        assert main([str(bundle), "--to", "null", "--engine", "onnxruntime", *words]) == 2
        error = capsys.readouterr().err
    assert sentence.replace("PORT is in", f"{port} is in").replace(":PORT ", f":{port} ") in error
    assert error.count("\n") == 1
    assert left_threads() == []


def test_the_sound_moves_a_control_and_the_state_says_so(controller: ShowController, generator: Generator) -> None:
    follower = LevelFollower()
    instrument = Instrument(parse(["--map", "gain=audio.level:0.5..1.5"]), controller, dict)
    assert instrument.open() == []
    with instrument.playing(follower.values):
        mapped = {control["name"]: control["mapped"] for control in controller.state()["controls"]}
        assert mapped == {"gain": "audio.level", "drift": None, "seed": None}
        controller.play(Fraction(0))
        assert generator.controls["gain"] == 0.5
        follower.feed(np.random.default_rng(1).integers(-20_000, 20_000, (1600, 2), np.int16))
        controller.play(Fraction(1, 30))
        assert generator.controls["gain"] > 1.4
    assert instrument.stats() == {}


def test_options_are_read() -> None:
    options = parse(["--osc", "0.0.0.0:9000", "--osc-out", "9001", "--midi", "pads", "--midi-map", "a.toml"])
    assert (str(options.osc), str(options.osc_out)) == ("0.0.0.0:9000", "127.0.0.1:9001")
    assert (options.midi, options.midi_map, options.map) == ("pads", "a.toml", [])


def test_another_host_is_warned_of(controller: ShowController) -> None:
    instrument = Instrument(parse(["--osc", "0.0.0.0:0"]), controller, dict)
    [line] = instrument.open()
    instrument.close()
    assert line.startswith("OSC at 0.0.0.0:")
    assert line.endswith("whoever can send to this address controls the show, there is no password")
