"""A run folder -> a bundle: complete and checked, or not there at all."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.engines import EngineRequest, build_engines, half_share, plan_engines
from export.folder_writer import placed
from export.manifest_writer import build_manifest, provenance
from export.onnx_writer import round_weights, write_graphs
from export.parity.checks import ParityCheck, print_rungs, runnable
from export.parity.engines import closed_loop, one_step
from export.parity.reference import ReferencePrompt, StepEvaluation
from export.parity.reference import closed_loop as reference_loop
from export.progress import ProgressRow, ProgressTable
from export.vocabulary import write_vocabulary
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.engines.table import count_cores
from training.checkpoint import load_generator
from training.config import Config
from training.data.words import WordVectors
from training.model.generator import CLIP, VideoGenerator

GOLDEN_FRAMES = (1, 10, 100, 300)
FEW_FRAMES = (100,)  # of the golden runs that differ from the first one in their prompt alone
GOLDEN_CLIP = 2  # frames of the golden clip: the runtime repeats the oldest, and that is tested along
GOLDEN_SEED = 7
GOLDEN_TEXT = "a waterfall in the mountains"
IMAGE_SEED = 11  # the picture of the second golden run is a frame made from this seed


class ExportError(ValueError):
    """The bundle that came out is not the generator that went in; nothing was written."""


@dataclass(frozen=True)
class ExportOptions:
    """What an export is to be, beyond its run.

    Args:
        frames: length of the closed loops, at least 300 for the golden frames.
        words: vectors of words, for a generator that listens to text; None for those that it was trained with.
        size: (width, height) in pixels; None for that of the training.
        precisions: of "fp32" and "fp16", for engines and for the parity in ONNX Runtime (where FP32 is always run).
        engines: of TensorRT's to build; None for those that can be built here, () for none.
        targets: compute capabilities for TensorRT-RTX; empty for engines that run on all it knows from Ampere on.
    """

    frames: int = 300
    words: Path | None = None
    size: tuple[int, int] | None = None
    precisions: tuple[str, ...] = ("fp32", "fp16")
    engines: tuple[str, ...] | None = None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReferenceLoop:
    """A closed loop of PyTorch's: its prompt, frames, and one evaluation from its middle."""

    prompt: ReferencePrompt
    frames: list[npt.NDArray[np.uint8]]
    middle: StepEvaluation


def export_run(run: Path, out: Path, *, force: bool = False, wish: ExportOptions | None = None) -> list[ParityCheck]:
    """Export the newest checkpoint of a run, and print one table of what was done.

    Args:
        run: folder with polish.pt, finetune.pt or pretrain.pt.
        out: the bundle's folder; must not exist unless `force`, and then is replaced in one move at the very end.
        force: replace an existing bundle.
        wish: everything else; None for what is usual.

    Returns:
        What was compared, all passed.

    Raises:
        ValueError: there is nothing to export, `out` is taken, or too little of the graph would run in FP16.
        ExportError: an engine's frames differ from PyTorch's by more than its gate.
        EngineError: an engine that was asked for cannot be built here, or its builder refused a graph.
        KeyboardInterrupt: somebody pressed Ctrl-C; nothing was written.
    """
    wish = wish or ExportOptions()
    orders = plan_engines(wish.engines, wish.targets)
    with placed(out, force=force) as folder:
        with ProgressTable() as stages:
            rungs = _assemble(run, folder, wish, orders, stages)
        open_bundle(folder)
    stages.print(f"{out}")
    return rungs


def _assemble(
    run: Path, folder: Path, wish: ExportOptions, orders: Sequence[EngineRequest], stages: ProgressTable
) -> list[ParityCheck]:
    with stages.stage("weights") as (row, _):
        generator, config, facts = load_generator(run, wish.size)
        round_weights(generator)
        row.note = f"{facts['stage']}, {facts['iteration']} iterations"
    entry = vocabulary = None
    if config.model.text_dimensions:
        with stages.stage("words") as (row, _):
            entry, vocabulary = _write_words(config, facts, folder, wish.words)
            row.file, row.size_bytes = "text/", sum(file.stat().st_size for file in (folder / "text").iterdir())
    with stages.stage("ONNX") as (row, _):
        write_graphs(generator, folder)
        row.file = "condition.onnx, step.onnx"
        row.size_bytes = sum((folder / f"{name}.onnx").stat().st_size for name in ("condition", "step"))
        if "fp16" in wish.precisions:
            share = half_share(onnx.load(folder / "step.onnx"))
            row.note = f"{share.half} of {share.half + share.full} weighted layers of a frame can run in FP16"
    with stages.stage("PyTorch, closed loops") as (row, advance):
        loops, golden = _reference_loops(generator, folder, vocabulary, wish.frames, advance)
        row.file, row.size_bytes = "golden/", sum(file.stat().st_size for file in (folder / "golden").iterdir())
    manifest = build_manifest(config, folder, golden, entry)
    manifest["provenance"] = provenance(config, facts)
    manifest["verified"] = {}
    write_manifest(folder, manifest)
    rungs = [one_step(folder, loop.middle, name) for name, loop in loops.items()]
    rungs += _measure_engines(folder, loops, [name for name in ("fp16",) if name not in wish.precisions], stages)
    failed = [rung for rung in rungs if not rung.passed]
    if failed:
        print_rungs(rungs, "parity with PyTorch")
        raise ExportError(
            f"{failed[0].engine} in {failed[0].precision} ({failed[0].run}) came out at {failed[0].worst:.3g} "
            f"{failed[0].unit}, the gate is {failed[0].gate:g}: no bundle was written"
        )
    built = build_engines(folder, orders, wish.precisions, stages)
    manifest["verified"] = {"parity": [rung.to_json() for rung in rungs], "engines": built}
    write_manifest(folder, manifest)
    return rungs


