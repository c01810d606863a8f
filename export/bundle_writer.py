"""Export of a training run: writes a bundle, compares it with PyTorch, and moves it into place if all checks pass."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.commandline import Advance, ProgressRow, ProgressTable
from export.engines import EngineRequest, build_engines, fp16_share, plan_engines
from export.folder_writer import atomic_folder
from export.manifest_entries import Entry, write_golden
from export.manifest_writer import build_manifest, provenance
from export.onnx_writer import graph_file, round_weights, write_graphs
from export.parity.checks import ParityCheck, available_engines, print_checks
from export.parity.engines import compare_condition, compare_loop, compare_step
from export.parity.reference import ReferencePrompt, StepEvaluation, reference_loop
from export.vocabulary import write_vocabulary
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.engines.table import count_cores
from training.checkpoint import load_generator
from training.config import Config
from training.data.words import WordVectors
from training.model.generator import CLIP, VideoGenerator
from training.stages.enlarge import load_enlarger

GOLDEN_FRAMES = (1, 10, 100, 300)
FEW_FRAMES = (100,)  # of the loops with an image, a clip or a text
GOLDEN_CLIP = 2  # frames of the golden clip; fewer than CLIP, so that the runtime's padding is tested too
GOLDEN_SEED = 7
GOLDEN_TEXT = "a waterfall in the mountains"
IMAGE_SEED = 11  # seed of the frames that are the golden image and clip


class ExportError(ValueError):
    """The bundle's frames differ from PyTorch's by more than the gate; nothing was written."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Args:
        frames: length of the closed loops, at least 300 for the golden frames.
        words: folder of word vectors, for a generator that takes text; None for those of the training.
        frame: (width, height) of the frames in pixels, if the user names no other size.
        sizes: (width, height) that the networks work at, multiples of 32; golden frames have half the first.
        precisions: "fp32", "fp16" or both: of the engines, and of the parity in ONNX Runtime (FP32 always runs).
        engines: TensorRT engines to build; None for those that can be built here, () for none.
        targets: compute capabilities for TensorRT-RTX; empty for engines that run on every GPU from Ampere on.
    """

    frames: int = 300
    words: Path | None = None
    frame: tuple[int, int] = (1280, 720)
    sizes: tuple[tuple[int, int], ...] = ((448, 256), (256, 448))
    precisions: tuple[str, ...] = ("fp32", "fp16")
    engines: tuple[str, ...] | None = None
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReferenceLoop:
    """A closed loop in PyTorch: its prompt, its frames, and one evaluation from its middle."""

    prompt: ReferencePrompt
    frames: list[npt.NDArray[np.uint8]]
    middle: StepEvaluation


def export_run(run: Path, out: Path, *, force: bool = False, options: ExportOptions | None = None) -> list[ParityCheck]:
    """Export the newest checkpoint of a run, and print a table of the stages.

    Args:
        run: folder with hints.pt, polish.pt, finetune.pt or pretrain.pt.
        out: the bundle's folder; must not exist unless `force`. It appears, or is replaced, at the very end.
        force: replace an existing bundle.
        options: None for the defaults.

    Returns:
        The parity checks; all have passed.

    Raises:
        ValueError: there is no checkpoint, `out` exists, or too little of the graph would run in FP16.
        ExportError: an engine's frames differ from PyTorch's by more than its gate.
        EngineError: a requested engine cannot be built here, or its builder rejected a graph.
        KeyboardInterrupt: Ctrl-C was pressed; nothing was written.
    """
    options = options or ExportOptions()
    requests = plan_engines(options.engines, options.targets)
    with atomic_folder(out, force=force) as folder:
        with ProgressTable() as stages:
            checks = _write_bundle(run, folder, options, requests, stages)
        open_bundle(folder)
    stages.print(f"{out}")
    return checks


def load_run(run: Path) -> tuple[VideoGenerator, Config, dict[str, Any]]:
    """Return what `load_generator` does, with the enlarger if the run has one, and with rounded weights.

    Raises:
        ValueError: there is no checkpoint, or one is damaged.
    """
    generator, config, facts = load_generator(run)
    if (enlarger := run / "enlarge.pt").is_file():
        generator.enlarger, facts["pictures"] = load_enlarger(enlarger)
    round_weights(generator)
    return generator, config, facts


def _write_bundle(
    run: Path, folder: Path, options: ExportOptions, requests: Sequence[EngineRequest], stages: ProgressTable
) -> list[ParityCheck]:
    with stages.stage("weights") as (row, _):
        generator, config, facts = load_run(run)
        row.note = f"{facts['stage']}, {facts['iteration']} iterations"
        row.note += "" if generator.enlarger is None else ", with an enlarger"
    entry = vocabulary = None
    if config.model.text_dimensions:
        with stages.stage("words") as (row, _):
            entry, vocabulary = _write_words(config, facts, folder, options.words)
            row.file, row.size_bytes = "text/", _folder_bytes(folder / "text")
    with stages.stage("ONNX") as (row, _):
        write_graphs(generator, folder, options.sizes)
        graphs = sorted(folder.glob("*.onnx"))
        row.file, row.size_bytes = f"{len(graphs)} graphs", sum(path.stat().st_size for path in graphs)
        step_file = folder / graph_file("step", options.sizes[0])
        if "fp16" in options.precisions:
            share = fp16_share(onnx.load(step_file))
            row.note = f"{share.half} of {share.half + share.full} weighted layers of a frame can run in FP16"
    with stages.stage("PyTorch, closed loops") as (row, advance):
        loops, golden = _run_reference(generator, options.sizes[0], folder, vocabulary, options.frames, advance)
        row.file, row.size_bytes = "golden/", _folder_bytes(folder / "golden")
    manifest = build_manifest(config, folder, options.frame, options.sizes, golden, entry)
    manifest["provenance"] = provenance(config, facts)
    manifest["verified"] = {}
    write_manifest(folder, manifest)
    checks = [compare_step(step_file, loop.middle, name) for name, loop in loops.items()]
    for size in options.sizes[1:]:
        evaluation = next(islice(reference_loop(generator, size, size, GOLDEN_SEED, ReferencePrompt()), 1, None))
        checks.append(compare_step(folder / graph_file("step", size), evaluation, f"{size[0]}x{size[1]}"))
    for size in options.sizes:
        condition = folder / graph_file("condition", size)
        checks.append(compare_condition(condition, generator, size, f"a clip and hints, {size[0]}x{size[1]}"))
    checks += _compare_engines(folder, loops, () if "fp16" in options.precisions else ("fp16",), stages)
    failed = [check for check in checks if not check.passed]
    if failed:
        print_checks(checks, "parity with PyTorch")
        first = failed[0]
        raise ExportError(
            f"{first.engine} in {first.precision} ({first.run}) has {first.worst:.3g} {first.unit}, the gate is "
            f"{first.gate:g}: no bundle was written"
        )
    built = build_engines(folder, requests, options.precisions, stages)
    manifest["verified"] = {"parity": [check.to_json() for check in checks], "engines": built}
    write_manifest(folder, manifest)
    return checks


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _compare_engines(
    folder: Path, loops: Mapping[str, ReferenceLoop], without: Sequence[str], stages: ProgressTable
) -> list[ParityCheck]:
    """Compare every engine of this machine with every reference loop, in parallel, on few threads each.

    This is faster than one comparison after the other on all cores.
    """
    pairs = available_engines(without)
    jobs = [(*pair, name) for name in sorted(loops, key=lambda name: -len(loops[name].frames)) for pair in pairs]
    threads = max(1, count_cores() // len(jobs))
    total = sum(len(loops[name].frames) for _, _, name in jobs)
    found: dict[tuple[str, str, str], tuple[ParityCheck, float]] = {}
    frames = Counter[tuple[str, str, str]]()

    def compare(engine: str, precision: str, name: str) -> None:
        def count(share: float) -> None:
            frames[engine, precision, name] = round(share * len(loops[name].frames))
            advance(frames.total() / total)

        start, loop = time.monotonic(), loops[name]
        check = compare_loop(
            folder, engine, precision, name, GOLDEN_SEED, loop.prompt, loop.frames, threads=threads, advance=count
        )
        found[engine, precision, name] = check, time.monotonic() - start

    with stages.stage("parity") as (row, advance), ThreadPoolExecutor(count_cores()) as pool:
        row.note = f"{len(jobs)} closed loops, {total} frames"
        futures = [pool.submit(compare, *job) for job in jobs]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for engine, precision in pairs:
        results = [found[engine, precision, name] for name in loops]
        worst = min((check for check, _ in results), key=lambda check: check.worst)
        verdict = "" if worst.passed else ", FAILED"
        note = f"worst frame {worst.worst:.1f} dB ({worst.run}), gate {worst.gate:g}{verdict}"
        seconds = sum(seconds for _, seconds in results)
        stages.rows.append(ProgressRow(f"  {engine} in {precision}", seconds=seconds, note=note))
    return [found[engine, precision, name][0] for name in loops for engine, precision in pairs]


def _write_words(config: Config, facts: dict[str, Any], folder: Path, words: Path | None) -> tuple[Entry, WordVectors]:
    """Write the vocabulary's files; return the manifest entry and the vocabulary."""
    if words is None and not facts["words"]:
        raise ValueError("the generator takes text, and was trained without words: pass --words WORDS")
    entry, vocabulary = write_vocabulary(words or Path(facts["words"]), folder, facts["vocabulary"])
    if vocabulary.dimensions != config.model.text_dimensions:
        raise ValueError(
            f"the generator takes text vectors of {config.model.text_dimensions} values and the words have "
            f"{vocabulary.dimensions}: pass those of the training with --words WORDS"
        )
    return entry, vocabulary


