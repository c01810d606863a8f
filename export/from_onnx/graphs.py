"""Builds step.onnx, condition.onnx and their manifest entries from a plan (docs/bundle.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

import onnx

from export.from_onnx.model import MAX_IR, OPSET, extract_graph
from export.from_onnx.pixels import GraphFragment, from_pixels, to_i420, to_picture, to_rgb
from export.from_onnx.plan import ImportPlan
from export.from_onnx.planned_graph import PlannedGraph, TensorType
from export.from_onnx.states import add_states
from export.manifest_entries import Entry, control_entry

Built = tuple[onnx.ModelProto, Entry]
_STEP, _FIRST = "model/", "first/"  # prefixes of all names of the embedded models


def memory_types(plan: ImportPlan) -> dict[str, TensorType]:
    """Return (dtype, shape) of every memory, by the name of the step model's input."""
    return {name: plan.step.inputs[name] for name in plan.step.inputs_of("memory", "image", "latent")}


def latent_inputs(plan: ImportPlan) -> list[tuple[PlannedGraph, str]]:
    """Return the latent inputs, in the order in which they share one row of noise."""
    stages = [plan.step] if plan.first is None else [plan.first, plan.step]
    return [(stage, name) for stage in stages for name in stage.inputs_of("latent")]


def control_entries(plan: ImportPlan, words: Mapping[str, tuple[str, str]] = MappingProxyType({})) -> list[Entry]:
    """Return the manifest's controls: one for each value of the inputs with the role control.

    Args:
        plan: of the import.
        words: description and unit of inputs of one value, by name.
    """
    entries: list[Entry] = []
    for name in plan.step.inputs_of("control"):
        base = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")
        base = base if re.match(r"[a-z]", base) else f"control_{base}".rstrip("_")
        values = plan.step.value(name).reshape(-1)
        low, high = plan.step.roles[name].limits
        for place, value in enumerate(values):
            label = base[:58]
            description, unit = words.get(name, (f'the input "{name}" of the model', "as the model takes it"))
            if len(values) > 1:
                label, description = f"{label}_{place}", f"{description}, value {place} of {len(values)}"
            entries.append(control_entry(label, description, unit, low, high, float(value), index=len(entries)))
    return entries


def build_step(plan: ImportPlan) -> Built:
    """Build the step graph.

    Args:
        plan: role, type and shape of every tensor.

    Returns:
        The model, whose outputs are uint8 frames, and its manifest entry.

    Raises:
        ValueError: the model has unsupported operators, or cannot be converted.
    """
    stage, graph = plan.step, GraphFragment()
    core = extract_graph(stage.source, _shapes(stage.inputs), _shapes(stage.outputs))
    outputs = {port.name for port in stage.source.outputs}
    taken = {*stage.inputs, *outputs}
    inputs = _add_memories(graph, plan, taken)
    for kind in ("noise", "control"):
        inputs += _add_row(graph, [(stage, name, _STEP + name) for name in stage.inputs_of(kind)], kind, kind, taken)
    inputs += add_states(graph, stage, _STEP, taken)
    for name in stage.inputs_of("live", "mask"):
        role, picture = stage.roles[name].kind, stage.pictures[name]
        height, width = picture.size
        channels = 3 if role == "live" else 1
        shape = (1, height, width, channels)
        graph.add_input(name, "uint8", shape)
        from_pixels(graph, name, picture.size, picture, _STEP + name, channels=channels)
        inputs.append(_entry(name, "uint8", shape, role))
    for name in stage.inputs_of("fixed"):
        graph.constant(stage.value(name), stage.inputs[name][0], _STEP + name)
    graph.embed(core, _STEP)
    frames, picture_name = _add_frames(graph, plan, taken)
    for entry in inputs:
        if entry["role"] == "state":
            dtype, shape = entry["dtype"], tuple(entry["shape"])
            if entry["name"] in stage.roles:
                graph.add("Identity", _STEP + stage.roles[entry["name"]].output, out=entry["next"])
            graph.add_output(entry["next"], dtype, shape)
            frames.append(_entry(entry["next"], dtype, shape, "state"))
    model = graph.to_model("step", core.opset_import[0].version, core.ir_version)
    return model, {"file": "step.onnx", "inputs": inputs, "outputs": frames, "picture": picture_name}


