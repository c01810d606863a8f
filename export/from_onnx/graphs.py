"""A plan -> step.onnx and condition.onnx, and what the manifest says of their tensors (docs/bundle.md)."""

from __future__ import annotations

import re
from typing import Any

import onnx

from export.from_onnx.model import MAX_IR, OPSET, cut_core
from export.from_onnx.pixels import (
    GraphFragment,
    from_pixels,
    mask_from_pixels,
    to_i420,
    to_picture,
    to_rgb,
)
from export.from_onnx.plan import ImportPlan
from export.from_onnx.planned_graph import Kind, PlannedGraph

Entry = dict[str, Any]
Built = tuple[onnx.ModelProto, Entry]
_STEP, _FIRST = "model/", "first/"  # before every name of the models inside


def slots(plan: ImportPlan) -> dict[str, Kind]:
    """Return (dtype, shape) of every memory, by the name of the step model's input that it is for."""
    return {name: plan.step.inputs[name] for name in plan.step.of("memory", "image", "latent")}


def latents(plan: ImportPlan) -> list[tuple[PlannedGraph, str]]:
    """Return the inputs that are drawn from the seed, in the order in which they share one row of noise."""
    stages = [plan.step] if plan.first is None else [plan.first, plan.step]
    return [(stage, name) for stage in stages for name in stage.of("latent")]


def control_entries(plan: ImportPlan) -> list[Entry]:
    """Return the manifest's controls: one for each value of an input with the role control, by its index."""
    entries: list[Entry] = []
    for name in plan.step.of("control"):
        base = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")
        base = base if re.match(r"[a-z]", base) else f"control_{base}".rstrip("_")
        values = plan.step.value(name).reshape(-1)
        low, high = plan.step.roles[name].limits
        for place, value in enumerate(values):
            entries.append(
                {
                    "name": base[:58] if len(values) == 1 else f"{base[:58]}_{place}",
                    "description": f'the input "{name}" of the model'
                    + ("" if len(values) == 1 else f", value {place} of {len(values)}"),
                    "unit": "as the model takes it",
                    "minimum": low,
                    "maximum": high,
                    "default": float(value),
                    "index": len(entries),
                }
            )
    return entries


def build_step(plan: ImportPlan) -> Built:
    """Build the step graph.

    Args:
        plan: what every tensor is.

    Returns:
        The model, which ends in uint8 frames, and the manifest's entry for it.

    Raises:
        ValueError: the model has operators that cannot run on the frame path, or cannot be converted.
    """
    stage, piece = plan.step, GraphFragment()
    core = cut_core(stage.source, *({name: shape for name, (_, shape) in side.items()} for side in _sides(stage)))
    outputs = {port.name for port in stage.source.outputs}
    taken = {*stage.inputs, *outputs}
    inputs = _add_memories(piece, plan, taken)
    for kind in ("noise", "control"):
        inputs += _add_row(piece, [(stage, name, _STEP + name) for name in stage.of(kind)], kind, kind, taken)
    for name in stage.of("state"):
        dtype, shape = stage.inputs[name]
        piece.add("Identity", piece.take(name, dtype, shape), out=_STEP + name)
        inputs.append(_entry(name, dtype, shape, "state", next=stage.roles[name].output))
    for name in stage.of("live", "mask"):
        role, picture = stage.roles[name].kind, stage.pictures[name]
        height, width = picture.size
        shape = (1, height, width, 3 if role == "live" else 1)
        piece.take(name, "uint8", shape)
        if role == "live":
            from_pixels(piece, name, picture.size, picture, _STEP + name)
        else:
            mask_from_pixels(piece, name, picture, _STEP + name)
        inputs.append(_entry(name, "uint8", shape, role))
    for name in stage.of("fixed"):
        piece.constant(stage.value(name), stage.inputs[name][0], _STEP + name)
    piece.embed(core, _STEP)
    frames, picture_name = _add_frames(piece, plan, taken)
    for entry in inputs:
        if entry["role"] == "state":
            dtype, shape = entry["dtype"], tuple(entry["shape"])
            piece.add("Identity", _STEP + stage.roles[entry["name"]].output, out=entry["next"])
            piece.give(entry["next"], dtype, shape)
            frames.append(_entry(entry["next"], dtype, shape, "state"))
    model = piece.to_model("step", core.opset_import[0].version, core.ir_version)
    return model, {"file": "step.onnx", "inputs": inputs, "outputs": frames, "picture": picture_name}


