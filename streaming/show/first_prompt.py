"""What a show begins with: the prompt of its options, or the scenes of its bundle in turn."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from runtime.prompts.hints import Hints, Vector, to_hints
from streaming.control.cues import LIVE
from streaming.show.position import PROMPT


class FirstPrompt(NamedTuple):
    """The prompt, and which scenes follow it.

    Args:
        parts: as `Generator.prepare` takes them; empty for the seed alone.
        in_turn: names of the scenes that are shown in turn, the first one being on air; empty for none.
        next_s: when the second of them is due, in seconds of the show.
    """

    parts: dict[str, Any]
    in_turn: Sequence[str] = ()
    next_s: Fraction = Fraction(0)

    @property
    def is_live(self) -> bool:
        """Whether it is the picture of the live input."""
        return is_live(self.parts)


def is_live(parts: dict[str, Any]) -> bool:
    """Return whether a prompt is the picture of the live input."""
    image = parts.get("image")
    return isinstance(image, str) and image == LIVE


def first_prompt(options: argparse.Namespace, name: str, scenes: Sequence[str], now_s: Fraction) -> FirstPrompt:
    """Return what a show begins with.

    Args:
        options: as `streaming.arguments.parse` returns them.
        name: of the bundle.
        scenes: the names of its scenes.
        now_s: time of the first frame in seconds of the show; not 0 if it goes on.

    Raises:
        ValueError: the options contradict each other, or the bundle has no scenes.
    """
    parts: dict[str, Any] = {part: value for part in PROMPT if (value := getattr(options, part)) is not None}
    drawn = drawn_hints(options)
    shows_all = parts.get("scene") == "all" or (bool(scenes) and options.seed is None and not parts)
    turn = int(now_s // options.every)
    if shows_all:
        if not scenes:
            raise ValueError(f"{name} has no scenes: leave --scene out")
        if drawn is not None and parts:
            raise ValueError("--hint and --hints are drawn over one picture: choose one by --scene NAME")
        parts["scene"] = scenes[turn % len(scenes)]
        shows_all = drawn is None
    if drawn is not None:
        parts["hints"] = drawn
    if not shows_all:
        return FirstPrompt(parts)
    first = turn % len(scenes)
    return FirstPrompt(parts, [*scenes[first:], *scenes[:first]], (turn + 1) * options.every)


def drawn_hints(options: argparse.Namespace) -> Hints | None:
    """Return the motion that the arguments draw.

    Raises:
        ValueError: the file of --hints cannot be read.
    """
    if not options.hint and options.hints is None:
        return None
    arrows = Hints(tuple(Vector(*values) for values in options.hint))
    return arrows if options.hints is None else to_hints(options.hints) + arrows
