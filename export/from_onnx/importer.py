"""Imports an existing ONNX model as a bundle: converts it, and writes it if its frames match the original's."""

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
from export.external_weights import INLINE_BYTES, load_external, save_external, weight_bytes
from export.folder_writer import atomic_folder
from export.from_onnx.graphs import Built, build_condition, build_step, control_entries
from export.from_onnx.model import OnnxSource, read_source
from export.from_onnx.original import onnxruntime_version
from export.from_onnx.parity import GOLDEN_FRAMES, LONG_LOOP, SEED, OriginalRun, check_range, compare_loop, run_original
from export.from_onnx.plan import ImportPlan, make_plan
from export.from_onnx.planned_graph import PlannedGraph
from export.from_onnx.preview import write_preview
from export.manifest_entries import Entry, drift_control, seed_control, write_golden
from export.packed_weights import pack_weights
from export.parity.checks import ParityCheck, available_engines
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.errors import EngineError

RENEWAL_S, DISSOLVE_S = 6.0, 3.0  # a scene made from a seed is renewed every 6 s, with a cross-fade of 3 s


@dataclass(frozen=True)
class ImportOptions:
    """Options of an import.

    Args:
        roles: `TENSOR=ROLE[:DETAILS]` each (export/from_onnx/role_parser.py).
        size: (width, height) of pictures whose size is free, or None.
        shapes: shapes of tensors with other free axes.
        fps: frames per second of the show.
        name: of the bundle; "" to derive it from the folder's.
        description, licence, source: of the model, for the manifest.
        controls: description and unit of inputs that are controls, by name.
        loop_frames: how long a model with states is compared, from the last golden frame up.
        block: side of the blocks of pixels of the live test pattern; large golden frames are packed smaller with 32.
        halve: store weights that FP16 represents exactly in FP16, each followed by a Cast.
        preview: write preview.png.
        in_bytes: with `halve`, store weights in 8 bits that these represent exactly (`export.packed_weights`).
        inline_bytes: weights of a graph above it are written to a file of their own, and never loaded as a whole.
    """

    roles: Sequence[str] = ()
    size: tuple[int, int] | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    fps: Fraction = Fraction(30)
    name: str = ""
    description: str = ""
    licence: str = "not stated"
    source: str = "not stated"
    controls: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    loop_frames: int = LONG_LOOP
    block: int = 1
    halve: bool = False
    in_bytes: bool = False
    inline_bytes: int = INLINE_BYTES
    preview: bool = True


@dataclass(frozen=True)
class ImportReport:
    """Result of an import: a line per tensor, the parity checks, and the engines that cannot run the bundle.

    `frame_ms` is the median time of a frame in milliseconds, in the order of the checks.
    """

    lines: tuple[str, ...]
    checks: tuple[ParityCheck, ...]
    refusals: tuple[str, ...]
    frame_ms: tuple[float, ...]


def import_model(
    model: Path, out: Path, *, condition: Path | None = None, options: ImportOptions | None = None, force: bool = False
) -> ImportReport:
    """Import a model of one file, or of two files that share tensors by name.

    Args:
        model: the ONNX file that makes a frame.
        out: the bundle's folder; must not exist unless `force`. It appears, or is replaced, at the very end.
        condition: the ONNX file that runs when the prompt changes, or None.
        options: None for the defaults.
        force: replace an existing bundle.

    Returns:
        What was found, and the parity checks.

    Raises:
        ValueError: the model is not supported, a role is ambiguous, or the bundle's frames in ONNX Runtime are less
            than 60 dB from the original's; nothing is written.
    """
    options = options or ImportOptions()
    with atomic_folder(out, force=force) as folder:
        first = None if condition is None else read_source(condition, options.inline_bytes)
        step = read_source(model, options.inline_bytes)
        plan = make_plan(step, first, roles=options.roles, size=options.size, shapes=options.shapes)
        built_step, built_condition = build_step(plan), build_condition(plan)
        run = run_original(plan, options.loop_frames, options.block)
        check_range(plan, run)
        graphs: dict[str, Entry] = {}
        for name, built in (("condition", built_condition), ("step", built_step)):
            if built is not None:
                if options.halve:
                    pack_weights(built[0], in_bytes=options.in_bytes)
                graphs[name] = _write_graph(folder, name, built, options.inline_bytes)
        for stage in (plan.first, plan.step):
            if stage is not None:
                stage.original.close()  # its memory, before engines take theirs
        manifest = _manifest(plan, graphs, options, options.name or _to_name(out.name))
        manifest["golden"] = [
            write_golden(
                folder,
                "original",
                run.frames,
                GOLDEN_FRAMES,
                seed=SEED,
                image=run.image,
                live=run.live,
                is_masked=bool(plan.step.inputs_of("mask")),
            )
        ]
        if options.preview:
            write_preview(folder, run, GOLDEN_FRAMES)
        write_manifest(folder, manifest)
        checks, frame_ms, refusals = _compare(folder, run)
        manifest["verified"] = {"parity": [check.to_json() for check in checks], "refusals": list(refusals)}
        write_manifest(folder, manifest)
        open_bundle(folder)
    return ImportReport(tuple(_describe(plan, manifest)), checks, refusals, frame_ms)


