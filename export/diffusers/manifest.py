"""The manifest of an exported pipeline: controls, renewal and provenance."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import runtime
from export.diffusers.assembly import control_names
from export.diffusers.job import PipelineJob
from export.diffusers.parity import SEED
from export.diffusers.pipeline_folder import PipelineFolder
from export.from_onnx.model import OPSET
from export.manifest_entries import Entry, control_entry, drift_control, seed_control

RENEWAL_S = 3.0  # from one noise to the next, in the mode "txt2img"
MAX_GUIDANCE = 15.0


def build_manifest(
    folder: PipelineFolder,
    job: PipelineJob,
    *,
    name: str,
    description: str,
    fps: Fraction,
    graphs: Entry,
    text: Entry,
    sources: Mapping[Path, str],
    licence: str,
    source: str,
) -> dict[str, Any]:
    """Return the manifest, without golden frames and `files`.

    Args:
        folder, job: of the export.
        name, description: of the bundle.
        fps: frames per second of a show.
        graphs: entries of the step and the condition graph.
        text: entry of the tokenizers.
        sources: SHA-256 of every weight file.
        licence, source: of the pipeline, as stated by whoever exports it.
    """
    controls = _controls(folder, job)
    renewal = None
    if job.mode == "txt2img":
        # The next cross-fade begins where one ends: the noise is always on its way.
        every = max(1, round(RENEWAL_S * fps))
        renewal = {"every_frames": every, "dissolve_frames": every, "correlation": 0.0}
        controls.append(drift_control("a seed or from text"))
    controls.append(seed_control("the noise that pictures are made from", SEED))
    return {
        "schema": 1,
        "name": name,
        "description": description,
        "frame": {"width": job.width, "height": job.height, "fps": str(fps), "colour": "bt709"},
        "graphs": graphs,
        "controls": controls,
        "renewal": renewal,
        "text": text,
        "golden": [],
        "provenance": {
            "data": [],
            "imported": [
                {
                    "graph": "condition" if "text_encoder" in file.parent.name else "step",
                    "file": f"{file.parent.name}/{file.name}",
                    "sha256": digest,
                    "size_bytes": file.stat().st_size,
                    "opset": OPSET,
                    "producer": f"diffusers {importlib.metadata.version('diffusers')}",
                    "licence": licence,
                    "source": source,
                }
                for file, digest in sources.items()
            ],
            "config_sha256": "",
            "commit": "",
            "software": {
                "everframe": runtime.__version__,
                **{name: importlib.metadata.version(name) for name in ("diffusers", "transformers", "torch", "onnx")},
                "python": platform.python_version(),
            },
            "training": {},
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
        "verified": {},
    }


def _controls(folder: PipelineFolder, job: PipelineJob) -> list[Entry]:
    """Return the controls of the step graph."""
    entries = {
        "strength": (
            "how much of the live picture is replaced: where in the schedule of the noise a frame begins",
            "share of the schedule", 0.0, 1.0, job.strength,
        ),
        "guidance": ("how closely frames follow the prompt", "guidance scale", 1.0, MAX_GUIDANCE, job.guidance),
    }  # fmt: skip
    names = control_names(folder, job)
    return [control_entry(name, *entries[name], index=place) for place, name in enumerate(names)]
