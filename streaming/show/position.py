"""Where a show is: what another machine needs to go on with it at the frame that the clock asks for.

Written as an .npz file without pickled objects: JSON, and the arrays beside it.
"""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.position import Position
from runtime.prompts.hints import Hints
from streaming.control.cues import PAINTED, ListedCue
from streaming.output.pacing import Clock, Pacer

if TYPE_CHECKING:
    from runtime.chain import FrameSource

PROMPT = ("image", "clip", "past", "text", "moving", "scene")  # options of a prompt
_MAX_SKIPPED_S = 60.0  # that are played through; after a longer gap only the frame's number is right
_VERSION = 1
_NOT_READABLE = "the stored position of the show cannot be read"


@dataclass(frozen=True, eq=False)
class ShowPosition:
    """A show at one moment.

    Args:
        began_s: Unix time of slot 0 in seconds.
        bundle: folder of the bundle on air.
        generator: where it is.
        prompt: parts of the prompt on air.
        is_in_turn: whether the bundle's scenes are shown in turn.
        controls: name -> value.
        cues: that are prepared and wait.
    """

    began_s: float
    bundle: str
    generator: Position
    prompt: Mapping[str, Any] = field(repr=False)
    is_in_turn: bool = False
    controls: Mapping[str, float] = field(default_factory=dict)
    cues: Sequence[ListedCue] = ()

    def to_bytes(self) -> bytes:
        """Return it as an .npz file."""
        arrays: dict[str, Any] = {f"state.{name}": value for name, value in self.generator.states.items()}

        def plain(parts: Mapping[str, Any], at: str) -> dict[str, Any]:
            """Return parts as JSON; pictures are put among the arrays."""
            found: dict[str, Any] = {}
            for name, value in parts.items():
                if isinstance(value, np.ndarray):
                    arrays[f"{at}.{name}"] = value
                elif value is not None:
                    found[name] = value.to_json() if isinstance(value, Hints) else _plain(value)
            return found

        content = {
            "version": _VERSION,
            "began_s": self.began_s,
            "bundle": self.bundle,
            "frame_index": self.generator.frame_index,
            "seed": self.generator.seed,
            "side": self.generator.side,
            "renewal_age": self.generator.renewal_age,
            "picture_age": self.generator.picture_age,
            "clip": None if self.generator.clip is None else _pairs(self.generator.clip),
            "prompt": plain(self.prompt, "prompt"),
            "is_in_turn": self.is_in_turn,
            "controls": dict(self.controls),
            "cues": [
                {
                    "number": cue.number,
                    "label": cue.label,
                    "parts": plain(cue.parts, f"cue{cue.number}"),
                    "take_s": cue.take_s,
                }
                for cue in self.cues
            ],
        }
        file = io.BytesIO()
        text = np.frombuffer(json.dumps(content).encode(), np.uint8)
        np.savez(file, content=text, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ShowPosition:
        """Read what `to_bytes` has written.

        Raises:
            ValueError: it is damaged, or of another version.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            content = json.loads(arrays.pop("content").tobytes())
            if content["version"] != _VERSION:
                raise ValueError(f"its version is {content['version']}, expected {_VERSION}")
            states = {name[6:]: value for name, value in arrays.items() if name.startswith("state.")}
            clip = None if content["clip"] is None else _from_pairs(content["clip"])
            generator = Position(
                int(content["frame_index"]),
                int(content["seed"]),
                states,
                str(content["side"]),
                float(content["renewal_age"]),
                int(content["picture_age"]),
                clip,
            )

            def whole(parts: Mapping[str, Any], at: str) -> dict[str, Any]:
                pictures = {name[len(at) + 1 :]: value for name, value in arrays.items() if name.startswith(f"{at}.")}
                return {**parts, **pictures}

            return cls(
                float(content["began_s"]),
                str(content["bundle"]),
                generator,
                whole(content["prompt"], "prompt"),
                bool(content["is_in_turn"]),
                {str(name): float(value) for name, value in content["controls"].items()},
                tuple(
                    ListedCue(
                        int(cue["number"]), str(cue["label"]), whole(cue["parts"], f"cue{cue['number']}"), cue["take_s"]
                    )
                    for cue in content["cues"]
                ),
            )
        except Exception as error:  # noqa: BLE001 - zipfile, NumPy, JSON and the fields have errors of many kinds
            raise ValueError(f"{_NOT_READABLE}: {error}; the show begins anew") from None

    def applied_to(self, options: argparse.Namespace, fps: Fraction) -> argparse.Namespace:
        """Return the options of a show that goes on from here; what has been on air comes in place of its prompt."""
        changed = argparse.Namespace(**vars(options))
        at_s = self.generator.frame_index / fps
        if not self.is_in_turn:
            for part in PROMPT:
                setattr(changed, part, self.prompt.get(part))
            changed.seed = self.prompt.get("seed", options.seed)
            changed.hint, changed.hints = [], self.prompt.get("hints")
            changed.painted = self.prompt.get(PAINTED)
        changed.control = list(self.controls.items())  # without one for a seed, which the prompt has
        changed.cue = [cue for cue in options.cue if cue.at_s >= at_s]
        return changed


def go_to(generator: FrameSource, position: Position, slot: int) -> None:
    """Let a generator whose scene is on air go on at a slot of the show.

    What happened since the position is played through without making its pictures, if it is a minute at most and there
    is no live input; else the number of the frame is set.

    Raises:
        EngineError: the engine failed.
        ValueError: the position is of another bundle.
    """
    missing = slot - position.frame_index
    if generator.has_live_input or missing < 0 or missing > _MAX_SKIPPED_S * generator.fps:
        generator.go_to(replace(position, frame_index=slot))
        return
    generator.go_to(position)
    generator.skip(missing)


def next_slot(pacer: Pacer, clock: Clock, began_s: float, unix_s: Callable[[], float] = time.time) -> int:
    """Let a pacer go on with a show that began earlier, on another machine perhaps; return its next slot.

    Args:
        pacer: has paced no frame yet.
        clock: of the pacer.
        began_s: Unix time of slot 0 in seconds.
        unix_s: returns the Unix time.
    """
    start = Fraction(clock.now()) - Fraction(unix_s() - began_s)
    slot = max(0, ceil((Fraction(clock.now()) - start) * pacer.fps))
    pacer.begin(start, slot)
    return slot


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _pairs(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON; tables with numbers as keys as lists of pairs."""
    return {name: list(value.items()) if isinstance(value, dict) else value for name, value in values.items()}


def _from_pairs(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: dict(map(tuple, value)) if isinstance(value, list) else value for name, value in values.items()}
