"""Does one request of `export.diffusers.parts` with PyTorch, in a process of its own.

python -m export.diffusers.parts_child REQUEST.json
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from export.diffusers.components import export_part
from export.diffusers.job import PipelineJob
from export.diffusers.loading import load_scheduler, quiet
from export.diffusers.reference import ReferencePipeline
from export.diffusers.schedule import ScheduleTables, schedule_tables

LEVELS = 1000  # of strength: one for each timestep of Stable Diffusion


def do(request: dict[str, Any]) -> None:
    """Do one request.

    Args:
        request: `job` (JSON of a `PipelineJob`), and `parts` with `out` (exports parts), or `schedule` (writes the
            tables there), or `frames` (writes frames of diffusers there: `noise` and `live` are its inputs).
    """
    job = PipelineJob.from_json(request["job"])
    for part in request.get("parts", ()):
        out = Path(request["out"])
        (out / f"{part}.json").unlink(missing_ok=True)  # until the files of the part are complete
        facts = export_part(job, part, out)
        write_json(out / f"{part}.json", {"key": request["keys"][part], "facts": facts})
    if "schedule" in request:
        with quiet():
            levels = LEVELS if job.mode == "img2img" else 1
            scheduler = load_scheduler(job.read())
            tables = schedule_tables(scheduler, job.steps, levels, from_noise=job.mode == "txt2img")
        np.savez(request["schedule"], **{item.name: getattr(tables, item.name) for item in fields(ScheduleTables)})
    if "frames" in request:
        with np.load(request["inputs"]) as arrays:
            noise, live = arrays["noise"], arrays["live"] if "live" in arrays.files else None
        reference = ReferencePipeline(job)
        pictures = [None] * len(noise) if live is None else list(live)
        frames = [
            reference.frame(request["prompt"], part, picture) for part, picture in zip(noise, pictures, strict=True)
        ]
        np.savez(request["frames"], frames=np.stack(frames))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file beside its place, and rename it."""
    temporary = path.with_suffix(".writing")
    temporary.write_text(json.dumps(value), "utf-8")
    temporary.replace(path)


def main() -> int:
    """Do the request of the command line; an error of the user's is one line and status 2."""
    try:
        do(json.loads(Path(sys.argv[1]).read_text("utf-8")))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