def _measure_engines(
    folder: Path, loops: Mapping[str, ReferenceLoop], left_out: Sequence[str], stages: ProgressTable
) -> list[ParityCheck]:
    """Compare every engine that runs here with every loop of PyTorch's.

    Side by side on a core each: that takes less time than one after the other on all of them.
    """
    pairs = runnable(left_out)
    jobs = [(*pair, name) for name in sorted(loops, key=lambda name: -len(loops[name].frames)) for pair in pairs]
    threads = max(1, count_cores() // len(jobs))
    total = sum(len(loops[name].frames) for _, _, name in jobs)
    found: dict[tuple[str, str, str], tuple[ParityCheck, float]] = {}
    frames = Counter[tuple[str, str, str]]()

    def measure(engine: str, precision: str, name: str) -> None:
        def count(share: float) -> None:
            frames[engine, precision, name] = round(share * len(loops[name].frames))
            advance(frames.total() / total)

        start, loop = time.monotonic(), loops[name]
        rung = closed_loop(
            folder, engine, precision, name, GOLDEN_SEED, loop.prompt, loop.frames, threads=threads, advance=count
        )
        found[engine, precision, name] = rung, time.monotonic() - start

    with stages.stage("parity") as (row, advance), ThreadPoolExecutor(count_cores()) as pool:
        row.note = f"{len(jobs)} closed loops, {total} frames"
        waiting = [pool.submit(measure, *job) for job in jobs]
        try:
            for job in waiting:
                job.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for engine, precision in pairs:
        mine = [found[engine, precision, name] for name in loops]
        worst = min((rung for rung, _ in mine), key=lambda rung: rung.worst)
        note = (
            f"worst frame {worst.worst:.1f} dB ({worst.run}), gate {worst.gate:g}{'' if worst.passed else ', FAILED'}"
        )
        stages.rows.append(
            ProgressRow(f"  {engine} in {precision}", seconds=sum(seconds for _, seconds in mine), note=note)
        )
    return [found[engine, precision, name][0] for name in loops for engine, precision in pairs]


def _write_words(
    config: Config, facts: dict[str, Any], folder: Path, words: Path | None
) -> tuple[dict[str, Any], WordVectors]:
    """Write the vocabulary's files; returns the manifest's entry and the words."""
    if words is None and not facts["words"]:
        raise ValueError("the generator listens to text and was trained without words: pass --words WORDS")
    entry, vocabulary = write_vocabulary(words or Path(facts["words"]), folder, facts["vocabulary"])
    if vocabulary.dimensions != config.model.text_dimensions:
        raise ValueError(
            f"the generator listens to text vectors of {config.model.text_dimensions} values and the words "
            f"have {vocabulary.dimensions}: pass those of the training with --words WORDS"
        )
    return entry, vocabulary


def _reference_loops(
    generator: VideoGenerator,
    folder: Path,
    vocabulary: WordVectors | None,
    frames: int,
    advance: Callable[[float], None],
) -> tuple[dict[str, ReferenceLoop], list[dict[str, Any]]]:
    """Run PyTorch's closed loops and write the golden files; returns the loops and the manifest's entries."""
    (folder / "golden").mkdir()
    own = islice(reference_loop(generator, IMAGE_SEED, ReferencePrompt()), CLIP)
    clip = np.stack([evaluation.frame.copy() for evaluation in own])
    padded = np.concatenate([clip[:1].repeat(CLIP - GOLDEN_CLIP, axis=0), clip[:GOLDEN_CLIP]])
    prompts = {
        "noise": ReferencePrompt(),
        "image": ReferencePrompt(image=clip[-1]),
        "clip": ReferencePrompt(clip=padded),
    }
    if vocabulary is not None:
        prompts["text"] = ReferencePrompt(text=GOLDEN_TEXT, vector=vocabulary.encode([GOLDEN_TEXT])[0])
    count = max(frames, GOLDEN_FRAMES[-1])
    # What could pile up are states, and they go on alike whatever the prompt: one long loop will do.
    lengths = {name: count if name == "noise" else FEW_FRAMES[-1] for name in prompts}
    loops: dict[str, ReferenceLoop] = {}
    golden: list[dict[str, Any]] = []
    done = 0
    for name, prompt in prompts.items():
        made: list[npt.NDArray[np.uint8]] = []
        middle = None
        for number, evaluation in enumerate(islice(reference_loop(generator, GOLDEN_SEED, prompt), lengths[name])):
            made.append(evaluation.frame.copy())  # a copy: an evaluation is megabytes
            if number == lengths[name] // 2:
                middle = evaluation
            done += 1
            advance(done / sum(lengths.values()))
        assert middle is not None, "a loop has no frames"
        loops[name] = ReferenceLoop(prompt, made, middle)
        golden.append(_write_golden(folder, name, prompt, made, GOLDEN_FRAMES if name == "noise" else FEW_FRAMES))
    return loops, golden


def _write_golden(
    folder: Path, name: str, prompt: ReferencePrompt, made: list[npt.NDArray[np.uint8]], numbers: tuple[int, ...]
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
