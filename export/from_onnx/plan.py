"""The plan of an import: role, type and fixed shape of every tensor that the frame depends on."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from export.from_onnx.batch import check_single_batch, to_single_batch
from export.from_onnx.default_values import optional_inputs, use_defaults
from export.from_onnx.memories import match_memories, wanted_outputs
from export.from_onnx.model import GraphPort, OnnxSource, needed_inputs, refuse_custom_operators
from export.from_onnx.planned_graph import PlannedGraph, pin_shapes
from export.from_onnx.role_parser import TEXTS, VECTORS, TensorRole, parse_roles
from export.from_onnx.role_patterns import suggest_roles
from export.from_onnx.roles import (
    BOUNDED,
    EVIDENT,
    guess_frame,
    guess_inputs,
    guess_states,
    picture_layouts,
    to_picture_spec,
)
from export.from_onnx.text_inputs import TextOptions, TextPlan, check_vocabulary, guess_text, plan_text
from runtime.bundle.strict_json import nearest
from runtime.bundle.tensors import DTYPES

MIN_FRAME, MAX_FRAME = 16, 4096  # pixels (docs/bundle.md)
_MOVES = (
    "Identity",
    "Cast",
    "Transpose",
    "Reshape",
    "QuantizeLinear",
    "DequantizeLinear",
)  # operators that keep a picture's range


@dataclass
class ImportPlan:
    """A model's one or two graphs, with their roles and shapes.

    Args:
        step: the model that runs once per frame.
        first: the model that runs when the prompt changes, or None.
        frame: name of the step's output that is the frame.
        size: (H, W) of the frame, even.
        assumed: pictures whose range was not given.
        bounded_by: Sigmoid or Tanh, if the frame ends in it; else "".
        text: the inputs of the first model that a text fills, or None.
    """

    step: PlannedGraph
    first: PlannedGraph | None
    frame: str
    size: tuple[int, int]
    assumed: tuple[str, ...]
    bounded_by: str = ""
    text: TextPlan | None = None

    @property
    def memories(self) -> dict[str, str]:
        """The memories: input of the step -> output of the first model."""
        return {name: self.step.roles[name].output for name in self.step.inputs_of("memory")}


def make_plan(
    step: OnnxSource,
    first: OnnxSource | None,
    *,
    roles: Collection[str] = (),
    size: tuple[int, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    text: TextOptions | None = None,
) -> ImportPlan:
    """Determine role, type and shape of every tensor.

    Args:
        step: the model that runs once per frame.
        first: the model that runs when the prompt changes, or None.
        roles: `TENSOR=ROLE[:DETAILS]` each.
        size: (width, height) of pictures whose size is free, or None.
        shapes: shapes of tensors with other free axes.
        text: tokenizers and length of texts.

    Raises:
        ValueError: a role or shape is ambiguous or not supported; the message suggests a fix.
    """
    sources = [step] if first is None else [first, step]
    given = parse_roles(
        roles,
        {port.name for source in sources for port in source.inputs} | optional_inputs(step),
        {port.name for source in sources for port in source.outputs},
    )
    step, given = use_defaults(step, given)
    sources = [step] if first is None else [first, step]
    if first is not None:
        refuse_custom_operators(first, ())
    refuse_custom_operators(step, [name for name, role in given.items() if role.kind == "frame"])
    shapes = shapes or {}
    names = {port.name for source in sources for port in (*source.inputs, *source.outputs)}
    step, first = to_single_batch(step, given), None if first is None else to_single_batch(first, given)
    sources = [step] if first is None else [first, step]
    for name in (*given, *shapes):
        if name not in names:
            raise ValueError(f'there is no tensor "{name}" {nearest(name, names)}')
    text = text or TextOptions()
    if first is None and (text.tokenizers or any(role.kind in TEXTS for role in given.values())):
        raise ValueError(
            "texts are read when the prompt changes: give the model that takes their tokens by --condition"
        )
    before, texts = (None, None) if first is None else _plan_first(first, step, given, size, shapes, text)
    stage, frame = _plan_step(step, before, given, size, shapes)
    height, width = (side - side % 2 for side in stage.pictures[frame].size)
    if not all(MIN_FRAME <= side <= MAX_FRAME for side in (height, width)):
        raise ValueError(
            f'the frame "{frame}" is {width} x {height} pixels, and a frame has {MIN_FRAME} to {MAX_FRAME} in each '
            "direction: choose another --size, or export the model for another one"
        )
    if size is not None and not any(_is_free(port) for source in sources for port in source.inputs):
        live = [stage.pictures[name].size for name in stage.inputs_of("live")] or [(height, width)]
        if (size[1], size[0]) not in live:
            got = f"{live[0][1]}x{live[0][0]}"
            raise ValueError(f"--size {size[0]}x{size[1]} is not possible: {step.path} has the fixed size {got}")
    assumed = [name for name in stage.pictures if name != frame and _is_assumed(given.get(name), stage, name)]
    if _is_assumed(given.get(frame), stage, frame):
        assumed.append(frame)
    if before is not None:
        assumed += [name for name in before.pictures if _is_assumed(given.get(name), before, name)]
    last = _last(step, frame)
    bounded_by = last if last in BOUNDED else ""
    return ImportPlan(stage, before, frame, (height, width), tuple(assumed), bounded_by, texts)


def _plan_first(
    source: OnnxSource,
    step: OnnxSource,
    given: Mapping[str, TensorRole],
    size: tuple[int, int] | None,
    shapes: Mapping[str, tuple[int, ...]],
    text: TextOptions,
) -> tuple[PlannedGraph, TextPlan | None]:
    roles = {port.name: given[port.name] for port in source.inputs if port.name in given}
    for name, role in roles.items():
        if role.kind not in ("image", "latent", "fixed", *TEXTS):
            raise ValueError(
                f'"{name}" of {source.path} has the role {role.kind}: the first model runs when the prompt changes, '
                "and its inputs can be image, latent, tokens, token_mask or fixed"
            )
    roles = guess_text(source.inputs, roles, text)
    unknown = [port for port in source.inputs if port.name not in roles]
    pictures = [port for port in unknown if picture_layouts(port.shape)]
    if len(pictures) == 1:
        roles[pictures[0].name] = TensorRole("image")
    elif len(unknown) == 1 and not pictures:
        roles |= {name: TensorRole("latent") for name in guess_inputs(unknown, {}, ())}
    shared = wanted_outputs(source, step, given)
    needed = needed_inputs(source, shared or [port.name for port in source.outputs])
    missing = [port for port in unknown if port.name in needed and port.name not in roles]
    if missing:
        flags = ", ".join(f"--role {shlex.quote(f'{port.name}=ROLE')}" for port in missing)
        names = ", ".join(str(port) for port in missing)
        raise ValueError(
            f"inputs of {source.path.name}, which runs when the prompt changes, have no role: {names}; pass {flags}, "
            "where ROLE is image, latent, tokens, token_mask or fixed:VALUE"
        )
    texts = plan_text(source, roles, text, shapes, needed)
    known = {} if texts is None else {name: (1, texts.length(name)) for name in (*texts.tokens, *texts.masks)}
    stage = pin_shapes(source, roles, size, {**shapes, **known}, {})
    _drop_unused(stage, needed)
    check_single_batch(stage, shared)
    if texts is not None:
        check_vocabulary(stage, texts)
    return stage, texts


def _plan_step(
    source: OnnxSource,
    first: PlannedGraph | None,
    given: Mapping[str, TensorRole],
    size: tuple[int, int] | None,
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[PlannedGraph, str]:
    made_by = match_memories(source, given, {} if first is None else first.outputs)
    memories = {} if first is None else {name: first.outputs[output] for name, output in made_by.items()}
    # If the frame was named, inputs that it does not depend on need no role.
    named = [name for name, role in given.items() if role.kind == "frame"]
    wanted = [*named, *_next_states(given)]
    known = {port.name for port in source.outputs}
    if set(wanted) - known:
        missing = sorted(set(wanted) - known)[0]
        raise ValueError(f'there is no output "{missing}" in {source.path} {nearest(missing, known)}')
    ports = source.inputs
    if named:
        needed = needed_inputs(source, wanted)
        ports = tuple(port for port in ports if port.name in needed or port.name in given)
    roles = guess_inputs(ports, given, memories)
    roles |= {name: replace(roles[name], output=output) for name, output in made_by.items() if name in roles}
    if not any(role.kind in ("live", "latent", "noise", "memory", "state", "image") for role in roles.values()):
        listed = ", ".join(str(port) for port in source.inputs) or "none"
        raise ValueError(
            f"no input can be the live picture, a latent or another source of a frame: {listed}; give roles with --role"
        )
    stage = pin_shapes(source, roles, size, shapes, memories)
    frame = guess_frame({name: shape for name, (_, shape) in stage.outputs.items()}, given, _next_states(stage.roles))
    rest = {name: kind for name, kind in stage.outputs.items() if name != frame or name in _next_states(stage.roles)}
    stage.roles = guess_states(stage.roles, stage.inputs, rest)
    wanted = [frame, *(name for name in _next_states(stage.roles) if name != frame)]
    needed = needed_inputs(source, wanted)
    unclear = [port for port in source.inputs if port.name in needed and port.name not in stage.roles]
    if unclear:
        free = [port for port in source.outputs if port.name not in wanted]
        what = f"the input {unclear[0]} is" if len(unclear) == 1 else f"the inputs {', '.join(map(str, unclear))} are"
        memory = "" if first is None else "memory:OUTPUT (of the first model), "
        raise ValueError(
            f"{what} ambiguous: pass {suggest_roles(unclear, list(stage.inputs), free)}, where ROLE is {memory}"
            f"state:OUTPUT, image, {', '.join(VECTORS)} or fixed:VALUE"
        )
    _drop_unused(stage, needed)
    for name in stage.inputs_of("state"):
        if stage.inputs[name][0] not in DTYPES:
            raise ValueError(f'the state "{name}" is {stage.inputs[name][0]}: a state can be {", ".join(DTYPES)}')
    check_single_batch(stage, wanted)
    dtype, shape = stage.outputs[frame]
    role = given.get(frame, TensorRole("frame"))
    stage.pictures[frame] = to_picture_spec(frame, dtype, shape, role, source.stated, _last(source, frame))
    stage.outputs = {name: stage.outputs[name] for name in wanted}
    for kind in ("live", "mask"):
        if len(stage.inputs_of(kind)) > 1:
            names = " and ".join(stage.inputs_of(kind))
            raise ValueError(f"only one {kind} input is supported, got {names}: give one of them another role")
    if stage.inputs_of("mask") and not stage.inputs_of("live"):
        raise ValueError(f'the mask "{stage.inputs_of("mask")[0]}" needs a live picture: give an input the role live')
    return stage, frame


def _drop_unused(stage: PlannedGraph, needed: Collection[str]) -> None:
    """Move the inputs that are not needed to the unused ones."""
    stage.unused = {name: kind for name, kind in stage.inputs.items() if name not in needed}
    stage.inputs = {name: kind for name, kind in stage.inputs.items() if name in needed}
    stage.roles = {name: role for name, role in stage.roles.items() if name in needed}


def _is_free(port: GraphPort) -> bool:
    return any(isinstance(length, str) for length in port.shape[1:])


def _next_states(roles: Mapping[str, TensorRole]) -> list[str]:
    return [role.output for role in roles.values() if role.kind == "state" and role.output]


def _is_assumed(role: TensorRole | None, stage: PlannedGraph, name: str) -> bool:
    return (role is None or not (role.range or role.mean or role.deviation)) and stage.pictures[
        name
    ].dtype not in EVIDENT


def _last(source: OnnxSource, output: str) -> str:
    """Return the operator that computes an output's values, skipping those that only move them."""
    makers = {name: node for node in source.model.graph.node for name in node.output}
    node = makers.get(output)
    while node is not None and node.op_type in _MOVES:
        node = makers.get(node.input[0])
    return "" if node is None else node.op_type
