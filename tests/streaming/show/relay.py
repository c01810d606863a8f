"""Whole shows on a fake clock, and the shows that go on with them on another machine.

A show runs as fast as its frames are made; no slot is dropped. Each frame is made when its sink has the one before, and
when no cue is being prepared, so that the frames are the same in each run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from streaming import broadcast
from streaming.arguments import parse
from streaming.control.controller import ShowController
from streaming.output.fan_out import FanOut
from streaming.process.interruption import Interruption
from streaming.show import position as position_module
from streaming.show.player import Player
from streaming.show.position import ShowPosition
from streaming.sinks.sink import Frame, Picture, Sink, StreamFormat
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S

BEGAN_S = 1_790_000_000.0  # Unix time at which the first show begins
ENGINE = ("--engine", "onnxruntime", "--precision", "fp32", "--to", "null")
Act = Callable[[ShowController], object]


class NumberedSink(Sink):
    """Keeps a copy of every frame under its slot."""

    name = "numbered"

    def __init__(self) -> None:
        self.frames: dict[int, Picture] = {}
        self.controller: ShowController | None = None
        self._news = threading.Condition()

    def open(self, feed: StreamFormat) -> None:
        self.controller = feed.controller

    def write(self, frame: Frame) -> bool:
        with self._news:
            self.frames[frame.slot] = frame.picture.copy()
            self._news.notify_all()
        return True

    def wait(self, slot: int) -> None:
        """Wait until it has the frame of a slot."""
        with self._news:
            assert self._news.wait_for(lambda: slot in self.frames, WAIT_S)

    def close(self) -> None:
        pass


class MemoryKeeper:
    """Keeps positions as bytes; see `ShowKeeper`.

    Args:
        position: to go on from.
    """

    every_s = 0.2

    def __init__(self, position: ShowPosition | None) -> None:
        self.position = position
        self.kept: list[ShowPosition] = []
        self.prepared_with: Player | None = None

    def prepared(self, player: Player) -> None:
        self.prepared_with = player

    def keep(self, position: ShowPosition) -> None:
        self.kept.append(ShowPosition.from_bytes(position.to_bytes()))


@dataclass
class Relay:
    """What a show has made.

    Args:
        frames: slot -> frame.
        kept: positions, about four in a second.
        cues: of the list, at the end.
        controls: name -> value, at the end.
    """

    frames: dict[int, Picture]
    kept: list[ShowPosition] = field(repr=False)
    cues: list[dict[str, object]]
    controls: Mapping[str, float]

    def position_at(self, frame: int) -> ShowPosition:
        """Return the first position from a frame on."""
        return next(position for position in self.kept if position.generator.frame_index >= frame)


def run(
    patch: pytest.MonkeyPatch,
    words: Sequence[str | Path],
    until: int,
    *,
    position: ShowPosition | None = None,
    gap: int = 0,
    acts: Mapping[int, Act] | None = None,
    on_begin: Callable[[Player], object] = lambda _: None,
) -> Relay:
    """Run a show.

    Args:
        patch: for the clocks.
        words: of the command line; the show is at 30 frames per second.
        until: slot of the last frame.
        position: to go on from; None to begin.
        gap: slots that nobody showed.
        acts: slot -> what somebody does after its frame.
        on_begin: is called before the first frame.
    """
    begins_s = BEGAN_S
    if position is not None:  # Unix time in floats is not exact
        begins_s += (position.generator.frame_index + gap) / 30 - 0.001
    clock = FakeClock(1000.0 if position is None else 5.0)  # machines have clocks of their own
    interruption, keeper, sink = Interruption(), MemoryKeeper(position), NumberedSink()

    def unix_s(start_s: float = clock.now()) -> float:
        return begins_s + clock.now() - start_s

    class PatientFanOut(FanOut):
        def put(self, picture: Picture, slot: int) -> None:
            super().put(picture, slot)
            sink.wait(slot)
            assert sink.controller is not None
            if slot in (acts or {}):
                (acts or {})[slot](sink.controller)
            settle(sink.controller)
            interruption.is_set = slot >= until

    patch.setattr(broadcast, "SystemClock", lambda: clock)
    patch.setattr(broadcast, "FanOut", PatientFanOut)
    for module in ("keeping", "player"):
        patch.setattr(f"streaming.show.{module}.time", SimpleNamespace(time=unix_s))
    patch.setattr(position_module, "next_slot", partial(next_slot, unix_s=unix_s))
    patch.setattr(keeper, "prepared", lambda player: (MemoryKeeper.prepared(keeper, player), on_begin(player)))
    at_end: list[tuple[list[dict[str, object]], Mapping[str, float]]] = []
    options = parse([str(word) for word in (*words, *ENGINE)])

    def note(controller: ShowController) -> None:
        at_end.append((controller.state()["cues"], controller.values()))

    acts = {**(acts or {}), until: partial(_both, (acts or {}).get(until), note)}
    assert broadcast.run_show(options, interruption, [sink], keeper) == 0
    return Relay(sink.frames, keeper.kept, *at_end[0])


next_slot = position_module.next_slot  # before it is replaced


def settle(controller: ShowController) -> None:
    """Wait until no cue is being prepared."""
    news = threading.Condition()

    def tell() -> None:
        with news:
            news.notify_all()

    def is_settled() -> bool:
        return all(entry.state != "preparing" for entry in (*controller._timed, *controller._entries.values()))

    controller.on_change.append(tell)
    try:
        with news:
            assert news.wait_for(is_settled, WAIT_S)
    finally:
        controller.on_change.remove(tell)


def check_same(relay: Relay, whole: Relay, count: int) -> None:
    """Compare all frames of a show that went on with those of one that was not interrupted."""
    assert len(relay.frames) >= count
    for slot, frame in relay.frames.items():
        assert np.array_equal(frame, whole.frames[slot]), slot


def _both(first: Act | None, second: Act, controller: ShowController) -> None:
    if first is not None:
        first(controller)
    second(controller)
