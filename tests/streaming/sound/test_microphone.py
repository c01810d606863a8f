"""Microphones, on a stand-in for the sound library."""

from __future__ import annotations

import builtins
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from streaming.sound.source_child import read_microphone
from tests.fakes import FakeClock


class PortAudioError(Exception):
    """What the sound library raises."""


class Library:
    """Stands for `sounddevice`: two devices, of which one records one side, and blocks that a test gives."""

    PortAudioError = PortAudioError

    def __init__(self, blocks: list[np.ndarray]) -> None:
        self.blocks = blocks
        self.opened: dict[str, Any] = {}

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        devices = [
            {"name": "Speakers", "max_input_channels": 0},
            {"name": "USB Microphone", "max_input_channels": 1},
            {"name": "Line in", "max_input_channels": 8},
        ]
        if kind is None:
            return devices
        if device is None:
            return devices[1]
        found = [item for item in devices if item["max_input_channels"] and str(device) in str(item["name"])]
        if not found:
            raise ValueError(f"No input device matching {device!r}")
        return found[0]

    def InputStream(self, rate: int, block: int, device: Any, channels: int, dtype: str, **others: Any) -> Any:
        self.opened = {"rate": rate, "block": block, "device": device, "channels": channels, "dtype": dtype}
        library = self

        class Stream:
            def __enter__(self) -> None:
                for samples in library.blocks:
                    others["callback"](samples, len(samples), None, None)
                others["finished_callback"]()

            def __exit__(self, *_: object) -> None:
                pass

        return Stream()


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[np.ndarray]], Library]:
    def do(blocks: list[np.ndarray]) -> Library:
        library = Library(blocks)
        monkeypatch.setitem(sys.modules, "sounddevice", library)
        return library

    monkeypatch.setattr(time, "monotonic", FakeClock(20.0).now)
    return do


def record(device: str) -> tuple[list[tuple[np.ndarray, float]], str]:
    """Return the blocks, and why they ended."""
    opened: list[bool] = []
    blocks = []
    try:
        for block in read_microphone(device, lambda: opened.append(True)):
            blocks.append(block)
    except ValueError as error:
        return blocks, str(error)
    raise AssertionError("a microphone ends with an error")


def test_one_side_becomes_two_and_each_block_knows_when_it_was_recorded(install: Any) -> None:
    library = install([np.array([[1], [2]], np.int16)])
    (block,), why = record("")
    samples, at_s = block
    assert samples.tolist() == [[1, 1], [2, 2]]
    assert at_s == pytest.approx(20.0 - 2 / 48_000)
    assert library.opened == {"rate": 48_000, "block": 480, "device": None, "channels": 1, "dtype": "int16"}
    assert why == "the microphone has stopped"


def test_of_many_sides_the_first_two_are_taken(install: Any) -> None:
    given = np.array([[1, 2], [3, 4]], np.int16)
    library = install([given])
    (block,), _ = record("Line")
    given[:] = 0  # the library uses its memory again
    assert block[0].tolist() == [[1, 2], [3, 4]]
    assert (library.opened["device"], library.opened["channels"]) == ("Line", 2)


def test_an_unknown_microphone_names_those_that_are_there(install: Any) -> None:
    install([])
    _, why = record("nowhere")
    assert why == "No input device matching 'nowhere'; there are USB Microphone, Line in"


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    _, why = record("")
    assert why == "a microphone needs sounddevice: pip install everframe[sound]"


def test_a_missing_library_of_the_system_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def fail(name: str, *others: Any, **more: Any) -> Any:
        if name == "sounddevice":
            raise OSError("PortAudio library not found")
        return real(name, *others, **more)

    monkeypatch.setattr(builtins, "__import__", fail)
    _, why = record("")
    assert why.startswith("a microphone needs PortAudio: install libportaudio2")
