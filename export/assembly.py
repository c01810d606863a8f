"""A run folder -> a bundle: complete and checked, or not there at all."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from export.manifest import build_manifest, provenance
from export.onnx_files import round_weights, write_graphs
from export.parity import closed_loop, one_step
from export.placing import placed
from export.reference import Evaluation, Prompt
from export.reference import closed_loop as reference_loop
from export.rung import Rung, print_rungs, runnable
from export.vocabulary import write_vocabulary
from runtime.bundle import open_bundle, write_manifest
from training.checkpoint import load_generator
from training.generator import CLIP

GOLDEN_FRAMES = (1, 10, 100, 300)
FEW_FRAMES = (100,)  # of the golden runs that differ from the first one in their prompt alone
GOLDEN_CLIP = 2  # frames of the golden clip: the runtime repeats the oldest, and that is tested along
GOLDEN_SEED = 7
GOLDEN_TEXT = "a waterfall in the mountains"
IMAGE_SEED = 11  # the picture of the second golden run is a frame made from this seed


class ExportError(ValueError):
    """The bundle that came out is not the generator that went in; nothing was written."""


def export_run(
    run: Path, out: Path, *, frames: int = 300, force: bool = False, words: Path | None = None
) -> list[Rung]:
    """Export the newest checkpoint of a run.

    Args:
        run: folder with finetune.pt or pretrain.pt.
        out: the bundle's folder; must not exist unless `force`, and then is replaced in one move at the very end.
        frames: length of the closed loops, at least 300 for the golden frames.
        force: replace an existing bundle.
        words: vectors of words, for a generator that listens to text; None for those that it was trained with.

    Returns:
        What was compared, all passed.

    Raises:
        ValueError: there is nothing to export, or `out` is taken.
        ExportError: an engine's frames differ from PyTorch's by more than its gate.
    """
    with placed(out, force=force) as folder:
        generator, config, facts = load_generator(run)
        round_weights(generator)
        with Progress(transient=True) as progress:
            task = progress.add_task("graphs", total=None)
            entry = vocabulary = None
            if config.model.text_dimensions:
                if words is None and not facts["words"]:
                    raise ValueError("the generator listens to text and was trained without words: pass --words WORDS")
                entry, vocabulary = write_vocabulary(words or Path(facts["words"]), folder, facts["vocabulary"])
                if vocabulary.dimensions != config.model.text_dimensions:
                    raise ValueError(
                        f"the generator listens to text vectors of {config.model.text_dimensions} values and the words "
                        f"have {vocabulary.dimensions}: pass those of the training with --words WORDS"
                    )
            write_graphs(generator, folder)
            (folder / "golden").mkdir()
            progress.update(task, description="PyTorch, closed loop")
            count = max(frames, GOLDEN_FRAMES[-1])
            own = islice(reference_loop(generator, IMAGE_SEED, Prompt()), CLIP)
            clip = np.stack([evaluation.frame.copy() for evaluation in own])
            padded = np.concatenate([clip[:1].repeat(CLIP - GOLDEN_CLIP, axis=0), clip[:GOLDEN_CLIP]])
            prompts = {"noise": Prompt(), "image": Prompt(image=clip[-1]), "clip": Prompt(clip=padded)}
            if vocabulary is not None:
                prompts["text"] = Prompt(text=GOLDEN_TEXT, vector=vocabulary.encode([GOLDEN_TEXT])[0])
            loops: dict[str, tuple[Prompt, list[npt.NDArray[np.uint8]], Evaluation]] = {}
            golden: list[dict[str, Any]] = []
            for name, prompt in prompts.items():
                is_long = name == "noise"
                length = count if name in ("noise", "image") else FEW_FRAMES[-1]
                evaluations = list(islice(reference_loop(generator, GOLDEN_SEED, prompt), length))
                made = [evaluation.frame for evaluation in evaluations]
                loops[name] = (prompt, made, evaluations[len(evaluations) // 2])
                golden.append(_write_golden(folder, name, prompt, made, GOLDEN_FRAMES if is_long else FEW_FRAMES))
                del evaluations
            manifest = build_manifest(config, folder, golden, entry)
            manifest["provenance"] = provenance(config, facts)
            manifest["verified"] = {}
            write_manifest(folder, manifest)
            rungs = []
            for name, (prompt, made, middle) in loops.items():
                progress.update(task, description=f"parity, {name}")
                rungs.append(one_step(folder, middle, name))
                for engine, precision in runnable():
                    rungs.append(closed_loop(folder, engine, precision, name, GOLDEN_SEED, prompt, made))
        print_rungs(rungs, "parity with PyTorch")
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
    return rungs


def _write_golden(
    folder: Path, name: str, prompt: Prompt, made: list[npt.NDArray[np.uint8]], numbers: tuple[int, ...]
) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "frames": np.stack([made[number - 1] for number in numbers]),
        "indices": np.array(numbers, np.int32),
    }
    entry: dict[str, Any] = {
        "file": f"golden/{name}.npz",
        "seed": GOLDEN_SEED,
        "image": prompt.image is not None,
        "frames": list(numbers),
    }
    if prompt.image is not None:
        arrays["image"] = prompt.image
    if prompt.clip is not None:
        arrays["clip"] = prompt.clip[-GOLDEN_CLIP:]
        entry["clip"] = True
    if prompt.text is not None:
        entry["text"] = prompt.text
    np.savez_compressed(folder / "golden" / f"{name}.npz", **arrays)
    return entry
