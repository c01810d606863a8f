"""What golden frames do not show: every control at both ends of its range, and a cross-fade to another scene."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from export.from_onnx.parity import moving_frames
from runtime.bundle.controls import ControlSpec
from runtime.bundle.manifest import Manifest
from runtime.generator import Generator
from runtime.live_frames import FrameArray

PATTERN = 6  # frames of the live test pattern, which repeats
_HELD = 2  # frames at each end of a control
_FADE = 6  # frames of the cross-fade
_MAX_CONTROLS = 16  # that are moved
_OTHER_SEED = 1_000_033


def count_moves(manifest: Manifest) -> int:
    """Return how many frames `moved_frames` makes."""
    return 2 * _HELD * len(_controls(manifest)) + (_FADE if manifest.condition is not None else 0)


def moved_frames(generator: Generator) -> Iterator[FrameArray]:
    """Make frames while controls are moved and scenes change; yields each, valid until the next one.

    Args:
        generator: of the bundle, without renewal; shows a scene, if the bundle has scenes. Its controls get their
            defaults back.
    """
    manifest, live = generator.manifest, live_pattern(generator.manifest)

    def make(count: int) -> Iterator[FrameArray]:
        for number in range(count):
            if live is not None:
                generator.feed_live(live[number % len(live)])
            yield next(generator)

    for control in _controls(manifest):
        for value in (control.minimum, control.maximum):
            generator.set_control(control.name, value)
            yield from make(_HELD)
        generator.set_control(control.name, control.default)
    if manifest.condition is not None:
        show_scene(generator, seed=_OTHER_SEED, dissolve_s=_FADE / float(generator.fps))
        yield from make(_FADE)


def live_pattern(manifest: Manifest, start: int = 0) -> npt.NDArray[np.uint8] | None:
    """Return a moving test pattern for the live input, uint8 (T, h, w, 3); None if the bundle has no such input."""
    tensor = manifest.step.only_input("live")
    return None if tensor is None else moving_frames(tensor.shape[1], tensor.shape[2], PATTERN, start)


def show_scene(
    generator: Generator,
    image: npt.NDArray[np.uint8] | None = None,
    *,
    seed: int | None = None,
    dissolve_s: float = 0.0,
) -> None:
    """Show a scene of a picture; without one, of a seed, or of a test pattern if the bundle takes no seeds.

    Args:
        generator: of a bundle with a condition graph.
        image: uint8 (H, W, 3), of the frames' size.
        seed: of the scene, or another test pattern; None for the generator's.
        dissolve_s: length of the cross-fade in seconds.
    """
    if image is None and "seed" not in generator.takes and "image" in generator.takes:
        image = moving_frames(generator.height, generator.width, 1, start=5 if seed is None else 9)[0]
    if image is not None:
        generator.condition(image=image, dissolve_s=dissolve_s)
    elif seed is not None and "seed" in generator.takes:
        generator.condition(seed=seed, dissolve_s=dissolve_s)
    else:
        generator.condition(dissolve_s=dissolve_s)


def _controls(manifest: Manifest) -> list[ControlSpec]:
    """Return the controls that the step graph reads; the others choose scenes."""
    return [control for control in manifest.controls.values() if control.target == "step"][:_MAX_CONTROLS]
