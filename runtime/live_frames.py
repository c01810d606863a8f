"""The live input of a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import Manifest
from runtime.hole import Hole
from runtime.similar_frames import SETTLE_FRAMES, SimilarFrames
from runtime.step_inputs import StepInputs

FrameArray = npt.NDArray[np.uint8]


class LiveFrames:
    """The part of a generator that takes live frames; thread-safe.

    Args:
        manifest: of the bundle.
        step_inputs: are written to the step graph.
    """

    def __init__(self, manifest: Manifest, step_inputs: StepInputs) -> None:
        self.manifest, self._step_inputs = manifest, step_inputs

    @property
    def has_live_input(self) -> bool:
        """Whether the step graph has a live input, for `feed_live`."""
        return self.manifest.step.only_input("live") is not None

    @property
    def live_size(self) -> tuple[int, int] | None:
        """(width, height) in pixels of the live input's frames; None without a live input."""
        live = self.manifest.step.only_input("live")
        return None if live is None else (live.shape[2], live.shape[1])

    @property
    def takes_mask(self) -> bool:
        """Whether the step graph is told where the live input is hidden, so that there can be a hole."""
        return self.manifest.step.only_input("mask") is not None

    @property
    def hole(self) -> Hole | None:
        """What of live frames is to be filled, if they are fed without a mask; None for nothing.

        May be set by any thread; the caller closes it. Raises ValueError if the bundle takes no mask.
        """
        return self._step_inputs.hole

    @hole.setter
    def hole(self, hole: Hole | None) -> None:
        if hole is not None and not self.takes_mask:
            raise ValueError(f"{self.manifest.name} fills no holes, as it takes no mask: use bundles/fill")
        self._step_inputs.hole = hole

    def open_hole(self, what: str | Path | None, **options: Any) -> Hole:
        """Open what of live frames is to be filled, and use it from the next one on.

        Args:
            what: a picture's file, white where frames are to be filled; the folder of a bundle whose frames are white
                there, such as bundles/person; or None for strokes alone (`Hole.strokes`).
            options: of `Generator.open`, for a bundle.

        Returns:
            The hole, to be closed by the caller.

        Raises:
            BundleError, EngineError, ValueError: it cannot be opened, or the bundle takes no mask.
        """
        self.hole = None
        if self.live_size is None or not self.takes_mask:
            raise ValueError(
                f"{self.manifest.name} fills no holes, as it has no live input with a mask: use bundles/fill"
            )
        hole = Hole.open(what, *self.live_size, **options)
        self.hole = hole
        return hole

    @property
    def skip_similar(self) -> float | None:
        """The similarity from which live frames are left out, and the frame before is returned again; None: never.

        In (0, 1), as `runtime.similar_frames.SimilarFrames`. At most ten frames in a row are left out. If the bundle
        has states, the eight frames after a change are made. A bundle without a live input, or with a mask, raises
        ValueError.
        """
        return None if self._step_inputs.similar is None else self._step_inputs.similar.threshold

    @skip_similar.setter
    def skip_similar(self, threshold: float | None) -> None:
        if threshold is not None and (not self.has_live_input or self.takes_mask):
            why = "it takes a mask with its live input" if self.takes_mask else "it has no live input"
            raise ValueError(f"{self.manifest.name} cannot skip similar frames, as {why}: leave it out")
        settle = SETTLE_FRAMES if self.manifest.step.inputs_of("state") else 0
        self._step_inputs.similar = None if threshold is None else SimilarFrames(threshold, settle=settle)

    @property
    def skipped(self) -> int:
        """How many frames were the ones before again because of `skip_similar`."""
        return 0 if self._step_inputs.similar is None else self._step_inputs.similar.skipped

    def feed_live(self, frame: FrameArray, mask: FrameArray | None = None) -> None:
        """Set the frame of the live input; it is used from the next frame on until another one arrives.

        Args:
            frame: uint8 (h, w, 3) RGB; copied, and fitted by centre crop and resize to the input's size.
            mask: uint8 (h, w) or (h, w, 1) of the input's size, 255 where the frame is used; None for what `hole` says.

        Raises:
            ValueError: the generator has no live input, or an array has the wrong dtype or shape.
            EngineError: the engine of the hole's network failed.
        """
        self._step_inputs.feed_live(frame, mask)

    def feed_view(self, frame: FrameArray) -> None:
        """Set the frame of the live input as `feed_live` does, without a copy; for the thread that makes frames.

        Args:
            frame: uint8 (h, w, 3) RGB of exactly `live_size`, used but for the `hole`. It is read when the next frame
                is made, and may be read again until another one is fed: its memory must stay valid, its content may
                change.

        Raises:
            ValueError: the generator has no live input, or the frame has the wrong dtype or shape.
        """
        self._step_inputs.feed_view(frame)
