"""A model and what was said of it -> a plan: a role, a type and a fixed shape for every tensor that matters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from export.import_model import Port, Source, needed_inputs
from export.import_original import Array, Original, feed_picture
from export.import_pixels import Picture
from export.import_roles import (
    PICTURES,
    VECTORS,
    Role,
    guess_frame,
    guess_inputs,
    guess_states,
    parse_roles,
    picture_layouts,
    to_picture_spec,
)
from runtime.fields import nearest
from runtime.tensors import DTYPES

_ROUNDS = 4  # of finding a state's shape: it starts with sides of 1, and takes its output's until both agree
_MOVES = ("Identity", "Cast", "Transpose", "Reshape", "QuantizeLinear", "DequantizeLinear")  # keep a picture's range
_BOUNDED = ("Sigmoid", "Tanh")

Kind = tuple[str, tuple[int, ...]]  # dtype, shape


@dataclass
class Stage:
    """One file: its tensors that matter, each with a role and a fixed shape.

    Args:
        source: the file.
        original: a session of it as it was given.
        roles: of every input that the wanted outputs depend on.
        inputs: (dtype, shape) of these inputs.
        outputs: (dtype, shape) of the wanted outputs.
        pictures: how each picture among them is written.
        idle: (dtype, shape) of the inputs that are left out.
    """

    source: Source
    original: Original
    roles: dict[str, Role]
    inputs: dict[str, Kind]
    outputs: dict[str, Kind]
    pictures: dict[str, Picture] = field(default_factory=dict)
    idle: dict[str, Kind] = field(default_factory=dict)

    def of(self, *kinds: str) -> list[str]:
        """Return the names of the inputs with one of these roles, in the file's order."""
        return [name for name in self.inputs if self.roles[name].kind in kinds]

    def count(self, name: str) -> int:
        """Return how many values an input has."""
        return int(np.prod(self.inputs[name][1], dtype=np.int64))

    def value(self, name: str) -> Array:
        """Return what an input holds that is fixed or a control at its default, else zeros."""
        dtype, shape = self.inputs[name]
        values = self.roles[name].values
        count = self.count(name)
        if self.roles[name].kind == "control" and len(values) <= count:
            return np.array([*values, *[0.0] * (count - len(values))]).astype(dtype).reshape(shape)
        if values and len(values) not in (1, count):
            raise ValueError(f'"{name}" has {count} values, got {len(values)}')
        return np.full(count, values or 0.0).astype(dtype).reshape(shape)


@dataclass
class Plan:
    """What is to be built.

    Args:
        step: the file that runs once per frame.
        first: the file that runs when the prompt changes, or None.
        frame: name of the step's output that is shown.
        size: (H, W) of the frame, even.
        assumed: pictures whose range nobody said and nothing shows.
    """

    step: Stage
    first: Stage | None
    frame: str
    size: tuple[int, int]
    assumed: tuple[str, ...]


