"""What an import found, in lines for people: a line per tensor, with its role and whether that was given or guessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from export.from_onnx.plan import ImportPlan
from export.from_onnx.planned_graph import PlannedGraph


def describe_plan(plan: ImportPlan, manifest: Mapping[str, Any]) -> list[str]:
    """Return a line per tensor: its role, and whether that was given, guessed or assumed."""
    lines = []
    for stage in (plan.first, plan.step):
        if stage is None:
            continue
        lines.append(f"{stage.source.path.name}, opset {stage.source.opset}")
        if stage.source.before is not None:
            lines.append(f"  its batch of {stage.source.batch} is made 1")
        if stage.source.stated.text:
            lines.append(f"  {stage.source.stated.text}: used where --role gives no other")
        for name in stage.inputs:
            lines.append(f"  {_tensor(plan, stage, name)}")
        for name in stage.outputs if stage is plan.step else dict.fromkeys(plan.memories.values()):
            dtype, shape = stage.outputs[name]
            role = "memory" if stage is plan.first else "next state"
            text = _picture(plan, stage, name, "frame") if name == plan.frame else role
            lines.append(f"  {name} {dtype} {list(shape)} -> {text}")
        lines += [f"  {name} -> not used: the frame does not depend on it" for name in stage.unused]
    frame = manifest["frame"]
    return [*lines, f"frames of {frame['width']} x {frame['height']} at {frame['fps']} per second"]


def _tensor(plan: ImportPlan, stage: PlannedGraph, name: str) -> str:
    dtype, shape = stage.inputs[name]
    role = stage.roles[name]
    text = role.kind
    if name in stage.pictures:
        text = _picture(plan, stage, name, role.kind)
    elif role.kind == "state":
        text = f"state, next from {role.output}{_initial(role.values)}"
    elif role.kind == "memory" and role.output != name:
        text = f"memory, {role.output} of the first model{'' if role.is_given else ', guessed'}"
    elif plan.text is not None and name in plan.text.tokens:
        tokenizer = plan.text.tokens[name]
        text = f"tokens of the tokenizer {tokenizer}, {plan.text.length(name)} at most"
    elif plan.text is not None and name in plan.text.masks:
        text = f"token_mask of {plan.text.masks[name]}"
    guessed = "" if role.is_given or role.kind == "memory" else ", guessed"
    return f"{name} {dtype} {list(shape)} -> {text}{guessed}"


def _picture(plan: ImportPlan, stage: PlannedGraph, name: str, kind: str) -> str:
    picture = stage.pictures[name]
    colours = picture.order if picture.channels == 3 else "grey"
    if picture.channel is not None:
        colours = f"channel {picture.channel}, grey"
    if picture.mean or picture.deviation:
        mean, deviation = picture.mean or (0,), picture.deviation or (1,)
        statistics = ("/".join(f"{value:g}" for value in values) for values in (mean, deviation))
        return f"{kind}, {picture.layout}, {colours}, range {picture.range}, mean {' and std '.join(statistics)}"
    note = ""
    if name in plan.assumed:
        is_stated = picture.range == stage.source.stated.range
        ends = f", as it ends in {plan.bounded_by}" if name == plan.frame and plan.bounded_by else ""
        note = ", from the metadata" if is_stated and not ends else f", assumed{ends}"
    return f"{kind}, {picture.layout}, {colours}, range {picture.range}{note}"


def _initial(values: tuple[float, ...]) -> str:
    if not values:
        return ""
    return f", starts at {values[0]:g}" if len(set(values)) == 1 else f", starts at {len(values)} values"
