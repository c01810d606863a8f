"""The manifest of an exported generator: tensors and their roles, controls, provenance."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import platform
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import onnx
from onnx import helper

import runtime
from export.graphs import step_inputs, step_outputs
from export.manifest_entries import Entry, control_entry, drift_control, seed_control
from training.config import Config
from training.model.generator import ConditionMemory, StepState

CONTROLS = (
    ("motion", "how fast everything moves; 0 holds the picture", "times the footage's speed", 0.0, 2.0, 1.0),
    ("wind_x", "pushes what is free to move to the right (or left, below 0)", "pixels per frame", -1.0, 1.0, 0.0),
    ("wind_y", "pushes what is free to move down (or up, below 0)", "pixels per frame", -1.0, 1.0, 0.0),
)


def build_manifest(config: Config, folder: Path, golden: list[Entry], text: Entry | None = None) -> Entry:
    """Return the manifest of the graphs in a folder, without `files` and `sha256`, which `write_manifest` fills in.

    Args:
        config: the run's configuration.
        folder: holds condition.onnx and step.onnx.
        golden: entries of the `golden` list.
        text: the entry `text`, for a generator that takes text.
    """
    default_seed = golden[0]["seed"] if golden else 0
    controls = [control_entry(*control, index=index) for index, control in enumerate(CONTROLS)]
    controls.append(drift_control("a seed or from text"))
    controls.append(seed_control("which scene is made up, and how it moves", default_seed))
    condition = onnx.load(folder / "condition.onnx")
    step = onnx.load(folder / "step.onnx")
    fps = Fraction(config.footage.fps).limit_denominator(1001)
    return {
        "schema": 1,
        "name": config.name,
        "description": config.description,
        "frame": {
            "width": config.model.width,
            "height": config.model.height,
            "fps": str(fps),
            "colour": "bt709",
        },
        "graphs": {
            "condition": {
                "file": "condition.onnx",
                "inputs": _tensors(
                    condition.graph.input,
                    {
                        "image": {"role": "image"},
                        "mask": {"role": "mask", "of": "image"},
                        "clip": {"role": "clip"},
                        "given": {"role": "given", "of": ["clip"]},
                        "noise": {"role": "noise"},
                        "text": {"role": "text"},
                    },
                ),
                "outputs": _tensors(
                    condition.graph.output, {slot: {"role": "memory"} for slot in ConditionMemory._fields}
                ),
            },
            "step": {
                "file": "step.onnx",
                "inputs": _tensors(step.graph.input, _step_input_roles()),
                "outputs": _tensors(step.graph.output, _step_output_roles()),
                "picture": "picture",
            },
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
    data: dict[tuple[str, str], int] = {}
    for _, licence, source in facts["footage"]:
        key = (licence or "not stated", source or "not stated")
        data[key] = data.get(key, 0) + 1
    return {
        "data": [
            {"name": source, "licence": licence, "source": source, "clips": clips}
            for (licence, source), clips in sorted(data.items())
        ],
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
            "trained_size": list(facts["trained_size"]),  # (width, height); the export may have another size
            "footage": dataclasses.asdict(config.footage),
        },
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"


def _tensors(values: Any, roles: dict[str, Entry]) -> list[Entry]:
    tensors = []
    for value in values:
        if value.name not in roles:  # the float picture, which the watermark needs and which has no role
            continue
        kind = value.type.tensor_type
        shape = [dimension.dim_value for dimension in kind.shape.dim]
        tensors.append(
            {
                "name": value.name,
                "dtype": helper.tensor_dtype_to_np_dtype(kind.elem_type).name,
                "shape": shape,
                **roles[value.name],
            }
        )
    return tensors


def _step_input_roles() -> dict[str, Entry]:
    roles: dict[str, Entry] = {
        "mix": {"role": "mix"},
        "noise": {"role": "noise"},
        "control": {"role": "control"},
    }
    for slot in ConditionMemory._fields:
        roles[f"a_{slot}"] = {"role": "memory_a", "slot": slot}
        roles[f"b_{slot}"] = {"role": "memory_b", "slot": slot}
    for part in StepState._fields:
        roles[part] = {"role": "state", "next": f"next_{part}"}
    assert set(roles) == set(step_inputs())
    return roles


def _step_output_roles() -> dict[str, Entry]:
    roles: dict[str, Entry] = {pixels: {"role": "frame", "pixels": pixels} for pixels in ("rgb", "i420")}
    for part in StepState._fields:
        roles[f"next_{part}"] = {"role": "state"}
    assert set(roles) == set(step_outputs()) - {"picture"}
    return roles
