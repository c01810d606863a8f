"""Turns a bundle whose step graph makes moves (schema 2) into one whose step graph makes frames of a wanted size.

The pixel stage is added to the step graph, before any engine sees it. The condition graph and the one that makes
pictures up are wrapped so that they read and make pictures of the frame's size.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import onnx

from runtime.bundle.manifest import Manifest, WorkShape
from runtime.bundle.pruning import pruned_model
from runtime.bundle.reader import Bundle
from runtime.bundle.tensors import GraphSpec, TensorSpec
from runtime.errors import BundleError
from runtime.pixels.planes import SHARP, padded_shape
from runtime.pixels.scene_session import AREAS, HAS_MOVING, KEPT, kept_inputs, kept_mask
from runtime.pixels.stage import PREFIX, build_pixel_stage, plane_sets

MIN_SIDE, MAX_SIDE = 16, 4096  # pixels of a frame
_OPSETS = range(16, 20)  # in which all operations of the pixel stage mean the same


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return a frame size (width, height).

    Raises:
        ValueError: it is odd, or not from `MIN_SIDE` to `MAX_SIDE`.
    """
    width, height = size
    if width % 2 or height % 2 or not all(MIN_SIDE <= side <= MAX_SIDE for side in size):
        raise ValueError(
            f"the frame size is {width}x{height}: width and height must be even, from {MIN_SIDE} to {MAX_SIDE}"
        )
    return width, height


def frame_size(manifest: Manifest, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the (width, height) of a bundle's frames if the user asks for `size`, None for the bundle's own.

    Raises:
        ValueError: the size is not allowed, or not the only one of a bundle of schema 1.
    """
    own = (manifest.frame.width, manifest.frame.height)
    if size is None or size == own:
        return own
    if not manifest.shapes:
        raise ValueError(
            f"{manifest.name} makes frames of {own[0]}x{own[1]} only, got the size {size[0]}x{size[1]}: leave it out, "
            "or use a bundle of schema 2"
        )
    return check_size(size)


def with_size(bundle: Bundle, size: tuple[int, int] | None, pixels: str) -> Bundle:
    """Return a bundle whose step graph makes frames of a size.

    Args:
        bundle: of any schema.
        size: (width, height) in pixels; None for the bundle's own.
        pixels: "rgb" or "i420".

    Returns:
        The bundle itself if it is of schema 1.

    Raises:
        BundleError: the step graph cannot be extended.
        ValueError: the size is not allowed, or not the only one of a bundle of schema 1.
    """
    manifest = bundle.manifest
    width, height = frame_size(manifest, size)
    if not manifest.shapes:
        return bundle
    shape = nearest_shape(manifest, width / height)
    step, condition = bundle.shapes[manifest.shapes.index(shape)]
    assembled = replace(
        manifest,
        frame=replace(manifest.frame, width=width, height=height),
        step=_step_spec(shape.step, width, height, pixels),
        condition=_scene_spec(manifest, shape.condition, width, height, pixels),
    )
    merge = partial(_with_pixel_stage, step, shape.step, (width, height), pixels, (shape.width, shape.height))
    return replace(
        bundle,
        manifest=assembled,
        step=merge(half=False),
        condition=condition,
        work=shape.condition,
        build_half=partial(merge, half=True),
        int8=None if bundle.int8 is None else with_size(bundle.int8, size, pixels),
    )


def compared_size(bundle: Bundle) -> tuple[int, int] | None:
    """Return the (width, height) in which a bundle's clips are compared; None if it cannot play clips.

    Args:
        bundle: as `with_size` returns it.
    """
    image = None if bundle.work is None else bundle.work.only_input("image")
    return None if image is None else (image.shape[2], image.shape[1])


def nearest_shape(manifest: Manifest, aspect: float) -> WorkShape:
    """Return the work size, and its graphs, whose aspect ratio is closest; the manifest has at least one."""
    return min(manifest.shapes, key=lambda shape: abs(math.log(shape.width / shape.height / aspect)))


def _step_spec(step: GraphSpec, width: int, height: int, pixels: str) -> GraphSpec:
    pictures = tuple(
        TensorSpec(item.name, "float32", item.shape, "picture") for item in plane_sets(width, height, pixels)
    )
    shape = (1, height, width, 3) if pixels == "rgb" else (1, height * 3 // 2, width)
    frame = TensorSpec(f"{PREFIX}{pixels}", "uint8", shape, "frame", pixels=pixels)
    return GraphSpec(step.file, (*step.inputs, *pictures), (frame, *step.outputs_of("state")))


def _scene_spec(manifest: Manifest, condition: GraphSpec, width: int, height: int, pixels: str) -> GraphSpec:
    """Return the tensors of a `SceneSession`."""
    inputs = [TensorSpec(f"{PREFIX}has_image", "uint8", (1,), "mask", of=("image",))]
    for item in condition.inputs:
        is_picture = item.role in ("image", "clip", "moving")
        resized = (*item.shape[:-3], height, width, item.shape[-1])
        inputs.append(replace(item, shape=resized if is_picture else item.shape))
    inputs[0] = replace(inputs[0], of=tuple(item.name for item in condition.inputs_of("image")))
    inputs += [TensorSpec(HAS_MOVING, "uint8", (1,), "mask", of=(item.name,)) for item in condition.inputs_of("moving")]
    if manifest.paint is not None:
        inputs += manifest.paint.inputs
    planes = tuple(
        TensorSpec(item.name + ending, "uint8", padded_shape(item), "memory")
        for item in plane_sets(width, height, pixels)
        for ending in ("", SHARP)
    )
    kept = tuple(replace(item, name=KEPT + item.name, role="kept", of=()) for item in kept_inputs(condition))
    if (mask := kept_mask(condition)) is not None:
        kept = (*kept, replace(mask, name=KEPT + AREAS, role="kept", of=()))
    return GraphSpec(condition.file, tuple(inputs), (*condition.outputs, *planes, *kept))


def _with_pixel_stage(
    step: onnx.ModelProto, spec: GraphSpec, size: tuple[int, int], pixels: str, work: tuple[int, int], *, half: bool
) -> onnx.ModelProto:
    moves = spec.outputs_of("moves")[0]
    opset = next((item.version for item in step.opset_import if item.domain in ("", "ai.onnx")), 0)
    if opset not in _OPSETS:
        raise BundleError(
            f"{spec.file} has the opset {opset}, expected {_OPSETS[0]} to {_OPSETS[-1]} of a graph that makes moves: "
            "export it with one of these"
        )
    names = [name for node in step.graph.node for name in (node.name, *node.output)]
    names += [item.name for item in (*step.graph.input, *step.graph.initializer)]
    if any(name.startswith(PREFIX) for name in names):
        raise BundleError(f"{spec.file} has a tensor whose name begins with {PREFIX}, which the runtime uses itself")
    stage = build_pixel_stage(*size, pixels, work, moves, half=half)
    merged = pruned_model(step, [item.name for item in spec.outputs])
    merged.graph.node.extend(stage.node)
    merged.graph.initializer.extend(stage.initializer)
    merged.graph.input.extend(item for item in stage.input if item.name != moves.name)
    states = [item for item in merged.graph.output if item.name != moves.name]
    del merged.graph.output[:]
    merged.graph.output.extend([*stage.output, *states])
    return merged
