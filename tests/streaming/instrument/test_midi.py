"""MIDI in, through a backend of mido that the tests bring along, and the files of mappings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import mido
import pytest

from runtime import Generator
from runtime.bundle.reader import read_manifest
from streaming.control.controller import ShowController
from streaming.instrument.midi import MidiInput
from streaming.instrument.midi_map import MidiRow, read_midi_map
from streaming.instrument.performer import Performer
from tests.streaming.control.test_controller import Waiting
from tests.streaming.instrument import fake_midi
from tests.streaming.instrument.doubles import RecordingPerformer, wait_until

ROOT = Path(__file__).parents[3]
BACKEND = "tests.streaming.instrument.fake_midi"
ROWS = [
    MidiRow(1, 1, "gain", (0.5, 1.5)),
    MidiRow(2, None, "drift", (4.0, 0.0)),
    MidiRow(36, None, action="prompt", values={"seed": 5, "dissolve_s": 0.0}),
    MidiRow(36, 10, action="take_next", values={}),
    MidiRow(38, 2, action="take", values={"cue": 9}),
]


def make(performer: Performer, rows: list[MidiRow] = ROWS, port: str = "faders") -> MidiInput:
    """Return an input of the fake backend."""
    return MidiInput(port, rows, performer, mido.Backend(BACKEND))


@pytest.fixture
def midi(performer: Performer, controller: ShowController) -> Iterator[MidiInput]:
    """An open input before a real show."""
    midi = make(performer)
    midi.start(controller)
    yield midi
    midi.close()


def play(kind: str, **values: int) -> None:
    """Let the device send a message."""
    fake_midi.opened[-1].callback(mido.Message(kind, **values))


def test_a_controller_moves_its_control(
    midi: MidiInput, controller: ShowController, generator: Generator, performer: Performer
) -> None:
    assert midi.name == "Faders:Faders MIDI 1 24:0"
    for value, expected in ((0, 0.5), (127, 1.5)):
        play("control_change", channel=0, control=1, value=value)
        performer.apply()
        assert generator.controls["gain"] == pytest.approx(expected)
    play("control_change", channel=1, control=1, value=0)  # another channel
    play("control_change", channel=7, control=2, value=127)  # any channel
    play("control_change", channel=0, control=3, value=127)  # nothing
    performer.apply()
    assert generator.controls == {"gain": 1.5, "drift": 0.0, "seed": 0.0}
    assert midi.count.to_json() == {"messages": 5, "errors": 0, "last_error": ""}
    mapped = {control["name"]: control["mapped"] for control in controller.state()["controls"]}
    assert mapped == {"gain": "midi.cc1", "drift": "midi.cc2", "seed": None}


def test_a_note_does_something_when_it_begins(midi: MidiInput, controller: ShowController) -> None:
    waiting = Waiting(controller)
    play("note_on", note=36, velocity=0)
    play("note_off", note=36)
    play("clock")
    play("note_on", note=36, velocity=90)
    cues = waiting.until(lambda cues: [cue["state"] for cue in cues] == ["on air"])
    assert cues[0]["label"] == "seed 5"
    assert midi.count.to_json()["messages"] == 1


def test_every_row_of_a_note_is_performed() -> None:
    recording = RecordingPerformer()
    midi = make(cast(Performer, recording))
    midi._receive(mido.Message("note_on", channel=9, note=36, velocity=1))
    midi._receive(mido.Message("note_on", channel=0, note=38, velocity=1))
    assert recording.requests == [("prompt", {"seed": 5, "dissolve_s": 0.0}), ("take_next", {})]


def test_what_fails_is_counted(midi: MidiInput) -> None:
    play("note_on", channel=1, note=38, velocity=1)
    wait_until(lambda: midi.count.to_json()["errors"])
    assert midi.count.to_json() == {"messages": 1, "errors": 1, "last_error": "there is no cue 9"}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (MidiRow(1, None, "gian"), '--midi-map: there is no control "gian"'),
        (MidiRow(1, None, "seed"), "--midi-map: seed makes a new scene at each value"),
        (MidiRow(1, None, "gain", (0.0, 2.5)), "--midi-map: gain must be from 0 to 2, got 2.5"),
    ],
)
def test_what_does_not_fit_the_show_is_refused(
    performer: Performer, controller: ShowController, row: MidiRow, sentence: str
) -> None:
    midi = make(performer, [row])
    with pytest.raises(ValueError, match=sentence):
        midi.start(controller)
    midi.close()


@pytest.mark.parametrize(
    ("port", "sentence"),
    [
        ("keys", "there is no MIDI input 'keys'; there are: Pads:Pads MIDI 1 20:0, Faders:Faders MIDI 1 24:0"),
        ("MIDI 1", "2 MIDI inputs are named 'MIDI 1'; there are: Pads"),
    ],
)
def test_an_unknown_port_is_a_sentence(port: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make(cast(Performer, RecordingPerformer()), port=port)


def test_without_any_port_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_midi, "NAMES", [])
    with pytest.raises(ValueError, match="there is no MIDI input 'faders', nor any other: connect the device first"):
        make(cast(Performer, RecordingPerformer()))


def test_errors_of_the_backend_are_sentences(monkeypatch: pytest.MonkeyPatch, controller: ShowController) -> None:
    def fail(**_: object) -> None:
        raise OSError("no sequencer")

    midi = make(cast(Performer, RecordingPerformer()), [])
    monkeypatch.setattr(midi._backend, "open_input", lambda *_, **__: fail())
    with pytest.raises(ValueError, match="--midi cannot open Faders:Faders MIDI 1 24:0: no sequencer"):
        midi.start(controller)
    monkeypatch.setattr(fake_midi, "get_devices", fail)
    with pytest.raises(ValueError, match="--midi cannot list the MIDI inputs: no sequencer; on Linux, load"):
        make(cast(Performer, RecordingPerformer()))


@pytest.mark.parametrize("package", ["mido", "rtmidi"])
def test_without_a_package_the_extra_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIDO_BACKEND", raising=False)
    monkeypatch.delitem(sys.modules, "mido.backends.rtmidi", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"^--midi needs mido and python-rtmidi: pip install everframe\[midi\]$"):
        MidiInput("faders", [], cast(Performer, RecordingPerformer()))


def test_a_port_is_closed() -> None:
    midi = make(cast(Performer, RecordingPerformer()), [])
    midi.start(ShowController())
    port = fake_midi.opened[-1]
    midi.close()
    midi.close()
    assert port.closed


def test_the_example_fits_the_shipped_bundle() -> None:
    rows = read_midi_map(ROOT / "examples" / "midi-map.toml")
    manifest = read_manifest(ROOT / "bundles" / "landscape")
    assert [row.control for row in rows if row.control] == ["motion", "wind_x", "wind_y"]
    for row in rows:
        if row.control:
            spec = manifest.controls[row.control]
            assert all(spec.minimum <= end <= spec.maximum for end in row.ends or ())
    assert rows[0] == MidiRow(1, 1, "motion", (0.0, 1.5))
    notes = {row.number: (row.action, row.values) for row in rows if row.action}
    assert notes == {
        36: ("prompt", {"scene": "lake", "dissolve_s": 0.5}),
        37: ("prompt", {"text": "a storm"}),
        38: ("prompt", {"seed": 7}),
        39: ("take_next", {}),
        40: ("take", {"cue": 2, "dissolve_s": 0}),
    }
    assert "lake" in {scene.name for scene in manifest.scenes}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[[map]", "cannot be read"),
        ("", r"must consist of \[\[map\]\] tables"),
        ("map = 3", r"must consist of \[\[map\]\] tables"),
        ('name = "x"\n[[map]]\nnote = 1\ntake = true', r"must consist of \[\[map\]\] tables"),
        ('[[map]]\ncontrol = "a"', "map 1: it needs cc or note, and not both"),
        ('[[map]]\ncc = 1\nnote = 1\ncontrol = "a"', "it needs cc or note, and not both"),
        ('[[map]]\ncc = 1\ncontroll = "a"', r'the key "controll" is unknown \(did you mean "control"\?\)'),
        ("[[map]]\ncc = 1", "cc needs control, and takes channel and range"),
        ('[[map]]\ncc = 1\ncontrol = "a"\ntake = true', "cc needs control, and takes channel and range"),
        ('[[map]]\ncc = 128\ncontrol = "a"', "cc must be from 0 to 127, got 128"),
        ('[[map]]\ncc = 1\nchannel = 0\ncontrol = "a"', "channel must be from 1 to 16, got 0"),
        ('[[map]]\ncc = 1\ncontrol = "a"\nrange = [1]', r"range must be two numbers, e.g. \[0, 1.5\], got \[1\]"),
        ('[[map]]\ncc = 1\ncontrol = "a"\nrange = [1, nan]', "range must be two numbers"),
        ("[[map]]\nnote = 1.5\ntake = true", "note must be an integer, got 1.5"),
        ("[[map]]\nnote = 1", "note needs one of: text, seed or scene"),
        ("[[map]]\nnote = 1\ntake = false", "note needs one of"),
        ("[[map]]\nnote = 1\ntake = true\ncue = 1", "note needs one of"),
        ('[[map]]\nnote = 1\ntake = true\ntext = "a"', "note needs one of"),
        ('[[map]]\nnote = 1\ntext = ""', "text must have 1 to 2000 characters, got 0"),
        (
            '[[map]]\ncc = 1\ncontrol = "a"\n[[map]]\ncc = 2\ncontrol = "a"',
            "map 2: a is mapped twice: leave one of its maps out",
        ),
        (
            "[[map]]\nnote = 1\ntake = true\n[[map]]\nnote = 1\nchannel = 3\nseed = 1",
            "map 2: note 1 is mapped twice: leave one out, or give them different channels",
        ),
    ],
)
def test_a_wrong_file_is_a_sentence(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "map.toml"
    path.write_text(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_midi_map(path)
    assert str(caught.value).startswith(f"--midi-map {path}")


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cannot be read: .*No such file"):
        read_midi_map(tmp_path / "nothing.toml")
