"""Puts what the user has drawn into scenes: the one place that decides who turns hints into motion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from runtime.bundle.tensors import GraphSpec
from runtime.engines.engine import Array
from runtime.pixels.scene_session import FLOW, KEPT
from runtime.prompts.drawn_motion import frozen, to_raster, with_drawn_motion
from runtime.prompts.hints import Hints
from runtime.prompts.scene import Scene


def raster_for(graph: GraphSpec, hints: Hints, steps_per_s: float) -> npt.NDArray[np.float32]:
    """Return hints as a condition graph reads them.

    Args:
        graph: the tensors of a `SceneSession` whose condition graph has an input of the role `hints`.
        hints: may be empty.
        steps_per_s: how often a second things move by the flow.
    """
    tensor, image = graph.only_input("hints"), graph.only_input("image")
    assert tensor is not None, "a graph that reads no hints"
    assert image is not None, "checked when the bundle was read"
    work = next(item.shape for item in graph.outputs if item.name == KEPT + image.name)
    return to_raster(hints, tensor.shape, work[1] // tensor.shape[2], steps_per_s)


def drawn_over(scene: Scene, hints: Hints, graph: GraphSpec, steps_per_s: float) -> Scene:
    """Return a scene with hints.

    If the condition graph has read them, only what the still brush froze is set; else the flow is drawn here.

    Args:
        scene: its `kept` has the flow that the condition graph made.
        hints: they replace the scene's own.
        graph: the tensors of the `SceneSession` that made it.
        steps_per_s: how often a second things move by the flow.
    """
    if (flow := scene.kept.get(FLOW)) is None:
        return replace(scene, hints=hints)
    if graph.only_input("hints") is not None:
        drawn = frozen(flow, hints)
    else:
        image, moving = graph.only_input("image"), graph.only_input("moving")
        assert image is not None, "checked when the bundle was read"
        picture = scene.kept[image.name][0]
        mask = np.full(picture.shape[:2], 255, np.uint8) if moving is None else scene.kept[moving.name][0, ..., 0]
        drawn = with_drawn_motion(flow, hints, picture, mask, steps_per_s)
    return replace(scene, tensors=read_only({**scene.tensors, FLOW: drawn}), hints=hints)


def read_only(tensors: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return a view of tensors that cannot be changed."""
    for array in tensors.values():
        array.flags.writeable = False
    return MappingProxyType(dict(tensors))
