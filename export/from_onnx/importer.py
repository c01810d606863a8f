"""Somebody's ONNX files -> a bundle that goes on air like ours: complete and checked, or not there at all."""

from __future__ import annotations

import datetime
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import onnx

import runtime
from export.folder_writer import placed
from export.from_onnx.graphs import Entry, build_condition, build_step, control_entries
from export.from_onnx.model import OnnxSource, read_source
from export.from_onnx.original import onnxruntime_version
from export.from_onnx.parity import SEED, OriginalRun, check_range, closed_loop, run_original, write_golden
from export.from_onnx.plan import ImportPlan, make_plan
from export.from_onnx.planned_graph import PlannedGraph
from export.parity.checks import ParityCheck, runnable
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.errors import EngineError

RENEWAL_S, DISSOLVE_S = 6.0, 3.0  # a scene that is drawn from a seed stands for the one and dissolves for the other
MAX_SEED = 2**32 - 1


@dataclass(frozen=True)
class ImportOptions:
    """What the user said of the bundle.

    Args:
        roles: `TENSOR=ROLE[:DETAILS]` each (export/from_onnx/roles.py).
        size: (width, height) to which free sides are pinned, or None.
        shapes: of tensors whose free axes nothing else tells.
        fps: frames per second of the show.
        name: of the bundle; "" for one made from its folder's.
        description, licence, source: what people should know of the model.
    """

    roles: Sequence[str] = ()
    size: tuple[int, int] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fps: Fraction = Fraction(30)
    name: str = ""
    description: str = ""
    licence: str = "not stated"
    source: str = "not stated"


@dataclass(frozen=True)
class ImportReport:
    """What came of it: what every tensor was taken for, the comparisons, and engines that cannot run the bundle."""

    lines: tuple[str, ...]
    rungs: tuple[ParityCheck, ...]
    refusals: tuple[str, ...]


def import_model(
    step: Path, out: Path, *, condition: Path | None = None, wish: ImportOptions | None = None, force: bool = False
) -> ImportReport:
    """Import a model of one file, or of two that share tensors by name.

    Args:
        step: the ONNX file that makes a frame.
        out: the bundle's folder; must not exist unless `force`, and then is replaced in one move at the very end.
        condition: the ONNX file that runs when the prompt changes, or None.
        wish: what the user said; None for nothing.
        force: replace an existing bundle.

    Returns:
        What was found and compared.

    Raises:
        ValueError: the model cannot go on air, something is in doubt, or the bundle's frames in ONNX Runtime come
            out further than 60 dB from the original's; nothing is written then.
    """
    wish = wish or ImportOptions()
    with placed(out, force=force) as folder:
        first = None if condition is None else read_source(condition)
        plan = make_plan(read_source(step), first, roles=wish.roles, size=wish.size, shapes=wish.shapes)
        built_step, built_condition = build_step(plan), build_condition(plan)
        run = run_original(plan)
        check_range(plan, run)
        graphs: dict[str, Entry] = {}
        for name, built in (("condition", built_condition), ("step", built_step)):
            if built is not None:
                (folder / f"{name}.onnx").write_bytes(built[0].SerializeToString())
                graphs[name] = built[1]
        manifest = _manifest(plan, graphs, wish, wish.name or _to_name(out.name))
        manifest["golden"] = [write_golden(folder, run)]
        write_manifest(folder, manifest)
        rungs, refusals = _compare(folder, run)
        manifest["verified"] = {"parity": [rung.to_json() for rung in rungs], "refusals": list(refusals)}
        write_manifest(folder, manifest)
        open_bundle(folder)
    return ImportReport(tuple(_describe(plan, manifest)), rungs, refusals)


def _compare(folder: Path, run: OriginalRun) -> tuple[tuple[ParityCheck, ...], tuple[str, ...]]:
    """Run the bundle on every engine that is here; ONNX Runtime, in which the original ran, must agree with it."""
    rungs, refusals = [], []
    for engine, precision in runnable():
        is_judge = (engine, precision) == ("onnxruntime", "fp32")
        try:
            rung = closed_loop(folder, engine, precision, run)
        except EngineError as error:
            if is_judge:
                raise ValueError(f"the bundle does not run: {error}; nothing was written") from error
            refusals.append(f"{engine} in {precision}: {error}")
            continue
        rungs.append(rung)
        if is_judge and not rung.passed:
            raise ValueError(
                f"the bundle's frames came out at {rung.worst:.3g} dB of the original's in {engine}, the gate is "
                f"{rung.gate:g}: no bundle was written; if the model was converted from an old opset, export it anew"
            )
    return tuple(rungs), tuple(refusals)


