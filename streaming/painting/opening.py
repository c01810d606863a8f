"""Opens what paints the pictures of a show, and begins with its prompt: `--scene-from`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from runtime import Manifest
from runtime.bundle.reader import read_manifest
from runtime.chain import FrameSource
from runtime.engines.table import count_cores
from runtime.painting import kinds_painted
from runtime.prompts.clip_scenes import kinds_taken
from streaming.control.controller import ShowController
from streaming.control.cues import PAINTED
from streaming.painting.painter import Painter
from streaming.painting.renewal import PictureRenewal
from streaming.shipped import find_shipped

_ALONE = ("image", "clip", "past", "scene")  # options of a prompt for which nothing is painted


def check_painting(options: argparse.Namespace, manifest: Manifest) -> Manifest | None:
    """Check the options of the painter before anything is opened.

    Args:
        options: as `streaming.arguments.parse` returns them.
        manifest: of the show's bundle, the first one of a chain.

    Returns:
        The manifest of the painter; None without --scene-from.

    Raises:
        BundleError: the painter's bundle is missing or damaged.
        ValueError: one of the bundles cannot be used for this, or the options contradict each other.
    """
    if options.scene_from is None:
        for name in ("scene_every", "scene_engine"):
            if getattr(options, name) is not None:
                raise ValueError(f"--{name.replace('_', '-')} is for painted pictures: add --scene-from BUNDLE")
        return None
    painter = read_manifest(find_shipped(Path(options.scene_from)))
    kinds = kinds_painted(painter)
    if "image" not in kinds_taken(manifest, plays_clips=False):
        raise ValueError(
            f"{manifest.name} takes no image, so nothing can be painted for it: name a bundle that animates pictures, "
            "e.g. bundles/landscape, or leave --scene-from out"
        )
    if options.text is not None and "text" not in kinds:
        raise ValueError(f"{painter.name} takes no text: leave --text out, or name another bundle with --scene-from")
    if options.scene_every is not None and "seed" not in kinds:
        raise ValueError(f"{painter.name} takes no seed, so a text has one picture: leave --scene-every out")
    return painter


class Painting:
    """The painter of a show, which its controller uses from now on.

    Args:
        options: as `streaming.arguments.parse` returns them, with --scene-from.
        manifest: of the show's bundle.
        controller: of the show.
        say: called with one line for each event, by any thread.

    Raises:
        BundleError, ValueError: as of `check_painting`.
    """

    def __init__(
        self, options: argparse.Namespace, manifest: Manifest, controller: ShowController, say: Callable[[str], None]
    ) -> None:
        painter = check_painting(options, manifest)
        assert painter is not None, "without --scene-from"
        self._options, self._controller, self._say = options, controller, say
        self.painter = Painter(
            find_shipped(Path(options.scene_from)),
            painter,
            engine=options.scene_engine or "auto",
            threads=max(1, count_cores() // 2),
            seed=options.seed,
            every_s=float(options.scene_every or 0),
        )
        controller.painter = self.painter
        controller.others.append(self.painter)
        self._renewal = PictureRenewal(self.painter, controller, options.dissolve, say)
        self._coming: dict[str, Any] = {}

    def begin(self, prompt: dict[str, Any], generator: FrameSource) -> dict[str, Any]:
        """Return what the show begins with; what is to be painted follows with `ask`.

        Args:
            prompt: of the options, as `Generator.prepare` takes it.
            generator: of the show.

        Returns:
            The prompt itself if nothing is painted for it; a painted picture that a moved show goes on with; else a
            scene of the bundle, or its seed. If the bundle has neither, the picture is painted first.

        Raises:
            EngineError, ValueError: the prompt is bad, or the picture cannot be painted.
        """
        options, painter = self._options, self.painter
        if any(getattr(options, part) is not None for part in _ALONE):
            return prompt
        given = {"text": options.text, "moving": options.moving, "hints": prompt.get("hints"), "seed": options.seed}
        asked = {part: value for part, value in given.items() if value is not None}
        if options.painted is not None:
            return {**asked, PAINTED: options.painted}
        if not painter.paints(asked):
            if "text" in painter.takes:  # somebody will write one
                return prompt
            asked["seed"] = painter.seed
        painter.check(asked)
        rest = {part: value for part, value in asked.items() if part not in ("text", "seed")}
        generator.check(image=np.zeros((generator.height, generator.width, 3), np.uint8), **rest)
        self._coming = asked
        if scenes := generator.manifest.scenes:
            return {"scene": scenes[0].name}
        if "seed" in generator.takes:
            return {"seed": generator.manifest.default_seed if options.seed is None else options.seed}
        self._say(f"{painter.name} paints {painter.describe(asked)}, and {generator.manifest.name} waits for it")
        words = painter.words(asked)
        painted = painter.paint(words)
        assert painted is not None, "it is wanted"
        self._coming = {}
        if painted.note:
            self._say(painted.note)
        return {**asked, **words, PAINTED: painted.picture}

    def ask(self) -> None:
        """Begin to paint the picture of the show's prompt; it is taken as soon as it is ready."""
        if self._coming:
            self._controller.prepare(self._coming, take_s=self._options.dissolve)

    def close(self) -> None:
        """End the painter's process and the threads."""
        self.painter.close()
        self._renewal.close()
