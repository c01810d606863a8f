"""A run folder -> a bundle: complete and checked, or not there at all."""

from __future__ import annotations

import shutil
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from export.manifest import build_manifest, provenance
from export.onnx_files import round_weights, write_graphs
from export.parity import Rung, closed_loop, one_step, runnable
from export.reference import Evaluation
from export.reference import closed_loop as reference_loop
from runtime.bundle import open_bundle, write_manifest
from training.checkpoint import load_generator

GOLDEN_FRAMES = (1, 10, 100, 300)
GOLDEN_SEED = 7
IMAGE_SEED = 11  # the picture of the second golden run is a frame made from this seed


class ExportError(ValueError):
    """The bundle that came out is not the generator that went in; nothing was written."""


def export_run(run: Path, out: Path, *, frames: int = 300, force: bool = False) -> list[Rung]:
    """Export the newest checkpoint of a run.

    Args:
        run: folder with finetune.pt or pretrain.pt.
        out: the bundle's folder; must not exist unless `force`, and then is replaced in one move at the very end.
        frames: length of the closed loops, at least 300 for the golden frames.
        force: replace an existing bundle.

    Returns:
        What was compared, all passed.

    Raises:
        ValueError: there is nothing to export, or `out` is taken.
        ExportError: an engine's frames differ from PyTorch's by more than its gate.
    """
    if out.exists() and not force:
        raise ValueError(f"{out} exists already: name another --out, or pass --force to replace it")
    generator, config, facts = load_generator(run)
    round_weights(generator)
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        with Progress(transient=True) as progress:
            task = progress.add_task("graphs", total=None)
            write_graphs(generator, folder)
            (folder / "golden").mkdir()
            loops: dict[str, tuple[int, npt.NDArray[np.uint8] | None, list[npt.NDArray[np.uint8]], Evaluation]] = {}
            progress.update(task, description="PyTorch, closed loop")
            picture = next(reference_loop(generator, IMAGE_SEED, None)).frame.copy()
            golden: list[dict[str, Any]] = []
            for name, image in (("noise", None), ("image", picture)):
                evaluations = list(
                    islice(reference_loop(generator, GOLDEN_SEED, image), max(frames, GOLDEN_FRAMES[-1]))
                )
                made = [evaluation.frame for evaluation in evaluations]
                loops[name] = (GOLDEN_SEED, image, made, evaluations[len(evaluations) // 2])
                golden.append(_write_golden(folder, name, image, made))
            manifest = build_manifest(config, folder, golden)
            manifest["provenance"] = provenance(config, facts)
            manifest["verified"] = {}
            write_manifest(folder, manifest)
            rungs = []
            for name, (seed, image, made, middle) in loops.items():
                progress.update(task, description=f"parity, {name}")
                rungs.append(one_step(folder, middle, name))
                for engine, precision in runnable():
                    rungs.append(closed_loop(folder, engine, precision, name, seed, image, made))
        print_rungs(rungs)
        failed = [rung for rung in rungs if not rung.passed]
        if failed:
            worst = failed[0]
            raise ExportError(
                f"{worst.engine} in {worst.precision} ({worst.run}) came out at {worst.worst:.3g} {worst.unit}, "
                f"the gate is {worst.gate:g}: no bundle was written"
            )
        manifest["verified"] = {"parity": [rung.to_json() for rung in rungs]}
        write_manifest(folder, manifest)
        shutil.rmtree(folder / "engines", ignore_errors=True)
        open_bundle(folder)
        _replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return rungs


def _write_golden(
    folder: Path, name: str, image: npt.NDArray[np.uint8] | None, made: list[npt.NDArray[np.uint8]]
) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "frames": np.stack([made[number - 1] for number in GOLDEN_FRAMES]),
        "indices": np.array(GOLDEN_FRAMES, np.int32),
    }
    if image is not None:
        arrays["image"] = image
    np.savez_compressed(folder / "golden" / f"{name}.npz", **arrays)
    return {
        "file": f"golden/{name}.npz",
        "seed": GOLDEN_SEED,
        "image": image is not None,
        "frames": list(GOLDEN_FRAMES),
    }


def _replace(folder: Path, out: Path) -> None:
    folder.chmod(0o755)
    if not out.exists():
        folder.rename(out)
        return
    # Two renames: for a moment there is no bundle, never half a one.
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    try:
        out.rename(old / out.name)
        folder.rename(out)
    finally:
        shutil.rmtree(old, ignore_errors=True)


def print_rungs(rungs: list[Rung]) -> None:
    """Print the comparisons as a table."""
    table = Table(title="parity with PyTorch")
    for heading in ("engine", "precision", "run", "frames", "worst", "mean", "gate", ""):
        table.add_column(heading)
    for rung in rungs:
        style = "{:.2e}" if rung.unit == "relative error" else "{:.1f} dB"
        cells = (style.format(value) for value in (rung.worst, rung.mean, rung.gate))
        verdict = "passed" if rung.passed else "FAILED"
        table.add_row(rung.engine, rung.precision, rung.run, str(rung.frames), *cells, verdict)
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)  # in a log file rich folds at 80 columns, the table needs more
    console.print(table)
