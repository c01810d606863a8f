"""A prompt, and the scene that is made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import GraphSpec
from runtime.clips.endless import EndlessClip
from runtime.engines.engine import Array
from runtime.pixels.planes import SHARP
from runtime.prompts.hints import Hints, to_hints

Picture = str | Path | npt.NDArray[np.uint8]


class PromptParts(TypedDict, total=False):
    """What a scene can be made from; None is the same as leaving a part out.

    Attributes:
        image: picture to animate: a path, or a uint8 (h, w, 3) RGB array of any size; see `Generator.fit`.
        clip: a path of a video or an animated picture, or a uint8 (t, h, w, 3) RGB array, oldest frame first, fitted
            like an image. With bundles of schema 2 it plays on for ever with its own frames, and must be given alone;
            other bundles treat it as `past`. For the former also what `runtime.clips.endless.ClipReader` has read.
        past: the like, to go on from: the generator animates its last frame and goes on with its motion. Its last
            frames are used; if it is too short, its oldest frame is repeated.
        text: description in English, at most 2,000 characters.
        seed: of the content code, [0, 2**64); by default the generator's own.
        moving: mask of what may move: a path, or a uint8 (h, w) array of any size, white where things may move; fitted
            like an image. By default everything may.
        scene: name of one of the manifest's scenes; it stands for its image, its mask and, unless others are given, its
            hints.
        hints: motion that the user draws: `Hints`, an object in their JSON form, or the path of a JSON file. Alone they
            replace those of the playing scene, whose picture stays. A scene with hints does not renew itself.
    """

    image: Picture | None
    clip: Picture | EndlessClip | None
    past: Picture | None
    text: str | None
    seed: int | None
    moving: Picture | None
    scene: str | None
    hints: Hints | str | Path | Mapping[str, Any] | None


def only_hints(parts: PromptParts) -> Hints | None:
    """Return the hints of a prompt that has nothing else; None if it has more, or none.

    Raises:
        ValueError: a value is wrong, or a file cannot be read.
    """
    given = {name for name, value in parts.items() if value is not None}
    hints = parts.get("hints")
    return to_hints(hints) if given == {"hints"} and hints is not None else None


@dataclass(frozen=True, eq=False)
class Prompt:
    """A checked prompt, loaded and fitted to the frame; a part that is None is zeros in the graph.

    Args:
        image: uint8 (H, W, 3) RGB of the frame's size.
        clip: uint8 (T, H, W, 3) RGB of the frame's size, oldest first.
        text: the description.
        text_inputs: input of the graph -> value of what the text fills; empty without a text.
        seed: of the content code; None if the graph takes no noise.
        moving: uint8 (H, W, 1) of the frame's size, 255 where things may move; None if nobody has said it.
        hints: motion that the user draws.
        where: uint8 (H, W, 1), 255 inside the image, falling to 0 at its edges; None if it fills the frame.
        note: what is not read of the text, in one sentence, or "".
    """

    image: npt.NDArray[np.uint8] | None = None
    clip: npt.NDArray[np.uint8] | None = None
    text: str | None = None
    text_inputs: Mapping[str, Array] = field(default_factory=dict)
    seed: int | None = None
    moving: npt.NDArray[np.uint8] | None = None
    hints: Hints = Hints()  # noqa: RUF009 - it never changes
    where: npt.NDArray[np.uint8] | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class Scene:
    """A scene that a generator can play: the memories that the condition graph made from a prompt.

    Args:
        tensors: slot -> read-only array of that slot's dtype and shape.
        seed: the seed that made it, with or without a text, and that renews it; None for a scene from an image or a
            clip, which is not renewed.
        text: the text it was made from, or None; renewals keep it.
        text_inputs: input of the condition graph -> read-only value of what the text fills; empty without a text.
        hints: motion that the user has drawn.
        kept: what `Conditioner.redraw` needs to draw it again; empty if the bundle takes no hints.
        clip: a clip that plays instead of an animated picture; there are no tensors then.
        note: what is not read of the text, in one sentence, or "".
    """

    tensors: Mapping[str, Array]
    seed: int | None
    text: str | None = None
    text_inputs: Mapping[str, Array] = field(default_factory=dict)
    hints: Hints = Hints()  # noqa: RUF009 - it never changes
    kept: Mapping[str, Array] = field(default_factory=dict, repr=False)
    clip: EndlessClip | None = None
    note: str = ""

    @property
    def renews(self) -> bool:
        """Whether it may renew itself: it was made from a seed, and nothing was drawn over its picture."""
        return self.seed is not None and not self.hints

    def is_for(self, step: GraphSpec) -> bool:
        """Return whether a step graph has exactly these slots, or a clip's frames are like its frames."""
        if self.clip is not None:
            shape = self.clip.clip.frames.shape[1:]
            return bool(step.inputs_of("picture")) and any(item.shape[1:] == shape for item in step.outputs_of("frame"))
        slots = {tensor.slot: (tensor.dtype, tensor.shape) for tensor in step.inputs_of("memory_a")}
        for tensor in step.inputs_of("picture"):
            planes, *_, rows, columns = tensor.shape
            for ending in ("", SHARP):
                slots[tensor.name + ending] = ("uint8", (planes, rows + 1, columns + 1))
        return {slot: (str(value.dtype), value.shape) for slot, value in self.tensors.items()} == slots