def _run_reference(
    generator: VideoGenerator,
    size: tuple[int, int],
    folder: Path,
    vocabulary: WordVectors | None,
    num_frames: int,
    advance: Advance,
) -> tuple[dict[str, ReferenceLoop], list[Entry]]:
    """Run the closed loops in PyTorch and write the golden files; return the loops and the manifest entries."""
    frame = size[0] // 2, size[1] // 2  # smaller golden files
    own = islice(reference_loop(generator, size, frame, IMAGE_SEED, ReferencePrompt()), CLIP)
    clip = np.stack([evaluation.frame.copy() for evaluation in own])
    padded = np.concatenate([clip[:1].repeat(CLIP - GOLDEN_CLIP, axis=0), clip[:GOLDEN_CLIP]])
    prompts = {
        "noise": ReferencePrompt(),
        "image": ReferencePrompt(image=clip[-1]),
        "clip": ReferencePrompt(clip=padded),
    }
    if vocabulary is not None:
        prompts["text"] = ReferencePrompt(text=GOLDEN_TEXT, vector=vocabulary.encode([GOLDEN_TEXT])[0])
    # Errors accumulate in states, in the same way for every prompt, so one long loop is enough.
    longest = max(num_frames, GOLDEN_FRAMES[-1])
    lengths = {name: longest if name == "noise" else FEW_FRAMES[-1] for name in prompts}
    loops: dict[str, ReferenceLoop] = {}
    golden: list[Entry] = []
    done = 0
    for name, prompt in prompts.items():
        frames: list[npt.NDArray[np.uint8]] = []
        middle = None
        for index, evaluation in enumerate(
            islice(reference_loop(generator, size, frame, GOLDEN_SEED, prompt), lengths[name])
        ):
            frames.append(evaluation.frame.copy())  # a copy, because an evaluation holds megabytes
            if index == lengths[name] // 2:
                middle = evaluation
            done += 1
            advance(done / sum(lengths.values()))
        assert middle is not None, "a loop has no frames"
        loops[name] = ReferenceLoop(prompt, frames, middle)
        given = None if prompt.clip is None else prompt.clip[-GOLDEN_CLIP:]
        numbers = GOLDEN_FRAMES if name == "noise" else FEW_FRAMES
        golden.append(
            write_golden(
                folder, name, frames, numbers, seed=GOLDEN_SEED, image=prompt.image, clip=given, text=prompt.text
            )
        )
    return loops, golden