def build_condition(plan: ImportPlan) -> Built | None:
    """Build the condition graph, or None for a plan without memories; Raises as `build_step`."""
    memories = slots(plan)
    if not memories:
        return None
    piece, inputs = GraphFragment(), []
    taken = {*memories, *(() if plan.first is None else plan.first.inputs)}
    stages = [(plan.step, "")] if plan.first is None else [(plan.first, _FIRST), (plan.step, "")]
    pictures = [(stage, name, prefix + name) for stage, prefix in stages for name in stage.of("image")]
    if pictures:
        height, width = plan.size
        shape: tuple[int, ...] = (1, height, width, 3)
        image = piece.take(_free("image", taken), "uint8", shape)
        for stage, name, out in pictures:
            from_pixels(piece, image, plan.size, stage.pictures[name], out)
        inputs.append(_entry(image, "uint8", shape, "image"))
    drawn = [(stage, name, prefix + name) for stage, prefix in stages for name in stage.of("latent")]
    inputs += _add_row(piece, drawn, "noise", "noise", taken)
    opset, ir_version = OPSET, MAX_IR
    if plan.first is not None:
        kept = plan.step.of("memory")
        for name in plan.first.of("fixed"):
            piece.constant(plan.first.value(name), plan.first.inputs[name][0], _FIRST + name)
        given = {name: shape for name, (_, shape) in plan.first.inputs.items()}
        core = cut_core(plan.first.source, given, {name: plan.first.outputs[name][1] for name in kept})
        piece.embed(core, _FIRST)
        for name in kept:
            piece.add("Identity", _FIRST + name, out=name)
        opset, ir_version = core.opset_import[0].version, core.ir_version
    outputs = [_entry(name, dtype, shape, "memory") for name, (dtype, shape) in memories.items()]
    for name, (dtype, shape) in memories.items():
        piece.give(name, dtype, shape)
    model = piece.to_model("condition", opset, ir_version)
    return model, {"file": "condition.onnx", "inputs": inputs, "outputs": outputs}


def _sides(stage: PlannedGraph) -> tuple[dict[str, Kind], dict[str, Kind]]:
    return stage.inputs, stage.outputs


def _add_memories(piece: GraphFragment, plan: ImportPlan, taken: set[str]) -> list[Entry]:
    """Add both memories of every slot and their mix: `a + mix * (b - a)`, in float32."""
    entries: list[Entry] = []
    memories = slots(plan)
    if not memories:
        return entries
    mix = piece.take(_free("mix", taken), "float32", (1,))
    for slot, (dtype, shape) in memories.items():
        sides = []
        for side in "ab":
            name = piece.take(_free(f"{side}_{slot}", taken), dtype, shape)
            entries.append(_entry(name, dtype, shape, f"memory_{side}", slot=slot))
            sides.append(name if dtype == "float32" else piece.cast(name, "float32"))
        moved = piece.add("Mul", mix, piece.add("Sub", sides[1], sides[0]))
        if shape == ():
            moved = piece.add("Reshape", moved, piece.constant([], "int64"))
        mixed = piece.add("Add", sides[0], moved)
        piece.cast(mixed, dtype, out=_STEP + slot)
    return [*entries, _entry(mix, "float32", (1,), "mix")]


def _add_row(
    piece: GraphFragment, parts: list[tuple[PlannedGraph, str, str]], base: str, role: str, taken: set[str]
) -> list[Entry]:
    """Add one input (1, N) from which several inputs of a model are cut, in order; none for no parts."""
    if not parts:
        return []
    total = sum(stage.count(name) for stage, name, _ in parts)
    row = piece.take(_free(base, taken), "float32", (1, total))
    start = 0
    for stage, name, out in parts:
        dtype, shape = stage.inputs[name]
        end = start + stage.count(name)
        bounds = (piece.constant([place], "int64") for place in (start, end, 1))
        cut = row if end - start == total else piece.add("Slice", row, *bounds)
        piece.cast(piece.add("Reshape", cut, piece.constant(list(shape), "int64")), dtype, out=out)
        start = end
    return [_entry(row, "float32", (1, total), role)]


def _add_frames(piece: GraphFragment, plan: ImportPlan, taken: set[str]) -> tuple[list[Entry], str]:
    height, width = plan.size
    names = {base: _free(base, taken) for base in ("picture", "rgb", "i420")}
    to_picture(piece, _STEP + plan.frame, plan.step.pictures[plan.frame], plan.size, names["picture"])
    to_rgb(piece, names["picture"], names["rgb"])
    to_i420(piece, names["picture"], plan.size, names["i420"])
    piece.give(names["picture"], "float32", (1, 3, height, width))
    shapes = {"rgb": (1, height, width, 3), "i420": (1, height * 3 // 2, width)}
    for pixels, shape in shapes.items():
        piece.give(names[pixels], "uint8", shape)
    entries = [_entry(names[pixels], "uint8", shape, "frame", pixels=pixels) for pixels, shape in shapes.items()]
    return entries, names["picture"]


def _entry(name: str, dtype: str, shape: tuple[int, ...], role: str, **extra: str) -> Entry:
    return {"name": name, "dtype": dtype, "shape": list(shape), "role": role, **extra}


def _free(name: str, taken: set[str]) -> str:
    """Return the name, with as many underscores behind it as make it a new one."""
    while name in taken:
        name += "_"
    return name
