"""A show on a fake clock whose bundle is changed, and bundles with plain scenes."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from export.scenes import add_scenes
from runtime.chain import FrameSource
from streaming.arguments import parse
from streaming.control.controller import ShowController
from streaming.output.pacing import Pacer
from streaming.show.player import Player
from tests import moving
from tests.fakes import FakeClock
from tests.runtime.prompted import change
from tests.streaming.show.relay import settle

HOW: dict[str, Any] = {"engine": "onnxruntime", "precision": "fp32", "pixels": "rgb"}
FADE_S, FADE = 0.2, 6  # frames
COLOURS = {"red": (200, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 200), "white": (220, 220, 220)}


@dataclass
class Stage:
    """A show on a fake clock.

    Args:
        player: makes its frames.
        controller: of the show.
        said: its lines.
        opened: generators that were opened.
        closed: names of the bundles whose generators were closed; see `waits_closed`.
    """

    player: Player
    controller: ShowController
    said: list[str]
    opened: list[FrameSource] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    waits_closed: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __post_init__(self) -> None:
        self.clock = FakeClock(0.0)
        self.pacer = Pacer(self.clock, Fraction(30))
        self.source = self.player.frames(self.pacer, self.clock)
        self.watch(self.player.generator)
        open_generator = self.player._open

        def opening(bundle: Path) -> FrameSource:
            generator = open_generator(bundle)
            self.watch(generator)
            return generator

        self.player._open = opening  # type: ignore[method-assign]

    def watch(self, generator: FrameSource) -> None:
        """Note when a generator is closed."""
        close = generator.close
        self.opened.append(generator)

        def closing() -> None:
            close()
            self.closed.append(generator.manifest.name)
            self.waits_closed.release()

        generator.close = closing  # type: ignore[method-assign]

    def frames(self, count: int) -> list[np.ndarray]:
        """Return the next frames of the show; each is made when no cue is being prepared."""
        made = []
        for _ in range(count):
            made.append(next(self.source).copy())
            self.pacer.pace()
            settle(self.controller)
        return made


@contextmanager
def stage(bundle: Path, *words: object) -> Iterator[Stage]:
    options = parse(
        [str(bundle), "--engine", "onnxruntime", "--precision", "fp32", "--pixels", "rgb", *map(str, words)]
    )
    controller, said = ShowController(), list[str]()
    with Player(options, bundle, controller, said.append) as player:
        yield Stage(player, controller, said)


def named(folder: Path, name: str) -> Path:
    """Give a bundle another name; returns its folder."""
    change(folder, name=name)
    return folder


def build_scenes(folder: Path, scenes: Sequence[str], name: str = "moving") -> Path:
    """Write a bundle of 64 x 36 with plain scenes, named after their colours; returns its folder."""
    tables = []
    for scene in scenes:
        Image.new("RGB", (64, 36), COLOURS[scene]).save(folder / f"{scene}.png")
        tables.append(
            f'[[scene]]\nname = "{scene}"\ntitle = "{scene} of {name}"\npicture = "{scene}.png"\n'
            'credit = "the tests"\nlicence = "CC0-1.0"'
        )
    (folder / "scenes.toml").write_text("\n".join(tables))
    path = named(moving.build(folder / "moving", frame=(64, 36)), name)
    add_scenes(path, folder / "scenes.toml", folder)
    return path


def colour_of(frame: np.ndarray) -> str:
    """Return the name of the colour that a frame has."""
    return min(COLOURS, key=lambda name: float(np.abs(frame.mean(axis=(0, 1)) - COLOURS[name]).sum()))