def _manifest(plan: ImportPlan, graphs: dict[str, Entry], wish: ImportOptions, name: str) -> dict[str, Any]:
    height, width = plan.size
    controls = control_entries(plan)
    is_drawn = any(entry["role"] == "noise" for entry in graphs.get("condition", {"inputs": []})["inputs"])
    renewal = None
    if is_drawn:
        every, dissolve = (max(1, round(seconds * wish.fps)) for seconds in (RENEWAL_S, DISSOLVE_S))
        renewal = {"every_frames": every, "dissolve_frames": dissolve, "correlation": 0.0}
        names = {entry["name"] for entry in controls}
        controls += [entry for entry in _scene_controls() if entry["name"] not in names]
    return {
        "schema": 1,
        "name": name,
        "description": wish.description or f"Imported from {plan.step.source.path.name}.",
        "frame": {"width": width, "height": height, "fps": str(wish.fps), "colour": "bt709"},
        "graphs": graphs,
        "controls": controls,
        "renewal": renewal,
        "text": None,
        "golden": [],
        "provenance": {
            "data": [],
            "imported": [
                _imported(graph, stage.source, wish)
                for graph, stage in (("condition", plan.first), ("step", plan.step))
                if stage is not None
            ],
            "config_sha256": "",
            "commit": "",
            "software": {
                "everframe": runtime.__version__,
                "onnx": onnx.__version__,
                "onnxruntime": onnxruntime_version(),
                "python": platform.python_version(),
            },
            "training": {},
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        "verified": {},
    }


def _scene_controls() -> list[Entry]:
    """Return the controls of a scene that is drawn from a seed, as our own bundles have them."""
    return [
        {
            "name": "drift",
            "description": "how fast a scene made from a seed renews itself; 0 keeps it",
            "unit": "times the bundle's renewal",
            "minimum": 0.0,
            "maximum": 4.0,
            "default": 1.0,
            "target": "renewal",
        },
        {
            "name": "seed",
            "description": "which scene is made up",
            "unit": "number",
            "minimum": 0.0,
            "maximum": float(MAX_SEED),
            "default": float(SEED),
            "target": "seed",
        },
    ]


def _imported(graph: str, source: OnnxSource, wish: ImportOptions) -> dict[str, Any]:
    return {
        "graph": graph,
        "file": source.path.name,
        "sha256": source.sha256,
        "size_bytes": source.path.stat().st_size,
        "opset": source.opset,
        "producer": f"{source.model.producer_name} {source.model.producer_version}".strip() or "not stated",
        "licence": wish.licence,
        "source": wish.source,
    }


def _to_name(text: str) -> str:
    """Turn a folder's name into a bundle's: `[a-z0-9][a-z0-9._-]*`, at most 64 characters."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64] or "imported"


def _describe(plan: ImportPlan, manifest: Mapping[str, Any]) -> list[str]:
    """Return a line per tensor: what it was taken for, and whether that was said, guessed or assumed."""
    lines = []
    for stage in (plan.first, plan.step):
        if stage is None:
            continue
        lines.append(f"{stage.source.path.name}, opset {stage.source.opset}")
        for name in stage.inputs:
            lines.append(f"  {_tensor(plan, stage, name)}")
        for name in stage.outputs if stage is plan.step else plan.step.of("memory"):
            dtype, shape = stage.outputs[name]
            role = "memory" if stage is plan.first else "next state"
            text = _picture(plan, stage, name, "frame") if name == plan.frame else role
            lines.append(f"  {name} {dtype} {list(shape)} -> {text}")
        lines += [f"  {name} -> left out: the frame does not depend on it" for name in stage.idle]
    frame = manifest["frame"]
    return [*lines, f"frames of {frame['width']} x {frame['height']} at {frame['fps']} per second"]


def _tensor(plan: ImportPlan, stage: PlannedGraph, name: str) -> str:
    dtype, shape = stage.inputs[name]
    role = stage.roles[name]
    text = role.kind
    if name in stage.pictures:
        text = _picture(plan, stage, name, role.kind)
    elif role.kind == "state":
        text = f"state, next from {role.output}"
    guessed = "" if role.is_given or role.kind == "memory" else ", guessed"
    return f"{name} {dtype} {list(shape)} -> {text}{guessed}"


def _picture(plan: ImportPlan, stage: PlannedGraph, name: str, kind: str) -> str:
    picture = stage.pictures[name]
    colours = picture.order if picture.channels == 3 else "grey"
    doubt = ", which is assumed" if name in plan.assumed else ""
    return f"{kind}, {picture.layout}, {colours}, range {picture.range}{doubt}"
