"""Runs what needs PyTorch in processes of their own, one after the other, and reuses parts that are already exported.

Imports no PyTorch: when the bundle is compared, all memory of PyTorch is free.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.diffusers.assembly import ExportedParts
from export.diffusers.job import PipelineJob
from export.diffusers.pipeline_folder import PipelineFolder
from export.diffusers.schedule import ScheduleTables
from export.diffusers.weight_files import weight_files

Request = dict[str, Any]
Run = Callable[[Request], None]
Say = Callable[[str], object]
ONE_PROCESS_BYTES = 2**28  # of weights; smaller pipelines are exported in one process


def run_child(request: Request) -> None:
    """Do a request in a process of its own (export/diffusers/parts_child.py).

    Raises:
        ValueError: the process failed, or there is not enough memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request), "utf-8")
        command = [sys.executable, "-m", "export.diffusers.parts_child", str(path)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode == 0:
        return
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else "it gave no reason"
    if done.returncode in (-9, 137):
        last = "the system ended it, most likely for lack of memory: close other programs and run the command again"
    raise ValueError(f"the process that exports {what_of(request)} failed: {last}")


def what_of(request: Request) -> str:
    """Return what a request makes, in words."""
    return ", ".join(request.get("parts", ())) or (
        "the schedule" if "schedule" in request else "the frames of diffusers"
    )


def part_hashes(folder: PipelineFolder, part: str, hashes: Mapping[Path, str]) -> dict[str, str]:
    """Return the hashes of the files that a part depends on by their names, and what it takes from other parts."""
    owner = {"encoder": folder.vae_path, "decoder": folder.vae_path}.get(part, folder.path / part)
    files = weight_files(owner, folder.variant)
    if part not in ("encoder", "decoder"):
        files += [file for file in hashes if any(_is_of(file, source) for source, _ in folder.lora)]
    found = {file.name: hashes[file] for file in files}
    found |= {"config.json": (owner / "config.json").read_text("utf-8"), "family": folder.family}
    if part == "unet":
        found |= {"text length": str(folder.text_length), "scale": str(folder.scale)}
    return found


def export_parts(
    job: PipelineJob,
    folder: PipelineFolder,
    names: Sequence[str],
    out: Path,
    *,
    hashes: Mapping[Path, str],
    run: Run = run_child,
    say: Say = print,
) -> ExportedParts:
    """Export the parts of a pipeline that are not there yet, and the tables of its scheduler.

    Args:
        job, folder: of the export.
        names: of the parts.
        out: folder of the parts.
        hashes: SHA-256 of every weight file.
        run: does a request; a process for each by default.
        say: called with a line per part.

    Raises:
        ValueError: a part cannot be exported.
    """
    out.mkdir(parents=True, exist_ok=True)
    keys = {name: job.key(name, part_hashes(folder, name, hashes)) for name in names}
    missing = [name for name in names if not _is_there(out, name, keys[name])]
    for name in names:
        if name not in missing:
            say(f"{name}: already exported, reused")
    size = sum(file.stat().st_size for file in hashes)
    groups = [missing] if missing and size <= ONE_PROCESS_BYTES else [[name] for name in missing]
    common = {"job": job.to_json(), "out": str(out), "keys": keys}
    for group in groups:
        start = time.monotonic()
        say(f"{', '.join(group)}: exporting ...")
        run({**common, "parts": group})
        total = sum((out / f"{name}{end}").stat().st_size for name in group for end in (".onnx", ".weights"))
        say(f"{', '.join(group)}: exported in {time.monotonic() - start:.0f} s, {total / 1e6:.1f} MB")
    run({**common, "schedule": str(out / "schedule.npz")})
    with np.load(out / "schedule.npz") as arrays:
        tables = ScheduleTables(**{name: arrays[name] for name in arrays.files})
    facts = {name: json.loads((out / f"{name}.json").read_text("utf-8"))["facts"] for name in names}
    return ExportedParts(out, facts, tables)


def reference_frames(
    job: PipelineJob,
    prompt: str,
    noise: npt.NDArray[np.float32],
    live: npt.NDArray[np.uint8] | None,
    out: Path,
    *,
    run: Run = run_child,
) -> npt.NDArray[np.uint8]:
    """Return frames of diffusers itself.

    Args:
        job: of the export.
        prompt: the text.
        noise: float32 (frames, K, 4, h, w).
        live: uint8 (frames, H, W, 3), or None.
        out: folder for files in between.
        run: does a request.

    Returns:
        uint8 (frames, H, W, 3).
    """
    inputs, frames = out / "inputs.npz", out / "frames.npz"
    np.savez(inputs, **({"noise": noise} if live is None else {"noise": noise, "live": live}))
    run({"job": job.to_json(), "frames": str(frames), "inputs": str(inputs), "prompt": prompt})
    with np.load(frames) as arrays:
        found: npt.NDArray[np.uint8] = arrays["frames"]
    for file in (inputs, frames):
        file.unlink()
    return found


def _is_there(out: Path, name: str, key: str) -> bool:
    try:
        stated = json.loads((out / f"{name}.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    is_same = isinstance(stated, dict) and stated.get("key") == key
    return is_same and all((out / f"{name}{end}").is_file() for end in (".onnx", ".weights"))


def _is_of(file: Path, source: Path) -> bool:
    return file == source or file.parent == source
