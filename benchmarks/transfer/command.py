"""Whether pretraining helps: fine-tuning from different weights, several seeds each, over time.

python -m benchmarks transfer runs/none-0 runs/video-0 ... --i3d FILE --data FOOTAGE --out DIR

Groups runs by the words none, image and video in their folders' names, or by
the names without their numbers. Every run keeps its averaged generator now and
then (run.keep_every); each of these snapshots continues held-out clips from
their first frame, in FP32, and I3D compares the results with the real clips:

  distance  unbiased polynomial MMD2 of I3D features to the real clips
  closer    share of clips nearer to their real one, in I3D features, than their
            first frame repeated is

Without --i3d there are only the figures that training wrote to heldout.jsonl.
Intervals are Student's t at 95 % over a group's runs: they say nothing about
other footage. If two intervals overlap, no difference is shown.

examples:
  python -m benchmarks transfer runs/none-{0,1,2} runs/image-{0,1,2} runs/video-{0,1,2} \\
      --i3d i3d_kinetics400.onnx --data FOOTAGE --out runs/transfer

Writes transfer.json, transfer.png and transfer.md. Features of snapshots are
kept there: the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from benchmarks import plots
from benchmarks.quality.distances import finite
from benchmarks.quality.networks import I3D, MIN_FRAMES, FeatureCache, cache_folder
from benchmarks.quality.store import ResultStore
from benchmarks.report import BenchmarkReport, progress_bars, write_beside, write_text
from benchmarks.transfer.snapshots import Curves, find_snapshots, held_out_clips, judge, shared_config

STARTS = ("none", "image", "video")  # in this order in tables and plots; other names follow


class CurveFigure(NamedTuple):
    """A figure of every snapshot: title, "lower" or "higher" is better, digits, and the figure of a still."""

    title: str
    better: str
    digits: int = 3
    floor: str = ""


FIGURES = {
    "mmd2": CurveFigure("I3D distance to held-out clips (MMD2 x 1000)", "lower", 1, "still mmd2"),
    "closer": CurveFigure("share of clips closer to the real one than their repeated first frame", "higher", 2),
    "flow error": CurveFigure("flow error, held-out", "lower", 3, "standing still"),
    "sway error": CurveFigure("sway error, held-out", "lower"),
    "code PSNR": CurveFigure("pictures given back from their code (PSNR, dB), held-out", "higher", 2),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="fine-tuning runs")
    add("--data", type=Path, required=True, metavar="DIR", help="their footage: a folder of videos, or shards of it")
    add("--out", type=Path, required=True, metavar="DIR", help="folder for the results")
    add("--i3d", type=Path, metavar="FILE", help="I3D as ONNX: video -> logits, features")
    add("--clips", type=int, default=32, metavar="N", help="held-out clips (32)")
    add("--frames", type=int, default=16, metavar="N", help="of a clip (16)")
    add("--seed", type=int, default=0, metavar="N", help="of the clips' places and of the frames' noise (0)")
    add("--threads", type=int, metavar="T", help="CPU threads (every core)")
    add("--cache", type=Path, metavar="DIR", help="where features are kept")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Compare.

    Raises:
        ValueError, OSError: an argument, a run or the footage cannot be used.
    """
    for name, least in (("clips", 4), ("frames", MIN_FRAMES), ("seed", 0), ("threads", 1)):
        if (value := getattr(options, name)) is not None and value < least:
            raise ValueError(f"--{name} is {value}, expected {least} or more")
    plots.check_plot(options.out / "transfer.png")
    groups = group_runs(options.runs)
    curves = {run: read_held_out(run) for run in options.runs}
    judged: dict[str, Any] = {"judge": None, "footage": None}
    if options.i3d is not None:
        extractor = I3D(options.i3d, options.threads)
        snapshots = {run: find_snapshots(run) for run in options.runs}
        config = shared_config(snapshots)
        clips = held_out_clips(options.data, config, snapshots, options.clips, options.frames, options.seed)
        cache, store = FeatureCache(extractor, options.cache or cache_folder()), ResultStore(options.out / "kept")
        with progress_bars() as bar, bar("snapshots", sum(map(len, snapshots.values()))) as advance:
            found = judge(snapshots, clips, cache, store, options.seed, options.threads, lambda: advance(1))
        curves = {run: curves[run] | found[run] for run in curves}
        frame = f"{config.model.width} x {config.model.height}"
        judged["judge"] = {"name": extractor.name, "sha256": extractor.sha256}
        judged["footage"] = {"clips": len(clips.clips), "frames": options.frames, "frame": frame}
    figures = compare(groups, curves)
    if not figures:
        raise ValueError("no run has a figure: train with run.keep_every and name --i3d, or keep heldout.jsonl")
    names = {name: [str(run) for run in runs] for name, runs in groups.items()}
    result: dict[str, Any] = {"benchmark": "transfer", "groups": names, **judged, "figures": figures}
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "transfer.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_text(options.out / "transfer.md", to_markdown(result))
    write_beside(options.out / "transfer.png", lambda beside: plots.transfer(result, beside))
    rows = []
    for key, figure in figures.items():
        rows += [(f"{key}, {name}", _end(key, line), "") for name, line in figure["groups"].items()]
    if options.i3d is None:
        rows.append(("judge", "none", "no --i3d: only the runs' own figures, and no distance to real clips"))
    rows.append(("plot", "", str(options.out / "transfer.png")))
    return BenchmarkReport(f"transfer: {', '.join(groups)}", rows, result)


