"""One model of a plan (a stage): its tensors with roles and fixed shapes, found by a run of the original."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from export.from_onnx.model import GraphPort, OnnxSource
from export.from_onnx.original import Array, OriginalModel, encode_picture
from export.from_onnx.pixels import PictureSpec
from export.from_onnx.role_parser import PICTURES, TensorRole
from export.from_onnx.roles import picture_layouts, to_picture_spec

MAX_VALUES = 2**28  # of an input: 1 GiB in FP32, which is the runtime's limit
_MAX_RUNS = 4  # to find a state's shape: it starts with sides of 1 and takes its output's shape until both agree

TensorType = tuple[str, tuple[int, ...]]  # dtype, shape


@dataclass
class PlannedGraph:
    """One model: the tensors that the frame depends on, each with a role and a fixed shape.

    Args:
        source: the file.
        original: a session of the file.
        roles: of every input that the outputs depend on.
        inputs: (dtype, shape) of these inputs.
        outputs: (dtype, shape) of the wanted outputs.
        pictures: format of each picture among them.
        unused: (dtype, shape) of all other inputs.
    """

    source: OnnxSource
    original: OriginalModel
    roles: dict[str, TensorRole]
    inputs: dict[str, TensorType]
    outputs: dict[str, TensorType]
    pictures: dict[str, PictureSpec] = field(default_factory=dict)
    unused: dict[str, TensorType] = field(default_factory=dict)

    def inputs_of(self, *kinds: str) -> list[str]:
        """Return the names of the inputs with one of these roles, in the file's order."""
        return [name for name in self.inputs if self.roles[name].kind in kinds]

    def count(self, name: str) -> int:
        """Return the number of an input's values."""
        return int(np.prod(self.inputs[name][1], dtype=np.int64))

    def value(self, name: str) -> Array:
        """Return a fixed input's value, a control's default or a state's first value; zeros for other roles."""
        dtype, shape = self.inputs[name]
        values = self.roles[name].values
        count = self.count(name)
        if self.roles[name].kind == "control" and len(values) <= count:
            low, high = self.roles[name].limits
            rest = [min(max(0.0, low), high)] * (count - len(values))
            return np.array([*values, *rest]).astype(dtype).reshape(shape)
        if values and len(values) not in (1, count):
            raise ValueError(f'"{name}" has {count} values, got {len(values)}')
        return np.full(count, values or 0.0).astype(dtype).reshape(shape)


def pin_shapes(
    source: OnnxSource,
    roles: dict[str, TensorRole],
    size: tuple[int, int] | None,
    shapes: Mapping[str, tuple[int, ...]],
    memories: Mapping[str, TensorType],
) -> PlannedGraph:
    """Fix the shape of every input, and run the model to get the shapes of its outputs.

    Args:
        source: the file.
        roles: the known roles of the inputs.
        size: (width, height) of pictures whose size is free, or None.
        shapes: shapes given by the user.
        memories: (dtype, shape) of the first model's outputs.

    Returns:
        The planned graph with every input and output of the file.

    Raises:
        ValueError: an axis stays free, a shape is not possible or too large, or the model fails.
    """
    ports = [_shaped(port, shapes, memories) for port in source.inputs]
    table = {port.shape[0]: 1 for port in ports if port.shape and isinstance(port.shape[0], str) and port.shape[0]}
    ports = [_pin_picture(port, roles[port.name], size, table) if _is_picture(roles, port) else port for port in ports]
    original = OriginalModel(source)
    stage = PlannedGraph(source, original, roles, {}, {})
    open_shapes: set[str] = set()
    for port in ports:
        kind = roles[port.name].kind if port.name in roles else ""
        shape: list[int] = []
        for place, length in enumerate(port.shape):
            if isinstance(length, int) or length in table or place == 0:
                shape.append(length if isinstance(length, int) else table.get(length, 1))
            elif kind in ("state", "fixed", ""):
                shape.append(1)
                open_shapes.add(port.name)
            else:
                raise ValueError(f"the input {port} has free axes: give its shape with --shape {port.name}=1x...")
        stage.inputs[port.name] = (port.dtype, tuple(shape))
        if (count := prod(shape)) > MAX_VALUES:
            raise ValueError(
                f"the input {port} has {count} values, at most {MAX_VALUES} are read: give a smaller --size or "
                "--shape, or export the model for a smaller one"
            )
    for name in (name for name in stage.inputs if name in roles and roles[name].kind in PICTURES):
        stage.pictures[name] = to_picture_spec(name, *stage.inputs[name], roles[name], source.stated)
    for _ in range(_MAX_RUNS):
        found = original.run({name: _example(stage, name) for name in stage.inputs})
        stage.outputs = {name: (value.dtype.name, tuple(value.shape)) for name, value in found.items()}
        grown = {
            name: stage.outputs[roles[name].output]
            for name in open_shapes
            if name in roles and roles[name].output in stage.outputs
        }
        if all(stage.inputs[name] == kind for name, kind in grown.items()):
            return stage
        stage.inputs |= grown
    raise ValueError(
        f"no stable shape was found for the states {', '.join(sorted(open_shapes))}: give it with --shape NAME=1x..."
    )


def _shaped(port: GraphPort, shapes: Mapping[str, tuple[int, ...]], memories: Mapping[str, TensorType]) -> GraphPort:
    shape = shapes.get(port.name)
    if shape is None and port.name in memories:
        shape = memories[port.name][1]
    if shape is None:
        return port
    if len(shape) != len(port.shape) or any(
        isinstance(stated, int) and stated != length for stated, length in zip(port.shape, shape, strict=True)
    ):
        where = "of --shape" if port.name in shapes else "of the first model's output"
        raise ValueError(f"the input {port} cannot have the shape {list(shape)} {where}")
    return replace(port, shape=shape)


def _is_picture(roles: Mapping[str, TensorRole], port: GraphPort) -> bool:
    return port.name in roles and roles[port.name].kind in PICTURES


def _pin_picture(port: GraphPort, role: TensorRole, size: tuple[int, int] | None, table: dict[str, int]) -> GraphPort:
    layouts = [layout for layout in picture_layouts(port.shape) if role.layout in ("", layout)]
    if len(layouts) != 1:
        problem = "can be nchw or nhwc" if layouts else "is not a picture of 1 or 3 channels"
        raise ValueError(f"the input {port} {problem}: pass --role {port.name}={role.kind}:nchw, or its --shape")
    shape = list(port.shape)
    for axis, side in zip((2, 3) if layouts[0] == "nchw" else (1, 2), (1, 0), strict=True):
        name = shape[axis]
        if isinstance(name, str):
            if size is None:
                raise ValueError(f"the input {port} has a free size: pass --size WxH")
            shape[axis] = size[side]
            if name:
                table.setdefault(name, size[side])
        elif size is not None and role.kind == "live" and name != size[side]:
            raise ValueError(f"the input {port} has a fixed size: --size {size[0]}x{size[1]} is not possible")
    return replace(port, shape=tuple(shape))


def _example(stage: PlannedGraph, name: str) -> Array:
    if name in stage.pictures:
        picture = stage.pictures[name]
        grey = np.full((*picture.size, picture.channels), 128, np.uint8)
        return encode_picture(grey, picture)
    if name in stage.roles:
        return stage.value(name)
    dtype, shape = stage.inputs[name]
    return np.zeros(shape, dtype)
