"""Adds step graphs in INT8 to a bundle: quantises, plays the bundle, and writes it if its frames pass their gate."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from export.commandline import ProgressTable
from export.folder_writer import atomic_folder, copy_bundle
from export.int8.evaluation import evaluate
from export.int8.ladder import MAX_TRIES, Feeds, Try, climb, rank_groups, ranking_feeds
from export.int8.moves import count_moves, moved_frames, show_scene
from export.int8.quantiser import Quantiser
from export.int8.recording import MAX_BYTES, most_frames, record_feeds
from export.int8.timing import cpu_pairs, measure_ms
from export.parity.checks import ParityCheck
from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import Bundle, open_bundle, write_manifest
from runtime.bundle.tensors import GraphSpec
from runtime.engines.engine import INT8
from runtime.engines.int8 import cpu_name, is_quantised
from runtime.generator import Generator
from runtime.golden import check_golden, psnr_db

SHAPE_FRAMES = 60  # compared with FP32 at each further work size, for which there are no golden frames


@dataclass(frozen=True)
class Int8Report:
    """What was written.

    Args:
        layers: quantised.
        of: all layers with weights.
        share: of the products in layers that are computed in INT8, 0 to 1.
        tries: bundles that were played.
        checks: of the frames.
        speed: {"engine", "precision", "cpu", "ms"} of each engine and precision.
        verified: of the manifest.
    """

    layers: int
    of: int
    share: float
    tries: int
    checks: tuple[ParityCheck, ...]
    speed: tuple[dict[str, Any], ...]
    verified: Mapping[str, Any] = field(default_factory=dict)


def add_int8(
    source: Path, out: Path, *, frames: int, rounds: int, vnni: bool, force: bool, stages: ProgressTable
) -> Int8Report:
    """Write a copy of a bundle with its step graphs in INT8 beside those in FP32.

    Args:
        source: folder of the bundle.
        out: folder to write; may be `source` with `force`.
        frames: of the show to calibrate with, at least 1.
        rounds: of the speed measurement.
        vnni: whether weights use all 8 bits, for CPUs with VNNI alone.
        force: whether `out` may be replaced.
        stages: shows the progress.

    Raises:
        BundleError: the bundle is damaged.
        EngineError: ONNX Runtime is missing or too old.
        ValueError: the bundle cannot be quantised, its frames do not pass, or `frames` need too much memory; nothing is
            written.
    """
    bundle = open_bundle(source)
    _check(bundle)
    shapes = _shapes(bundle)
    _check_memory(frames, bundle.manifest, [graph for _, graph, _ in shapes])
    with atomic_folder(out, force=force) as folder, tempfile.TemporaryDirectory(prefix="everframe-int8-") as scratch:
        copy_bundle(bundle, folder, has_engines=False)  # compiled graphs are those of FP32
        quantisers: list[Quantiser] = []
        chosen: list[Feeds] = []  # inputs of the first graph, to rank its layers with
        count = 0  # of those that it was calibrated with
        for number, (model, graph, size) in enumerate(shapes):
            with stages.stage(f"calibration {size[0]}x{size[1]}") as (row, advance):
                feeds = record_feeds(bundle, frames, graph, size, advance)
                place = Path(scratch) / str(number)
                place.mkdir()
                try:
                    quantisers.append(Quantiser(model, feeds, place, graph.picture, vnni=vnni))
                except ValueError as error:
                    raise ValueError(f"{source} cannot be quantised: {error}") from error
                row.note = f"{len(feeds)} frames"
            if not number:
                chosen, count = ranking_feeds(feeds), len(feeds)
            del feeds  # they may take gigabytes
        writer = _Writer(bundle, folder, quantisers)
        best, tries = _find(writer, quantisers[0], chosen, stages)
        if best is None:
            worst = max(tries, key=lambda tried: tried.worst_db)
            raise ValueError(
                f"{source} cannot be quantised: with {len(worst.layers)} of {len(quantisers[0].work)} layers in INT8 "
                f"its frames have {worst.worst_db:.1f} dB, the gate is {worst.checks[0].gate:g}; stay with fp32 or bf16"
            )
        writer.write(best.layers)
        checks = [*best.checks, *writer.compare_shapes()]
        if failed := [check for check in checks if not check.passed]:
            raise ValueError(
                f"{source} cannot be quantised: {failed[0].run} has {failed[0].worst:.1f} dB in {failed[0].engine}, "
                f"the gate is {failed[0].gate:g}; stay with fp32 or bf16"
            )
        checks += writer.compare_others()  # one that fails is what `auto` then passes over
        with stages.stage("speed") as (row, advance):
            times = measure_ms(folder, cpu_pairs(is_quantised=True), rounds=rounds, advance=advance)
            row.note = f"{rounds} rounds"
        speed = tuple(
            {"engine": engine, "precision": precision, "cpu": cpu_name(), "ms": round(float(np.median(found.wall)), 3)}
            for (engine, precision), found in times.items()
        )
        work = quantisers[0].work
        report = Int8Report(
            len(best.layers), len(work), sum(work[name] for name in best.layers) / sum(work.values()),
            len(tries), tuple(checks), speed,
        )  # fmt: skip
        manifest = writer.finish(best.layers, report, count, vnni=vnni)
        open_bundle(folder)
    return replace(report, verified=manifest.verified)


def _check(bundle: Bundle) -> None:
    if bundle.manifest.step.int8:
        raise ValueError(f"{bundle.path} has a graph in int8 already: give the bundle that it was made from")
    if bundle.manifest.step.weights:
        raise ValueError(
            f"{bundle.path} cannot be quantised: the weights of its step graph lie in a file of their own, which int8 "
            "does not support; stay with fp32 or bf16"
        )
    if is_quantised(bundle.step):
        raise ValueError(f"{bundle.path} cannot be quantised: its step graph is quantised already, use it as it is")
    if not bundle.manifest.golden:
        raise ValueError(f"{bundle.path} has no golden frames to compare with: export or import it again")


def _check_memory(frames: int, manifest: Manifest, graphs: Sequence[GraphSpec]) -> None:
    most = min(most_frames(manifest, graph) for graph in graphs)
    if frames > most:
        raise ValueError(
            f"the inputs of {frames} frames need more than {MAX_BYTES / 2**30:g} GiB of memory: "
            f"calibrate with --frames {most} or less"
        )


def _shapes(bundle: Bundle) -> list[tuple[onnx.ModelProto, GraphSpec, tuple[int, int]]]:
    """Return the step graphs, and the size of the frames (width, height) that each is played at."""
    manifest = bundle.manifest
    if not manifest.shapes:
        return [(bundle.step, manifest.step, (manifest.frame.width, manifest.frame.height))]
    pairs = zip(bundle.shapes, manifest.shapes, strict=True)
    return [(models[0], shape.step, (shape.width // 2, shape.height // 2)) for models, shape in pairs]


def _find(
    writer: _Writer, quantiser: Quantiser, feeds: Sequence[Feeds], stages: ProgressTable
) -> tuple[Try | None, list[Try]]:
    with stages.stage("errors of layers") as (row, advance):
        groups = rank_groups(quantiser, feeds, evaluate, advance)
        row.note = f"{len(quantiser.work)} layers in {len(groups)} groups"
    tries: list[Try] = []
    with stages.stage("parity") as (row, advance):

        def report(tried: Try) -> None:
            tries.append(tried)
            advance(len(tries) / MAX_TRIES)
            verdict = "passed" if tried.passed else "failed"
            print(
                f"{len(tried.layers)} of {len(quantiser.work)} layers in INT8: {tried.worst_db:.1f} dB, {verdict}",
                flush=True,
            )

        best = climb(groups, writer.play, report)
        row.note = f"{len(tries)} tries"
    return best, tries


class _Writer:
    """Writes the graphs and the manifest of the new bundle, and plays it."""

    def __init__(self, bundle: Bundle, folder: Path, quantisers: Sequence[Quantiser]) -> None:
        self._folder, self._quantisers, self._bundle = folder, quantisers, bundle
        self._value = bundle.manifest.to_json()
        graphs = self._value["graphs"]
        self._entries = [shape["step"] for shape in graphs["shapes"]] if "shapes" in graphs else [graphs["step"]]
        for entry in self._entries:
            entry["int8"] = f"{entry['file'].removesuffix('.onnx')}-int8.onnx"
        verified = self._value["verified"]
        self._verified: dict[str, Any] = dict(verified)
        self._engines = [name for name, precision in cpu_pairs(is_quantised=True) if precision == INT8]

    def write(self, layers: Collection[str]) -> None:
        """Write the graphs with these layers quantised, and the manifest."""
        for entry, quantiser in zip(self._entries, self._quantisers, strict=True):
            chosen = [name for name in layers if name in quantiser.work]
            if len(chosen) < len(layers):
                raise ValueError(
                    f"the graph {entry['file']} has other layers than the first step graph: export the bundle again"
                )
            (self._folder / entry["int8"]).write_bytes(quantiser.quantise(chosen).SerializeToString())
        write_manifest(self._folder, self._value)

    def play(self, layers: Collection[str]) -> list[ParityCheck]:
        """Write the graphs and compare frames in every engine of the CPU: golden ones, then those of `moved_frames`."""
        self.write(layers)
        checks = [check for engine in self._engines for check in self._golden(engine, INT8)]
        if not count_moves(self._bundle.manifest) or not all(check.passed for check in checks):
            return checks
        return checks + [self._moved(engine) for engine in self._engines]

    def _moved(self, engine: str) -> ParityCheck:
        """Compare frames of moved controls and a cross-fade with the same bundle in FP32."""
        opened = (
            Generator.open(self._folder, engine=engine, precision=precision, renewal=False)
            for precision in (INT8, "fp32")
        )
        with next(opened) as ours, next(opened) as theirs:
            for generator in (ours, theirs):
                if generator.manifest.condition is not None:
                    show_scene(generator)
            pairs = zip(moved_frames(ours), moved_frames(theirs), strict=True)
            values = [psnr_db(*pair) for pair in pairs]
        return ParityCheck.of_psnr(engine, INT8, "controls and a cross-fade in FP32", values)

    def compare_others(self) -> list[ParityCheck]:
        """Compare the golden frames of this machine's other precisions that the bundle was not compared in before."""
        parity = self._verified.get("parity")
        entries = [entry for entry in (parity if isinstance(parity, list) else []) if isinstance(entry, dict)]
        known = {(entry.get("engine"), entry.get("precision")) for entry in entries}
        pairs = [pair for pair in cpu_pairs(is_quantised=False) if pair not in known]
        return [check for engine, precision in pairs for check in self._golden(engine, precision)]

    def _golden(self, engine: str, precision: str) -> list[ParityCheck]:
        found = groupby(check_golden(self._folder, engine, precision), key=lambda result: result.file)
        return [
            ParityCheck.of_psnr(
                engine, precision, f"{Path(file).stem}, golden frames", [result.psnr_db for result in group]
            )
            for file, group in found
        ]

    def compare_shapes(self) -> list[ParityCheck]:
        """Compare the further work sizes with the same bundle in FP32."""
        checks = []
        for _, graph, size in _shapes(self._bundle)[1:]:
            for engine in self._engines:
                opened = (
                    Generator.open(self._folder, engine=engine, precision=precision, renewal=False, size=size)
                    for precision in (INT8, "fp32")
                )
                with next(opened) as ours, next(opened) as theirs:
                    values = [psnr_db(next(ours), next(theirs)) for _ in range(SHAPE_FRAMES)]
                checks.append(ParityCheck.of_psnr(engine, INT8, f"{Path(graph.file).stem} in FP32", values))
        return checks

    def finish(self, layers: Collection[str], report: Int8Report, frames: int, *, vnni: bool) -> Manifest:
        """Write the manifest with the results."""
        parity = self._verified.get("parity")
        self._value["verified"] = self._verified | {
            "parity": [*(parity if isinstance(parity, list) else []), *(check.to_json() for check in report.checks)],
            "speed": list(report.speed),
            "int8": {
                "calibration_frames": frames,
                "weight_bits": 8 if vnni else 7,
                "layers": report.of,
                "quantised": report.layers,
                "share_of_products": round(report.share, 4),
                "in_float": [name for name in self._quantisers[0].work if name not in set(layers)],
                "onnxruntime": onnxruntime_version(),
            },
        }
        return write_manifest(self._folder, self._value)


def onnxruntime_version() -> str:
    """Return the version of ONNX Runtime, whose quantiser was used."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("onnxruntime")
    except PackageNotFoundError:
        return version("onnxruntime-gpu")