def group_runs(runs: Sequence[Path]) -> dict[str, list[Path]]:
    """Return group -> runs, by the folders' names.

    Raises:
        ValueError: a run is named twice, or there are fewer than two groups.
    """
    found: dict[str, list[Path]] = {}
    for run in runs:
        name = run.resolve().name
        words = set(re.split(r"[^a-z]+", name.lower())) & set(STARTS)
        group = words.pop() if len(words) == 1 else re.sub(r"[-_.]?(seed)?[-_.]?\d+$", "", name) or name
        found.setdefault(group, []).append(run)
    if len({run.resolve() for run in runs}) < len(runs):
        raise ValueError("a run is named twice: every run counts once")
    if len(found) < 2:
        raise ValueError(f"there is nothing to compare: {', '.join(found)}; name runs of two or more groups")
    order = {name: place for place, name in enumerate(STARTS)}
    return {name: found[name] for name in sorted(found, key=lambda name: (order.get(name, len(STARTS)), name))}


def read_held_out(run: Path) -> Curves:
    """Return the curves of a run's heldout.jsonl; empty if there is none.

    Raises:
        ValueError: the run is not a folder, or a line cannot be read.
    """
    if not run.is_dir():
        raise ValueError(f"there is no run {run}: name a folder that `python -m training finetune` has written")
    path = run / "heldout.jsonl"
    curves: Curves = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else (), 1):
        try:
            entry = json.loads(line)
            if entry["stage"] == "finetune":
                for key, value in entry["figures"].items():
                    curves.setdefault(key, {})[int(entry["iteration"])] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number} cannot be read ({type(error).__name__}: {error})") from None
    return curves


def compare(groups: Mapping[str, Sequence[Path]], curves: Mapping[Path, Curves]) -> dict[str, Any]:
    """Return every figure that all runs have, at the iterations that all runs of a group have.

    Returns:
        figure -> {"title", "better", "floor": mean of a still, or None, "groups": name -> {"iterations", "values" of
        the runs, "mean", "low", "high"}}.
    """
    found: dict[str, Any] = {}
    for key, figure in FIGURES.items():
        if not all(key in run for run in curves.values()):
            continue
        lines = {}
        for name, runs in groups.items():
            common = sorted(set.intersection(*(set(curves[run][key]) for run in runs)))
            values = [[curves[run][key][iteration] for run in runs] for iteration in common]
            bounds = zip(*map(interval, values), strict=True) if values else ([],) * 3
            line = dict(zip(("mean", "low", "high"), ([finite(v) for v in column] for column in bounds), strict=True))
            lines[name] = {"iterations": common, "values": values, **line}
        floors = [value for run in curves.values() for value in run.get(figure.floor, {}).values()]
        floor = float(np.mean(floors)) if floors else None
        found[key] = {"title": figure.title, "better": figure.better, "floor": floor, "groups": lines}
    return found


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, low and high: Student's t at 95 % over the runs; (mean, nan, nan) for one run."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def to_markdown(result: dict[str, Any]) -> str:
    """Return the last iterations as a Markdown table."""
    heads = [f"{name} ({len(runs)} runs)" for name, runs in result["groups"].items()]
    lines = [f"| at the end, 95 % interval over runs | {' | '.join(heads)} |", f"|---|{'---|' * len(heads)}"]
    for key, figure in result["figures"].items():
        cells = [_end(key, line) for line in figure["groups"].values()]
        lines.append(f"| {figure['title']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _end(key: str, line: Mapping[str, Any]) -> str:
    """Return a group's last mean with its interval."""
    if not line["iterations"]:
        return "no iteration that all runs have"
    digits = FIGURES[key].digits
    mean, low, high = (line[name][-1] for name in ("mean", "low", "high"))
    bounds = "one run" if low is None else f"{low:.{digits}f} to {high:.{digits}f}"
    return f"{mean:.{digits}f} ({bounds})"