def build_condition(plan: ImportPlan) -> Built | None:
    """Build the condition graph, or None for a plan without memories; raises as `build_step`."""
    memories = memory_types(plan)
    if not memories:
        return None
    graph, inputs = GraphFragment(), []
    taken = {*memories, *(() if plan.first is None else plan.first.inputs)}
    stages = [(plan.step, "")] if plan.first is None else [(plan.first, _FIRST), (plan.step, "")]
    pictures = [(stage, name, prefix + name) for stage, prefix in stages for name in stage.inputs_of("image")]
    if pictures:
        height, width = plan.size
        shape: tuple[int, ...] = (1, height, width, 3)
        image = graph.add_input(_unique("image", taken), "uint8", shape)
        for stage, name, out in pictures:
            from_pixels(graph, image, plan.size, stage.pictures[name], out)
        inputs.append(_entry(image, "uint8", shape, "image"))
    drawn = [(stage, name, prefix + name) for stage, prefix in stages for name in stage.inputs_of("latent")]
    inputs += _add_row(graph, drawn, "noise", "noise", taken)
    opset, ir_version = OPSET, MAX_IR
    if plan.first is not None:
        for spec in [] if plan.text is None else plan.text.specs(plan.first.inputs):
            graph.add("Identity", graph.add_input(spec.name, spec.dtype, spec.shape), out=_FIRST + spec.name)
            inputs.append(spec.to_json())
        kept = plan.memories
        for name in plan.first.inputs_of("fixed"):
            graph.constant(plan.first.value(name), plan.first.inputs[name][0], _FIRST + name)
        outputs_kept = {output: plan.first.outputs[output] for output in kept.values()}
        core = extract_graph(plan.first.source, _shapes(plan.first.inputs), _shapes(outputs_kept))
        graph.embed(core, _FIRST)
        for name, output in kept.items():
            dtype = memories[name][0]
            if dtype == plan.first.outputs[output][0]:
                graph.add("Identity", _FIRST + output, out=name)
            else:
                graph.cast(_FIRST + output, dtype, out=name)
        opset, ir_version = core.opset_import[0].version, core.ir_version
    outputs = [_entry(name, dtype, shape, "memory") for name, (dtype, shape) in memories.items()]
    for name, (dtype, shape) in memories.items():
        graph.add_output(name, dtype, shape)
    model = graph.to_model("condition", opset, ir_version)
    return model, {"file": "condition.onnx", "inputs": inputs, "outputs": outputs}


def _shapes(tensors: dict[str, TensorType]) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, (_, shape) in tensors.items()}


def _add_memories(graph: GraphFragment, plan: ImportPlan, taken: set[str]) -> list[Entry]:
    """Add both memories of every slot and their cross-fade `a + mix * (b - a)`, in float32."""
    entries: list[Entry] = []
    memories = memory_types(plan)
    if not memories:
        return entries
    mix = graph.add_input(_unique("mix", taken), "float32", (1,))
    for slot, (dtype, shape) in memories.items():
        sides = []
        for side in "ab":
            name = graph.add_input(_unique(f"{side}_{slot}", taken), dtype, shape)
            entries.append(_entry(name, dtype, shape, f"memory_{side}", slot=slot))
            sides.append(name if dtype == "float32" else graph.cast(name, "float32"))
        moved = graph.add("Mul", mix, graph.add("Sub", sides[1], sides[0]))
        if shape == ():
            moved = graph.add("Reshape", moved, graph.constant([], "int64"))
        mixed = graph.add("Add", sides[0], moved)
        graph.cast(mixed, dtype, out=_STEP + slot)
    return [*entries, _entry(mix, "float32", (1,), "mix")]


def _add_row(
    graph: GraphFragment, parts: list[tuple[PlannedGraph, str, str]], base: str, role: str, taken: set[str]
) -> list[Entry]:
    """Add one input (1, N) that is split into several inputs of a model, in order; nothing for no parts."""
    if not parts:
        return []
    total = sum(stage.count(name) for stage, name, _ in parts)
    row = graph.add_input(_unique(base, taken), "float32", (1, total))
    start = 0
    for stage, name, out in parts:
        dtype, shape = stage.inputs[name]
        end = start + stage.count(name)
        bounds = (graph.constant([place], "int64") for place in (start, end, 1))
        cut = row if end - start == total else graph.add("Slice", row, *bounds)
        graph.cast(graph.add("Reshape", cut, graph.constant(list(shape), "int64")), dtype, out=out)
        start = end
    return [_entry(row, "float32", (1, total), role)]


def _add_frames(graph: GraphFragment, plan: ImportPlan, taken: set[str]) -> tuple[list[Entry], str]:
    height, width = plan.size
    names = {base: _unique(base, taken) for base in ("picture", "rgb", "i420")}
    to_picture(graph, _STEP + plan.frame, plan.step.pictures[plan.frame], plan.size, names["picture"])
    to_rgb(graph, names["picture"], names["rgb"])
    to_i420(graph, names["picture"], plan.size, names["i420"])
    graph.add_output(names["picture"], "float32", (1, 3, height, width))
    shapes = {"rgb": (1, height, width, 3), "i420": (1, height * 3 // 2, width)}
    for pixels, shape in shapes.items():
        graph.add_output(names[pixels], "uint8", shape)
    entries = [_entry(names[pixels], "uint8", shape, "frame", pixels=pixels) for pixels, shape in shapes.items()]
    return entries, names["picture"]


def _entry(name: str, dtype: str, shape: tuple[int, ...], role: str, **extra: str) -> Entry:
    return {"name": name, "dtype": dtype, "shape": list(shape), "role": role, **extra}


def _unique(name: str, taken: set[str]) -> str:
    """Append underscores to a name until it is unique."""
    while name in taken:
        name += "_"
    return name
