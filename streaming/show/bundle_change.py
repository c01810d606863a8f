"""Another bundle for a show on air: it is opened and prepared beside the one that plays, then faded in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from runtime import EngineError
from runtime.chain import FrameSource
from streaming.control.controller import ShowController
from streaming.control.cues import to_given, to_label
from streaming.sinks.sink import Picture


class BundleChange:
    """Cross-fades from one generator to another; for the show's thread.

    Args:
        before: on air; it is closed, in the background, when the cross-fade is over.
        after: fades in; this object owns it until then.
        bundle: folder of the other bundle.
        controller: of the show; it controls the other generator from the first frame of the cross-fade on.
        frames: length of the cross-fade; 0 and 1 are a cut.
        prompt: what the other generator begins with, if that is not the prompt on air.

    Attributes:
        has_begun: whether the other generator is seen, and controlled.
        is_over: whether only the other generator is seen from the next frame on.
    """

    def __init__(
        self,
        before: FrameSource,
        after: FrameSource,
        bundle: Path,
        controller: ShowController,
        frames: int,
        prompt: Mapping[str, Any] | None = None,
    ) -> None:
        self.before, self.after, self.bundle, self._prompt = before, after, bundle, prompt
        self.has_begun = self.is_over = False
        self._controller, self._frames, self._done = controller, max(1, frames), 0
        self._mixed: Picture | None = None

    @classmethod
    def prepare(
        cls, before: FrameSource, after: FrameSource, bundle: Path, controller: ShowController, dissolve_s: float
    ) -> BundleChange:
        """Check that a generator fits, and make its first scene; closes it if it does not.

        Raises:
            EngineError: its engine failed.
            ValueError: it makes other frames, or the length is out of range.
        """
        try:
            if not 0 <= dissolve_s <= 3600:
                raise ValueError(f"a cross-fade lasts 0 to 3600 seconds, got {dissolve_s}")
            sizes = (before.width, before.height, before.fps), (after.width, after.height, after.fps)
            if sizes[0] != sizes[1]:
                is_, was = (f"{size[0]} x {size[1]} at {float(size[2]):g} fps" for size in reversed(sizes))
                raise ValueError(f"{bundle} makes frames of {is_}, and the show has {was}: choose another bundle")
            if after.has_live_input != before.has_live_input:
                raise ValueError(
                    f"{bundle} does not fit the show: one of the two needs a live input, the other has none"
                )
            after.fit = before.fit
            prompt = _condition(after, controller)
            values = controller.values()
            for spec in after.control_specs:
                if spec.name in values and spec.target != "seed":
                    with contextlib.suppress(ValueError):  # its range is another one
                        after.set_control(spec.name, values[spec.name])
        except BaseException:
            after.close()
            raise
        return cls(before, after, bundle, controller, round(dissolve_s * before.fps), prompt)

    def frame(self) -> Picture:
        """Return the next frame of the cross-fade, valid until the next call.

        Raises:
            EngineError: an engine failed.
        """
        if not self.has_begun:
            self._begin()
        self._done += 1
        share = self._done / self._frames
        if self._done >= self._frames:
            last = next(self.after)
            self.is_over = True
            threading.Thread(target=self._close_before, name="closing a bundle", daemon=True).start()
            return last
        first = next(self.before)
        if self._mixed is None:
            self._mixed = np.empty_like(first)
        weight = round(256 * share)
        mixed = first.astype(np.uint16) * np.uint16(256 - weight) + next(self.after) * np.uint16(weight)
        self._mixed[...] = mixed >> 8
        return self._mixed

    def close(self) -> None:
        """Free the other generator if it has not been taken over."""
        if not self.is_over:
            self.after.close()

    def _begin(self) -> None:
        self.after.go_to(replace(self.after.position(), frame_index=self.before.frame_index))
        prompt, scenes = self._prompt, [scene.name for scene in self.after.manifest.scenes]
        shown = "" if prompt is None else str(prompt.get("scene", ""))
        self._controller.attach(self.after, "" if prompt is None else to_label(prompt), shown)
        if prompt is not None:
            self._controller.announce(prompt)
        self._controller.prepare_again(scenes)
        self.has_begun = True

    def _close_before(self) -> None:
        with contextlib.suppress(EngineError):  # freeing a failed engine may fail too
            self.before.close()


def _condition(generator: FrameSource, controller: ShowController) -> dict[str, Any] | None:
    """Make the prompt on air with another generator if it takes it, else its first scene, else that of its seed.

    Returns:
        The other prompt; None if it is the one on air.
    """
    parts, _, _ = controller.kept()
    with contextlib.suppress(ValueError):
        if parts:
            generator.condition(**to_given(parts))
            return None
    first = next((scene.name for scene in generator.manifest.scenes), None)
    prompt: dict[str, Any] = {"seed": generator.position().seed} if first is None else {"scene": first}
    if generator.takes:
        is_taken = "scene" in prompt or "seed" in generator.takes
        generator.condition(**(prompt if is_taken else {}))
    return prompt
