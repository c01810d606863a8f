"""Imports an existing ONNX model as a bundle: converts it, and writes it if its frames match the original's."""

from __future__ import annotations

import datetime
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import onnx

import runtime
from export.external_weights import INLINE_BYTES, load_external, save_external, weight_bytes
from export.folder_writer import atomic_folder
from export.from_onnx.acceptance import judge
from export.from_onnx.comparison import Comparison, Refusal, compare_engines, record_speeds
from export.from_onnx.description import describe_plan
from export.from_onnx.flatness import first_frames
from export.from_onnx.graphs import Built, build_condition, build_step, control_entries
from export.from_onnx.model import OnnxSource, file_sha256, read_source
from export.from_onnx.original import onnxruntime_version
from export.from_onnx.parity import GOLDEN_FRAMES, LONG_LOOP, SEED, check_range, loop_length
from export.from_onnx.plan import ImportPlan, make_plan
from export.from_onnx.preview import write_preview
from export.from_onnx.progress import ProgressLines
from export.from_onnx.text_inputs import TextOptions
from export.manifest_entries import Entry, drift_control, seed_control, write_golden
from export.packed_weights import pack_weights
from export.parity.checks import ParityCheck, available_engines
from export.tokenizer_files import write_tokenizers
from runtime.bundle.reader import open_bundle, write_manifest

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
        text: tokenizers and length of texts, for a first model that takes tokens.
        accept_parity: write the bundle although its frames in ONNX Runtime differ from the original's.
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
    text: TextOptions = field(default_factory=TextOptions)
    accept_parity: bool = False


@dataclass(frozen=True)
class ImportReport:
    """Result of an import: a line per tensor, the parity checks, and the engines that cannot run the bundle.

    `frame_ms` is the median time of a frame in milliseconds, in the order of the checks. `notes` are sentences about
    what a user should know or change.
    """

    lines: tuple[str, ...]
    checks: tuple[ParityCheck, ...]
    refusals: tuple[Refusal, ...]
    frame_ms: tuple[float, ...]
    notes: tuple[str, ...] = ()


def import_model(
    model: Path,
    out: Path,
    *,
    condition: Path | None = None,
    options: ImportOptions | None = None,
    force: bool = False,
    say: Callable[[str], object] = lambda _: None,
) -> ImportReport:
    """Import a model of one file, or of two files that share tensors by name.

    Args:
        model: the ONNX file that makes a frame.
        out: the bundle's folder; must not exist unless `force`. It appears, or is replaced, at the very end.
        condition: the ONNX file that runs when the prompt changes, or None.
        options: None for the defaults.
        force: replace an existing bundle.
        say: gets a line of progress every two seconds.

    Returns:
        What was found, and the parity checks.

    Raises:
        ValueError: the model is not supported, a role is ambiguous, or the bundle's frames in ONNX Runtime are less
            than 60 dB from the original's and `accept_parity` is not set; nothing is written.
    """
    options, progress = options or ImportOptions(), ProgressLines(say)
    with atomic_folder(out, force=force) as folder:
        first = None if condition is None else read_source(condition, options.inline_bytes)
        step = read_source(model, options.inline_bytes)
        shapes, text = options.shapes, options.text
        plan = make_plan(step, first, roles=options.roles, size=options.size, shapes=shapes, text=text)
        built_step, built_condition = build_step(plan), build_condition(plan)
        count = loop_length(plan, options.loop_frames)
        loop, notes = first_frames(plan, options.block, progress.counter("the original", GOLDEN_FRAMES[-1]))
        check_range(plan, loop.run, is_whole=count <= GOLDEN_FRAMES[-1])
        run = loop.run
        graphs: dict[str, Entry] = {}
        for name, built in (("condition", built_condition), ("step", built_step)):
            if built is not None:
                if options.halve:
                    pack_weights(built[0], in_bytes=options.in_bytes)
                graphs[name] = _write_graph(folder, name, built, options.inline_bytes, progress)
        if any("weights" in entry for entry in graphs.values()):  # large: not at the same time as in another engine
            loop.make(count, progress.counter("the original", count))
            check_range(plan, loop.run)
        if len(loop.run.frames) >= count:
            for stage in (plan.first, plan.step):
                if stage is not None:
                    stage.original.close()
        manifest = _manifest(plan, graphs, options, options.name or _to_name(out.name))
        if plan.text is not None:
            manifest["text"] = write_tokenizers(
                folder, plan.text.sources, licence=options.licence, source=options.source
            )
        manifest["golden"] = [
            write_golden(
                folder,
                "original",
                run.frames,
                GOLDEN_FRAMES,
                seed=SEED,
                image=run.image,
                live=run.live,
                text=run.text,
                is_masked=bool(plan.step.inputs_of("mask")),
            )
        ]
        if options.preview:
            write_preview(folder, run, GOLDEN_FRAMES)
        write_manifest(folder, manifest)
        judged: list[str] = []
        found = compare_engines(
            folder,
            loop,
            count,
            available_engines(),
            progress,
            lambda check: judged.extend(judge(folder, plan, check, accept_parity=options.accept_parity)),
        )
        manifest["verified"] = _verified(found)
        write_manifest(folder, manifest)
        record_speeds(open_bundle(folder), found)
    return ImportReport(
        tuple(describe_plan(plan, manifest)), found.checks, found.refusals, found.frame_ms, (*notes, *judged)
    )


def _write_graph(folder: Path, name: str, built: Built, inline_bytes: int, progress: ProgressLines) -> Entry:
    """Write a graph, with large weights in a file of their own; return its entry for the manifest."""
    model, entry = built
    file = folder / f"{name}.onnx"
    if weight_bytes(model) <= inline_bytes:
        load_external(model)
        file.write_bytes(model.SerializeToString())
        return entry
    weights = file.with_suffix(".weights")
    save_external(model, file, weights, report=progress.share(f"writing {weights.name}"))
    return {**entry, "weights": weights.name}


def _verified(found: Comparison) -> dict[str, Any]:
    """Return the manifest's `verified`."""
    verified: dict[str, Any] = {
        "parity": [check.to_json() for check in found.checks],
        "refusals": [refusal.to_json() for refusal in found.refusals],
    }
    return verified if found.checks[0].passed else {**verified, "accepted": True}


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
    folder = source.path.parent.resolve()
    weights = [
        {"file": path.relative_to(folder).as_posix(), "sha256": file_sha256(path), "size_bytes": path.stat().st_size}
        for path in source.weights_files
    ]
    return {
        "graph": graph,
        "file": source.path.name,
        "sha256": source.sha256,
        "size_bytes": source.path.stat().st_size,
        **({"weights": weights} if weights else {}),
        "opset": source.opset,
        "producer": f"{source.model.producer_name} {source.model.producer_version}".strip() or "not stated",
        "licence": options.licence,
        "source": options.source,
    }


def _to_name(text: str) -> str:
    """Convert a folder's name to a bundle's: `[a-z0-9][a-z0-9._-]*`, at most 64 characters."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:64] or "imported"
