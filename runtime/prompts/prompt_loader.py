"""Checks a prompt, reads its files, fits them to the frame and encodes its text."""

from __future__ import annotations

import numpy as np

from runtime.bundle.tensors import GraphSpec
from runtime.noise import check_seed
from runtime.prompts.clips import load_clip
from runtime.prompts.hints import Hints
from runtime.prompts.images import load_mask, load_placed
from runtime.prompts.prompt_text import PromptText
from runtime.prompts.scene import Picture, Prompt
from runtime.prompts.token_encoder import EncodedText


class PromptLoader:
    """Loads prompts for one condition graph; thread-safe.

    Args:
        graph: the condition graph of the manifest.
        text: encodes texts for it.
        name: of the generator, for messages.

    Attributes:
        fit: how pictures of another shape fit the frame, one of `runtime.prompts.images.FITS`.
    """

    def __init__(self, graph: GraphSpec, text: PromptText, name: str) -> None:
        self.fit = "cover"
        self._graph, self._text, self._name = graph, text, name

    def load(
        self,
        *,
        image: Picture | None = None,
        clip: Picture | None = None,
        text: str | None = None,
        seed: int | None = None,
        default_seed: int = 0,
        moving: Picture | None = None,
        hints: Hints | None = None,
    ) -> Prompt:
        """Load a prompt.

        Args:
            image: path or uint8 (h, w, 3) RGB array of any size, or None.
            clip: path or uint8 (t, h, w, 3) RGB array of any size and length, oldest first, or None.
            text: description, or None.
            seed: of the content code; None for `default_seed`.
            default_seed: used if no seed was given and the graph takes noise.
            moving: path or uint8 (h, w) array of a mask of what may move, or None.
            hints: motion that the user has drawn, or None.

        Returns:
            The prompt; it shares no memory with the arguments.

        Raises:
            ValueError: the graph does not take what was given, needs what was not given, or a value is wrong.
            BundleError: the files of the text encoder are damaged.
            EngineError: the package tokenizers is needed and not installed.
        """
        given = {"image": image, "clip": clip, "text": text, "seed": seed}
        self._check_taken([role for role, value in given.items() if value is not None])
        pixels = frames = where = None
        if image is not None and (tensor := self._graph.only_input("image")) is not None:
            pixels, where = load_placed(image, tensor.shape[2], tensor.shape[1], self.fit)
        if clip is not None and (tensor := self._graph.only_input("clip")) is not None:
            frames = load_clip(clip, tensor.shape[1], tensor.shape[3], tensor.shape[2], self.fit)
        encoded = EncodedText() if text is None else self._text.encode(text)
        used_seed = check_seed(default_seed if seed is None else seed)
        mask = None
        if moving is not None:
            if (tensor := self._graph.only_input("moving")) is None:
                raise ValueError(f"{self._name} takes no mask of what may move: leave it out")
            mask = load_mask(moving, tensor.shape[2], tensor.shape[1], self.fit)
        if mask is not None and where is not None:  # the edges come to rest
            mask = np.minimum(mask, where)
        if hints is not None:
            self.check_drawable()
        used_hints = Hints() if hints is None else hints
        code_seed = used_seed if self._takes("seed") else None
        return Prompt(pixels, frames, text, encoded.inputs, code_seed, mask, used_hints, where, encoded.note)

    @property
    def takes_hints(self) -> bool:
        """Whether motion can be drawn over its scenes."""
        return any(item.role == "kept" for item in self._graph.outputs)

    def check_drawable(self) -> None:
        """Raise ValueError if no motion can be drawn over its scenes."""
        if not self.takes_hints:
            raise ValueError(f"{self._name} takes no hints: its motion cannot be drawn, leave them out")

    def _takes(self, kind: str) -> bool:
        if kind == "text":
            return self._text.is_taken
        return self._graph.only_input("noise" if kind == "seed" else kind) is not None

    def _check_taken(self, given: list[str]) -> None:
        kinds = {"image": "an image", "clip": "a clip", "text": "a text", "seed": "a seed"}
        taken = [words for kind, words in kinds.items() if self._takes(kind)]
        for kind in given:
            if not self._takes(kind):
                words = "seed for its scene" if kind == "seed" else kind
                role = "noise" if kind == "seed" else kind
                why = f"its condition graph has no input of the role {role}"
                raise ValueError(f"{self._name} takes no {words}: {why}; give {_either(taken)}")
        if not given and taken and not self._takes("seed") and not self._text.is_needed:
            raise ValueError(f"{self._name} makes nothing without {_either(taken)}: give one")


def _either(kinds: list[str]) -> str:
    """Join "an image", "a clip", "a seed" to "an image, a clip or a seed"."""
    return " or ".join(part for part in (", ".join(kinds[:-1]), kinds[-1]) if part) if kinds else "nothing"
