"""Controls that follow the sound: `--map motion=audio.bass:0.2..1.5`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # --help needs no runtime
    from streaming.control.controller import ShowController

Levels = Callable[[], Mapping[str, float]]

SOURCES = tuple(f"audio.{name}" for name in ("level", "bass", "middle", "high", "onset"))
_STILL = 0.001  # of the range: smaller changes are not set, so that a hand on the page is not overruled for nothing


@dataclass(frozen=True)
class ControlSource:
    """What a control follows.

    Args:
        control: its name.
        source: one of `SOURCES`.
        ends: the control's values at 0 and 1; None for its whole range.
    """

    control: str
    source: str
    ends: tuple[float, float] | None = None


def read_source(text: str) -> ControlSource:
    """Read CONTROL=SOURCE or CONTROL=SOURCE:FROM..TO.

    Raises:
        ArgumentTypeError: it is something else, or the source is unknown.
    """
    control, _, rest = text.partition("=")
    source, colon, span = rest.partition(":")
    ends = _read_ends(span) if colon else None
    if not control or not source or (colon and ends is None):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected CONTROL=SOURCE or CONTROL=SOURCE:FROM..TO, e.g. motion=audio.bass:0.2..1.5"
        )
    if source not in SOURCES:
        raise argparse.ArgumentTypeError(f"got {text!r}: the source is one of {', '.join(SOURCES)}, not {source!r}")
    return ControlSource(control, source, ends)


def _read_ends(span: str) -> tuple[float, float] | None:
    first, dots, last = span.partition("..")
    try:
        ends = float(first), float(last)
    except ValueError:
        return None
    return ends if dots and all(map(isfinite, ends)) else None


def to_value(share: float, ends: tuple[float, float]) -> float:
    """Return the value at a share of the way from the first end to the second; within them, however it is rounded.

    Args:
        share: 0 to 1; beyond them, and not a number, it is taken as the nearest of both.
        ends: in any order.
    """
    share = min(1.0, max(0.0, share))
    value = ends[0] + (ends[1] - ends[0]) * share
    return min(max(ends), max(min(ends), value))


def choose_ends(controller: ShowController, name: str, ends: tuple[float, float] | None) -> tuple[float, float]:
    """Return the ends of a mapping, after a check.

    Args:
        controller: of a show that has begun.
        name: of the control.
        ends: None for the control's whole range.

    Raises:
        ValueError: there is no such control, it makes scenes, or an end is outside its range.
    """
    spec = controller.control_spec(name)
    if spec.target == "seed":
        raise ValueError(f"{name} makes a new scene at each value: it cannot follow anything")
    for end in ends or ():
        controller.check_control(name, end)
    return ends or (spec.minimum, spec.maximum)


class ControlMap:
    """Sets controls by the sound, before each frame.

    Args:
        sources: each control at most once.
        controller: of a show that has begun.
        levels: returns the sound's values, 0 to 1 each; may be called from any thread.

    Raises:
        ValueError: a control is unknown or cannot follow anything, or an end is outside its range.
    """

    def __init__(self, sources: Sequence[ControlSource], controller: ShowController, levels: Levels) -> None:
        self._controller, self._levels = controller, levels
        self._rows: list[tuple[str, str, tuple[float, float]]] = []
        for item in sources:
            try:
                ends = choose_ends(controller, item.control, item.ends)
            except ValueError as error:
                raise ValueError(f"--map {item.control}={item.source}: {error}") from error
            self._rows.append((item.control, item.source.partition(".")[2], ends))
        self._shares = dict.fromkeys((item.control for item in sources), -1.0)  # at which they were set last

    def apply(self) -> None:
        """Set the controls whose source has moved; called by the show's thread, takes microseconds.

        A control that is there no longer, e.g. because its bundle was left out of a chain, is mapped no longer.
        """
        levels = self._levels()
        for row in tuple(self._rows):
            control, name, ends = row
            share, last = levels[name], self._shares[control]
            if abs(share - last) >= _STILL or (share != last and share in (0.0, 1.0)):
                self._shares[control] = share
                try:
                    self._controller.follow(control, to_value(share, ends))
                except ValueError:
                    self._rows.remove(row)
                    self._controller.mapped.pop(control, None)


def check_sources(sources: Sequence[ControlSource], mapped: Sequence[str], levels: Levels | None) -> None:
    """Check a list of mappings.

    Args:
        sources: those of `--map`.
        mapped: controls that follow something else.
        levels: of the sound; None without one.

    Raises:
        ValueError: there is no sound, or a control follows two things.
    """
    known = set(mapped)
    for item in sources:
        if levels is None:
            raise ValueError(f"--map {item.control}={item.source} needs a sound: add --sound mic, a file, or input")
        if item.control in known:
            raise ValueError(f"{item.control} is mapped twice: leave one of its mappings out")
        known.add(item.control)
