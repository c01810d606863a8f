"""The manifest of an exported generator: tensors and their roles, controls, provenance."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

import runtime
from export.graphs import CONDITION_INPUTS, PAINT_INPUTS
from export.manifest_entries import Entry, control_entry, drift_control, seed_control
from export.onnx_writer import graph_file
from training.config import Config
from training.model.generator import MotionMemory, StepState
from training.start import joined_footage

CONTROLS = (
    ("motion", "how fast everything moves; 0 holds the picture", "times the footage's speed", 0.0, 2.0, 1.0),
    ("wind_x", "pushes what is free to move to the right (or left, below 0)", "pixels per frame", -1.0, 1.0, 0.0),
    ("wind_y", "pushes what is free to move down (or up, below 0)", "pixels per frame", -1.0, 1.0, 0.0),
)


def build_manifest(
    config: Config,
    folder: Path,
    frame: tuple[int, int],
    sizes: Sequence[tuple[int, int]],
    golden: list[Entry],
    text: Entry | None = None,
) -> Entry:
    """Return the manifest of the graphs in a folder, without `files` and `sha256`, which `write_manifest` fills in.

    Args:
        config: the run's configuration.
        folder: holds the graphs.
        frame: width and height of the frames in pixels, if the user names no other size.
        sizes: work sizes of the graphs; golden frames have half the first.
        golden: entries of the `golden` list.
        text: the entry `text`, for a generator that takes text.
    """
    default_seed = golden[0]["seed"] if golden else 0
    controls = [control_entry(*control, index=index) for index, control in enumerate(CONTROLS)]
    controls.append(drift_control("a seed or from text"))
    controls.append(seed_control("which scene is made up, and how it moves", default_seed))
    fps = Fraction(config.footage.fps).limit_denominator(1001)
    return {
        "schema": 2,
        "name": config.name,
        "description": config.description,
        "frame": {
            "width": frame[0],
            "height": frame[1],
            "fps": str(fps),
            "colour": "bt709",
            "sharpness": config.model.sharpness,
            "pace": config.model.pace,
        },
        "graphs": {
            "shapes": [
                {
                    "width": size[0],
                    "height": size[1],
                    "condition": _graph(folder, graph_file("condition", size), _CONDITION_ROLES),
                    "step": _graph(folder, graph_file("step", size), _STEP_ROLES),
                }
                for size in sizes
            ],
            "paint": _graph(folder, "paint.onnx", _PAINT_ROLES),
        },
        "controls": controls,
        "renewal": {
            "every_frames": config.renewal_every_frames,
            "dissolve_frames": config.renewal_dissolve_frames,
            "correlation": config.renewal_correlation,
        },
        "text": text,
        "golden": golden,
    }


def provenance(config: Config, facts: dict[str, Any]) -> Entry:
    """Return the provenance of a bundle: footage and licences, configuration, software, training."""
    start = facts.get("start")  # a generator whose footage counts, too
    pictures = {"pictures": _counted(facts["pictures"], "pictures")} if facts.get("pictures") else {}
    return {
        "data": _counted(joined_footage(facts["footage"], start["footage"] if start else ()), "clips"),
        **pictures,  # that the enlarger was trained on
        "config_sha256": config.digest(),
        "commit": _commit(),
        "software": {
            "everframe": runtime.__version__,
            "torch": importlib.metadata.version("torch"),
            "onnx": importlib.metadata.version("onnx"),
            "python": platform.python_version(),
        },
        "training": {
            "stage": facts["stage"],
            "iterations": facts["iteration"],
            "seed": config.run.seed,
            "trained_size": [config.model.width, config.model.height],
            "footage": dataclasses.asdict(config.footage),
            "model": dataclasses.asdict(config.model),
            **({"start": {"name": start["name"], "sha256": start["sha256"]}} if start else {}),
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _counted(files: Iterable[Sequence[str]], unit: str) -> list[dict[str, Any]]:
    """Return how many files of each licence and source there are; each file is (name, licence, source)."""
    found = Counter((licence or "not stated", source or "not stated") for _, licence, source in files)
    return [
        {"name": source, "licence": licence, "source": source, unit: count}
        for (licence, source), count in sorted(found.items())
    ]


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"


def _graph(folder: Path, file: str, roles: dict[str, Entry]) -> Entry:
    """Return the entry of a graph."""
    graph = onnx.load(folder / file).graph
    return {"file": file, "inputs": _tensors(graph.input, roles), "outputs": _tensors(graph.output, roles)}


def _tensors(values: Any, roles: dict[str, Entry]) -> list[Entry]:
    tensors = []
    for value in values:
        kind = value.type.tensor_type
        shape = [dimension.dim_value for dimension in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
        tensors.append({"name": value.name, "dtype": dtype, "shape": shape, **roles[value.name]})
    return tensors


_PAINT_ROLES: dict[str, Entry] = {name: {"role": name} for name in (*PAINT_INPUTS, "picture")}
_CONDITION_ROLES: dict[str, Entry] = {
    **{name: {"role": name} for name in CONDITION_INPUTS},
    "given": {"role": "given", "of": ["clip"]},
    **{slot: {"role": "memory"} for slot in MotionMemory._fields},
}
_STEP_ROLES: dict[str, Entry] = {
    **{name: {"role": name} for name in ("mix", "noise", "control", "moves")},
    **{f"a_{slot}": {"role": "memory_a", "slot": slot} for slot in MotionMemory._fields},
    **{f"b_{slot}": {"role": "memory_b", "slot": slot} for slot in MotionMemory._fields},
    **{part: {"role": "state", "next": f"next_{part}"} for part in StepState._fields},
    **{f"next_{part}": {"role": "state"} for part in StepState._fields},
}
