"""A backend for mido with two inputs; tests call the callback of what was opened."""

from __future__ import annotations

from typing import Any

from mido.ports import BaseInput

NAMES = ["Pads:Pads MIDI 1 20:0", "Faders:Faders MIDI 1 24:0"]
opened: list[Input] = []


def get_devices(**_: Any) -> list[dict[str, Any]]:
    """Return the devices as mido's backends do."""
    return [{"name": name, "is_input": True, "is_output": False} for name in NAMES]


class Input(BaseInput):
    """An input."""

    def _open(self, callback: Any = None, **_: Any) -> None:
        self.callback = callback
        opened.append(self)

    def _close(self) -> None:
        self.callback = None