def _write_graph(folder: Path, name: str, built: Built, inline_bytes: int) -> Entry:
    """Write a graph, with large weights in a file of their own; return its entry for the manifest."""
    model, entry = built
    file = folder / f"{name}.onnx"
    if weight_bytes(model) <= inline_bytes:
        load_external(model)
        file.write_bytes(model.SerializeToString())
        return entry
    weights = file.with_suffix(".weights")
    save_external(model, file, weights)
    return {**entry, "weights": weights.name}


def _compare(folder: Path, run: OriginalRun) -> tuple[tuple[ParityCheck, ...], tuple[float, ...], tuple[str, ...]]:
    """Run the bundle on every engine of this machine; ONNX Runtime, which ran the original, must pass."""
    checks, times, refusals = [], [], []
    for engine, precision in available_engines():
        is_reference = (engine, precision) == ("onnxruntime", "fp32")
        try:
            check, frame_ms = compare_loop(folder, engine, precision, run)
        except EngineError as error:
            if is_reference:
                raise ValueError(f"the bundle does not run: {error}; nothing was written") from error
            refusals.append(f"{engine} in {precision}: {error}")
            continue
        checks.append(check)
        times.append(frame_ms)
        if is_reference and not check.passed:
            raise ValueError(
                f"the bundle's frames have {check.worst:.3g} dB in {engine} compared with the original, the gate is "
                f"{check.gate:g}: no bundle was written; if its opset is old, export the model with a newer one"
            )
    return tuple(checks), tuple(times), tuple(refusals)


def _manifest(plan: ImportPlan, graphs: dict[str, Entry], options: ImportOptions, name: str) -> dict[str, Any]:
    height, width = plan.size
    controls = control_entries(plan, options.controls)
    is_drawn = any(entry["role"] == "noise" for entry in graphs.get("condition", {"inputs": []})["inputs"])
    renewal = None
    if is_drawn:
        every, dissolve = (max(1, round(seconds * options.fps)) for seconds in (RENEWAL_S, DISSOLVE_S))
        renewal = {"every_frames": every, "dissolve_frames": dissolve, "correlation": 0.0}
        names = {entry["name"] for entry in controls}
        scene = [drift_control("a seed"), seed_control("which scene is made up", SEED)]
        controls += [entry for entry in scene if entry["name"] not in names]
    return {
        "schema": 1,
        "name": name,
        "description": options.description or f"Imported from {plan.step.source.path.name}.",
        "frame": {"width": width, "height": height, "fps": str(options.fps), "colour": "bt709"},
        "graphs": graphs,
        "controls": controls,
        "renewal": renewal,
        "text": None,
        "golden": [],
        "provenance": {
            "data": [],
            "imported": [
                _imported(graph, stage.source, options)
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


def _imported(graph: str, source: OnnxSource, options: ImportOptions) -> dict[str, Any]:
    return {
        "graph": graph,
        "file": source.path.name,
        "sha256": source.sha256,
        "size_bytes": source.path.stat().st_size,
        "opset": source.opset,
        "producer": f"{source.model.producer_name} {source.model.producer_version}".strip() or "not stated",
        "licence": options.licence,
        "source": options.source,
    }


def _to_name(text: str) -> str:
    """Convert a folder's name to a bundle's: `[a-z0-9][a-z0-9._-]*`, at most 64 characters."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64] or "imported"


def _describe(plan: ImportPlan, manifest: Mapping[str, Any]) -> list[str]:
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
        for name in stage.outputs if stage is plan.step else plan.step.inputs_of("memory"):
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
        text = f"state, next from {role.output}"
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
    is_stated = picture.range == stage.source.stated.range
    note = (", from the metadata" if is_stated else ", assumed") if name in plan.assumed else ""
    return f"{kind}, {picture.layout}, {colours}, range {picture.range}{note}"