def make_plan(
    step: Source,
    first: Source | None,
    *,
    roles: Collection[str] = (),
    size: tuple[int, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> Plan:
    """Find out what every tensor is.

    Args:
        step: the file that runs once per frame.
        first: the file that runs when the prompt changes, or None.
        roles: `TENSOR=ROLE[:DETAILS]` each.
        size: (width, height) to which free sides of pictures are pinned, or None.
        shapes: of tensors whose free axes nothing else tells.

    Raises:
        ValueError: something is in doubt, or cannot go on air; the message says what would help.
    """
    given = parse_roles(roles)
    shapes = shapes or {}
    sources = [step] if first is None else [first, step]
    names = {port.name for source in sources for port in (*source.inputs, *source.outputs)}
    for name in (*given, *shapes):
        if name not in names:
            raise ValueError(f'there is no tensor "{name}" {nearest(name, names)}')
    before = None if first is None else _plan_first(first, given, size, shapes)
    stage, frame = _plan_step(step, before, given, size, shapes)
    height, width = (side - side % 2 for side in stage.pictures[frame].size)
    if size is not None and not any(_is_free(port) for source in sources for port in source.inputs):
        live = [stage.pictures[name].size for name in stage.of("live")] or [(height, width)]
        if (size[1], size[0]) not in live:
            got = f"{live[0][1]}x{live[0][0]}"
            raise ValueError(f"--size {size[0]}x{size[1]} cannot be had: every axis of {step.path} is fixed, at {got}")
    assumed = [name for name in stage.pictures if name != frame and _is_assumed(given.get(name), stage, name)]
    if _is_assumed(given.get(frame), stage, frame) and _last(step, frame) not in _BOUNDED:
        assumed.append(frame)
    if before is not None:
        assumed += [name for name in before.pictures if _is_assumed(given.get(name), before, name)]
    return Plan(stage, before, frame, (height, width), tuple(assumed))


def _plan_first(
    source: Source, given: Mapping[str, Role], size: tuple[int, int] | None, shapes: Mapping[str, tuple[int, ...]]
) -> Stage:
    roles = {port.name: given[port.name] for port in source.inputs if port.name in given}
    for name, role in roles.items():
        if role.kind not in ("image", "latent", "fixed"):
            raise ValueError(
                f'"{name}" of {source.path} has the role {role.kind}: the first model runs when the prompt changes, '
                "and takes image, latent or fixed"
            )
    unknown = [port for port in source.inputs if port.name not in roles]
    pictures = [port for port in unknown if picture_layouts(port.shape)]
    if len(pictures) == 1:
        roles[pictures[0].name] = Role("image")
    elif len(unknown) == 1 and not pictures:
        roles |= {name: Role("latent") for name in guess_inputs(unknown, {}, ())}
    return _settle(source, roles, size, shapes, {})


def _plan_step(
    source: Source,
    first: Stage | None,
    given: Mapping[str, Role],
    size: tuple[int, int] | None,
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[Stage, str]:
    memories = {} if first is None else first.outputs
    for port in source.inputs:
        if port.name in given and given[port.name].kind == "memory" and port.name not in memories:
            raise ValueError(f'the memory "{port.name}" is no output of the first model {nearest(port.name, memories)}')
    # An input that does not matter for the frame needs no role, so the frame is looked for first if it was named.
    named = [name for name, role in given.items() if role.kind == "frame"]
    wanted = [*named, *(role.output for role in given.values() if role.output)]
    known = {port.name for port in source.outputs}
    if set(wanted) - known:
        missing = sorted(set(wanted) - known)[0]
        raise ValueError(f'there is no output "{missing}" in {source.path} {nearest(missing, known)}')
    ports = source.inputs
    if named:
        needed = needed_inputs(source, wanted)
        ports = tuple(port for port in ports if port.name in needed or port.name in given)
    roles = guess_inputs(ports, given, memories)
    if not any(role.kind in ("live", "latent", "noise", "memory", "state", "image") for role in roles.values()):
        listed = ", ".join(str(port) for port in source.inputs) or "none"
        raise ValueError(
            f"no input can be a live picture or what a picture is made from: {listed}; give roles with --role"
        )
    stage = _settle(source, roles, size, shapes, memories)
    frame = guess_frame({name: shape for name, (_, shape) in stage.outputs.items()}, given, _followers(stage.roles))
    rest = {name: kind for name, kind in stage.outputs.items() if name != frame or name in _followers(stage.roles)}
    stage.roles = guess_states(stage.roles, stage.inputs, rest)
    wanted = [frame, *(name for name in _followers(stage.roles) if name != frame)]
    needed = needed_inputs(source, wanted)
    for name, (dtype, shape) in stage.inputs.items():
        if name in needed and name not in stage.roles:
            raise ValueError(
                f'the input "{name}" ({dtype} {list(shape)}) may be many things: say --role {name}=ROLE, where ROLE is '
                f"state:OUTPUT, image, {', '.join(VECTORS)} or fixed:VALUE"
            )
    stage.idle = {name: kind for name, kind in stage.inputs.items() if name not in needed}
    stage.inputs = {name: kind for name, kind in stage.inputs.items() if name in needed}
    stage.roles = {name: role for name, role in stage.roles.items() if name in needed}
    for name in stage.of("state"):
        if stage.inputs[name][0] not in DTYPES:
            raise ValueError(f'the state "{name}" is {stage.inputs[name][0]}: a state may be {", ".join(DTYPES)}')
    dtype, shape = stage.outputs[frame]
    role = given.get(frame, Role("frame"))
    stage.pictures[frame] = to_picture_spec(frame, dtype, shape, role, _last(source, frame))
    stage.outputs = {name: stage.outputs[name] for name in wanted}
    for kind in ("live", "mask"):
        if len(stage.of(kind)) > 1:
            raise ValueError(f"there is one {kind} input, got {' and '.join(stage.of(kind))}: give another role to one")
    if stage.of("mask") and not stage.of("live"):
        raise ValueError(
            f'the mask "{stage.of("mask")[0]}" needs a live picture beside it: give an input the role live'
        )
    return stage, frame


def _settle(
    source: Source,
    roles: dict[str, Role],
    size: tuple[int, int] | None,
    shapes: Mapping[str, tuple[int, ...]],
    memories: Mapping[str, Kind],
) -> Stage:
    """Pin every axis of the inputs and run the model once, to learn its outputs' shapes."""
    ports = [_shaped(port, shapes, memories) for port in source.inputs]
    table = {port.shape[0]: 1 for port in ports if port.shape and isinstance(port.shape[0], str) and port.shape[0]}
    ports = [_pin_picture(port, roles[port.name], size, table) if _is_picture(roles, port) else port for port in ports]
    original = Original(source)
    stage = Stage(source, original, roles, {}, {})
    loose: set[str] = set()
    for port in ports:
        kind = roles[port.name].kind if port.name in roles else ""
        shape: list[int] = []
        for place, length in enumerate(port.shape):
            if isinstance(length, int) or length in table or place == 0:
                shape.append(length if isinstance(length, int) else table.get(length, 1))
            elif kind in ("state", "fixed", ""):
                shape.append(1)
                loose.add(port.name)
            else:
                raise ValueError(f"the input {port} has free axes: give its shape with --shape {port.name}=1x...")
        stage.inputs[port.name] = (port.dtype, tuple(shape))
    for name in (name for name in stage.inputs if name in roles and roles[name].kind in PICTURES):
        stage.pictures[name] = to_picture_spec(name, *stage.inputs[name], roles[name])
    for _ in range(_ROUNDS):
        found = original.run({name: _example(stage, name) for name in stage.inputs})
        stage.outputs = {name: (value.dtype.name, tuple(value.shape)) for name, value in found.items()}
        grown = {
            name: stage.outputs[roles[name].output]
            for name in loose
            if name in roles and roles[name].output in stage.outputs
        }
        if all(stage.inputs[name] == kind for name, kind in grown.items()):
            return stage
        stage.inputs |= grown
    raise ValueError(f"the states {', '.join(sorted(loose))} have no shape that lasts: give it with --shape NAME=1x...")


def _shaped(port: Port, shapes: Mapping[str, tuple[int, ...]], memories: Mapping[str, Kind]) -> Port:
    shape = shapes.get(port.name)
    if shape is None and port.name in memories:
        shape = memories[port.name][1]
    if shape is None:
        return port
    if len(shape) != len(port.shape) or any(
        isinstance(stated, int) and stated != length for stated, length in zip(port.shape, shape, strict=True)
    ):
        where = "the first model gives" if port.name not in shapes else "--shape says"
        raise ValueError(f"the input {port} cannot have the shape {list(shape)} that {where}")
    return replace(port, shape=shape)


def _is_picture(roles: Mapping[str, Role], port: Port) -> bool:
    return port.name in roles and roles[port.name].kind in PICTURES


def _is_free(port: Port) -> bool:
    return any(isinstance(length, str) for length in port.shape[1:])


def _pin_picture(port: Port, role: Role, size: tuple[int, int] | None, table: dict[str, int]) -> Port:
    layouts = [layout for layout in picture_layouts(port.shape) if role.layout in ("", layout)]
    if len(layouts) != 1:
        doubt = "may be nchw or nhwc" if layouts else "is no picture of 1 or 3 channels"
        raise ValueError(f"the input {port} {doubt}: say --role {port.name}={role.kind}:nchw, or its --shape")
    shape = list(port.shape)
    for axis, side in zip((2, 3) if layouts[0] == "nchw" else (1, 2), (1, 0), strict=True):
        name = shape[axis]
        if isinstance(name, str):
            if size is None:
                raise ValueError(f"the input {port} has a free size: say which with --size WxH")
            shape[axis] = size[side]
            if name:
                table.setdefault(name, size[side])
        elif size is not None and role.kind == "live" and name != size[side]:
            raise ValueError(f"the input {port} has a fixed size: --size {size[0]}x{size[1]} cannot be had")
    return replace(port, shape=tuple(shape))


def _example(stage: Stage, name: str) -> Array:
    if name in stage.pictures:
        picture = stage.pictures[name]
        grey = np.full((*picture.size, picture.channels), 128, np.uint8)
        return feed_picture(grey, picture)
    if name in stage.roles:
        return stage.value(name)
    dtype, shape = stage.inputs[name]
    return np.zeros(shape, dtype)


def _followers(roles: Mapping[str, Role]) -> list[str]:
    return [role.output for role in roles.values() if role.kind == "state" and role.output]


def _is_assumed(role: Role | None, stage: Stage, name: str) -> bool:
    return (role is None or not role.range) and stage.pictures[name].dtype != "uint8"


def _last(source: Source, output: str) -> str:
    """Return the operator that makes an output's values, looking through those that only move them."""
    makers = {name: node for node in source.model.graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _MOVES:
        node = makers.get(node.input[0])
    return "" if node is None else node.op_type
