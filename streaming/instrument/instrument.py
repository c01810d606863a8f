"""What plays a show besides its page: OSC, MIDI, and controls that follow the sound."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from streaming.control.controller import ShowController
from streaming.instrument.control_map import ControlMap, Levels, check_sources
from streaming.instrument.performer import Performer

if TYPE_CHECKING:
    from streaming.instrument.midi import MidiInput
    from streaming.instrument.osc_in import OscInput
    from streaming.instrument.osc_out import OscOutput


class Instrument:
    """Opens what the options name, and closes it at the end; without these options it does nothing.

    Args:
        options: as `streaming.arguments.parse` returns them: map, osc, osc_out, midi, midi_map, dissolve.
        controller: of the show.
        latest: returns the show's statistics.
    """

    def __init__(
        self, options: argparse.Namespace, controller: ShowController, latest: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._options, self._controller, self._latest = options, controller, latest
        self._performer = Performer(controller, options.dissolve)
        self._osc: OscInput | None = None
        self._osc_out: OscOutput | None = None
        self._midi: MidiInput | None = None

    def stats(self) -> Mapping[str, Any]:
        """Return the show's statistics with the counts of OSC and MIDI, ready for JSON; callable from any thread."""
        inputs = {"osc": self._osc, "midi": self._midi}
        return {**self._latest(), **{name: item.count.to_json() for name, item in inputs.items() if item is not None}}

    def open(self) -> list[str]:
        """Take the ports and read the file, before the engine is opened.

        Returns:
            Lines for people.

        Raises:
            ValueError: a port, a host, a file, a MIDI input or a package is missing, or cannot be used.
        """
        options, lines = self._options, []
        if (options.midi is None) != (options.midi_map is None):
            raise ValueError("--midi PORT and --midi-map FILE belong together: add the other one")
        if options.osc is not None:
            from streaming.instrument.osc_in import OscInput

            self._osc = OscInput(options.osc, self._performer)
            from streaming.page.guard import is_loopback

            is_local = is_loopback(options.osc.host)
            warning = "" if is_local else ": whoever can send to this address controls the show, there is no password"
            lines.append(f"OSC at {self._osc.address}{warning}")
        if options.osc_out is not None:
            from streaming.instrument.osc_out import OscOutput

            self._osc_out = OscOutput(options.osc_out, self._controller, self._latest)
            lines.append(f"OSC to {options.osc_out}")
        if options.midi is not None:
            from streaming.instrument.midi import MidiInput
            from streaming.instrument.midi_map import read_midi_map

            self._midi = MidiInput(options.midi, read_midi_map(options.midi_map), self._performer)
            lines.append(f"MIDI from {self._midi.name}")
        return lines

    @contextmanager
    def playing(self, levels: Levels | None) -> Iterator[None]:
        """Play the show until the end of the block, and close everything.

        Args:
            levels: returns the sound's values, 0 to 1 each; None for a show without sound.

        Raises:
            ValueError: a control is unknown, cannot follow anything or is mapped twice; there is no sound to follow;
                a MIDI port cannot be opened.
        """
        try:
            self._start(levels)
            yield
        finally:
            self.close()

    def close(self) -> None:
        """End every thread and free the ports. Closing twice is allowed."""
        for item in (self._midi, self._osc, self._osc_out, self._performer):
            if item is not None:
                item.close()

    def _start(self, levels: Levels | None) -> None:
        sources, controller = self._options.map, self._controller
        check_sources(sources, [] if self._midi is None else self._midi.controls, levels)
        if self._osc is not None or self._midi is not None:
            self._performer.start()
        if self._midi is not None:
            self._midi.start(controller)
        if self._osc is not None:
            self._osc.start()
        if sources and levels is not None:
            controller.before_frame.append(ControlMap(sources, controller, levels).apply)
            controller.mapped |= {item.control: item.source for item in sources}
        if self._osc_out is not None:
            self._osc_out.start(levels)
