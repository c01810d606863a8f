"""MIDI in: controllers move controls, notes perform actions (`--midi PORT --midi-map FILE`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from streaming.control.controller import NotReadyError, ShowController
from streaming.instrument.control_map import choose_ends, to_value
from streaming.instrument.message_count import MessageCount
from streaming.instrument.midi_map import MidiRow
from streaming.instrument.performer import Performer


class MidiInput:
    """One MIDI port. Its messages arrive on a thread of the MIDI library.

    Args:
        port: the name of an input, or a part of it that no other input has.
        rows: what its messages do.
        performer: does it.
        backend: a `mido.Backend`; None for mido's own choice, python-rtmidi unless MIDO_BACKEND says otherwise.

    Attributes:
        name: of the input.
        count: of the messages: changes of controllers and notes that begin.

    Raises:
        ValueError: a package is missing, or there is no such input.
    """

    def __init__(self, port: str, rows: Sequence[MidiRow], performer: Performer, backend: Any = None) -> None:
        self.count = MessageCount()
        self._rows, self._performer = rows, performer
        self._ends: dict[str, tuple[float, float]] = {}
        try:
            import mido

            backend = mido.Backend() if backend is None else backend
            names: list[str] = backend.get_input_names()
        except ImportError as error:
            raise ValueError("--midi needs mido and python-rtmidi: pip install everframe[midi]") from error
        except Exception as error:  # each backend has errors of its own
            raise ValueError(
                f"--midi cannot list the MIDI inputs: {error}; on Linux, load the sequencer: modprobe snd-seq"
            ) from error
        self.name = _choose(port, names)
        self._backend = backend
        self._port: Any = None

    @property
    def controls(self) -> list[str]:
        """The controls that it moves."""
        return [row.control for row in self._rows if row.control]

    def start(self, controller: ShowController) -> None:
        """Check the rows against the show and open the port.

        Raises:
            ValueError: a control is unknown or cannot follow anything, an end of a range is outside that of the
                control, or the port cannot be opened.
        """
        for row in self._rows:
            if row.control:
                try:
                    self._ends[row.control] = choose_ends(controller, row.control, row.ends)
                except ValueError as error:
                    raise ValueError(f"--midi-map: {error}") from error
        try:
            self._port = self._backend.open_input(self.name, callback=self._receive)
        except Exception as error:  # each backend has errors of its own
            raise ValueError(f"--midi cannot open {self.name}: {error}") from error
        controller.mapped |= {row.control: f"midi.cc{row.number}" for row in self._rows if row.control}

    def close(self) -> None:
        """Close the port."""
        if self._port is not None:
            self._port.close()
            self._port = None

    def _receive(self, message: Any) -> None:
        """Do what the rows say; called by the MIDI library."""
        if message.type == "control_change":
            self.count.add()
            self._do(message.control, message.channel + 1, message.value)
        elif message.type == "note_on" and message.velocity:  # a velocity of 0 ends a note
            self.count.add()
            self._do(message.note, message.channel + 1, None)

    def _do(self, number: int, channel: int, value: int | None) -> None:
        for row in self._rows:
            if bool(row.control) == (value is not None) and row.fits(number, channel):
                try:
                    if value is None:
                        self._performer.ask(row.action, dict(row.values or {}), self.count.fail)
                    else:
                        self._performer.set_control(row.control, to_value(value / 127, self._ends[row.control]))
                except (ValueError, NotReadyError) as error:
                    self.count.fail(str(error))


def _choose(port: str, names: Sequence[str]) -> str:
    found = [name for name in names if name == port] or [name for name in names if port.lower() in name.lower()]
    if len(found) == 1:
        return found[0]
    if not names:
        raise ValueError(f"--midi: there is no MIDI input {port!r}, nor any other: connect the device first")
    what = f"{len(found)} MIDI inputs are named" if found else "there is no MIDI input"
    raise ValueError(f"--midi: {what} {port!r}; there are: {', '.join(found or names)}")
