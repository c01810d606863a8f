"""Does pretraining pay? Fine-tuning runs with different starts, several seeds each, judged snapshot by snapshot.

python -m benchmarks transfer runs/none-0 runs/none-1 ... --i3d i3d_kinetics400.onnx --data FOOTAGE --out runs/transfer
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_card
from benchmarks.quality.networks import I3D, MIN_FRAMES, FeatureCache, cache_folder
from benchmarks.quality.store import ResultStore
from benchmarks.report import BenchmarkReport, write_beside
from benchmarks.transfer.curves import FIGURES, FLOORS, CurveLine, parse_groups, summarise, text
from benchmarks.transfer.judge import Curves, find_snapshots, held_out_clips, judge, read_held_out, shared_config
from benchmarks.transfer.plot import check_matplotlib, draw

SUMMARY = "does pretraining pay: fine-tuning runs with different starts, over time"
DESCRIPTION = """\
Compare fine-tuning runs that differ in where they started (none, image, video,
or any groups), with several seeds each. Every run keeps its averaged generator
now and then (run.keep_every); each of these snapshots continues held-out clips
from their first frame, and I3D, which trained nothing here, judges them beside
the real clips:

  distance  unbiased polynomial MMD2 of I3D features to the real clips
  closer    share of clips nearer to their real one, in I3D features, than their
            first frame repeated is

The figures that training itself wrote to heldout.jsonl stand beside them. The
interval is Student's t at 95 % over a group's runs: with three runs it is wide,
and it says nothing of other footage. Where two intervals overlap at the end, no
difference is shown.
"""
EXAMPLES = """\
examples:
  python -m benchmarks transfer runs/none-0 runs/none-1 runs/none-2 \\
      runs/video-0 runs/video-1 runs/video-2 \\
      --i3d i3d_kinetics400.onnx --data FOOTAGE --out runs/transfer
      groups by the names of the folders
  python -m benchmarks transfer --group none=runs/a,runs/b,runs/c \\
      --group video=runs/d,runs/e,runs/f \\
      --data FOOTAGE --out runs/transfer
      groups as told; without I3D, only what training wrote

Writes transfer.json, transfer.png and transfer.md. What I3D has said of a
snapshot is kept there: the same command goes on where it was stopped.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("runs", type=Path, nargs="*", metavar="RUN", help="fine-tuning runs; their names tell the group")
    add("--group", action="append", default=[], metavar="NAME=RUN,RUN", help="runs of a group; may be repeated")
    add(
        "--data", type=Path, required=True, metavar="DIR", help="the runs' footage: a folder of videos, or shards of it"
    )
    add("--out", type=Path, required=True, metavar="DIR", help="where results go")
    add("--i3d", type=Path, metavar="FILE", help="I3D as ONNX: video -> logits, features")
    add("--clips", type=int, default=32, metavar="N", help="held-out clips (32)")
    add("--frames", type=int, default=16, metavar="N", help="of a clip (16)")
    add("--seed", type=int, default=0, metavar="N", help="of the clips' places and of the frames' noise (0)")
    add("--threads", type=int, metavar="T", help="CPU threads (every core)")
    add("--cache", type=Path, metavar="DIR", help="where features are kept")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Compare as the arguments say.

    Raises:
        ValueError, OSError: something cannot be used; one sentence says what.
    """
    for name, least in (("clips", 4), ("frames", MIN_FRAMES), ("seed", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} is {getattr(options, name)}, expected {least} or more")
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads is {options.threads}, expected 1 or more")
    check_matplotlib()
    groups = parse_groups(options.runs, options.group)
    curves = {run: read_held_out(run) for runs in groups.values() for run in runs}
    floors: dict[str, float] = {}
    judged: dict[str, Any] = {}
    if options.i3d is not None:
        extractor = I3D(options.i3d, options.threads)
        snapshots = {run: find_snapshots(run) for run in curves}
        config = shared_config(snapshots)
        clips = held_out_clips(options.data, config, snapshots, options.clips, options.frames, options.seed)
        cache = FeatureCache(extractor, options.cache or cache_folder())
        with _bar(sum(map(len, snapshots.values()))) as advance:
            judged, floors = judge(
                snapshots, clips, cache, ResultStore(options.out / "kept"), options.seed, options.threads, advance
            )
        for run, found in judged.items():
            curves[run] |= found
        judge_note: dict[str, Any] | None = {"name": extractor.name, "sha256": extractor.sha256, "independent": True}
        footage: dict[str, Any] | None = {
            "clips": len(clips.clips), "frames": options.frames, "scenes": len(set(clips.scenes)),
            "frame": f"{config.model.width} x {config.model.height}", "holdout": config.footage.holdout,
        }  # fmt: skip
    else:
        judge_note = footage = None
    for key, floor in FLOORS.items():
        values = [value for found in curves.values() for value in found.get(floor, {}).values()]
        if values:
            floors[key] = float(np.mean(values))
    figures = compare(groups, curves, floors)
    if not figures:
        raise ValueError("no run has a figure: train with run.keep_every and name --i3d, or keep heldout.jsonl")
    result: dict[str, Any] = {
        "benchmark": "transfer", "groups": {name: [str(run) for run in runs] for name, runs in groups.items()},
        "judge": judge_note, "footage": footage, "level": 0.95, "figures": figures, "machine": machine_card(),
        "command": shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]),
    }  # fmt: skip
    publish(result, options.out)
    rows = []
    for figure in FIGURES:
        if figure.key in figures:
            end = figures[figure.key]["end"]
            rows += [(f"{figure.key}, {name}", text(figure, found), "") for name, found in end["groups"].items()]
            rows.append(("", "", end["sentence"]))
    if judge_note is None:
        rows.append(("judge", "none", "no --i3d: these are the runs' own figures, and no distance to real clips"))
    rows.append(("picture", "", str(options.out / "transfer.png")))
    return BenchmarkReport(
        f"transfer: {', '.join(f'{name} ({len(runs)})' for name, runs in groups.items())}", rows, result
    )


# What comes of it.


def compare(
    groups: Mapping[str, Sequence[Path]], curves: Mapping[Path, Curves], floors: Mapping[str, float]
) -> dict[str, Any]:
    """Return every figure that all groups have: its lines, its floor and what may be said of its end."""
    figures = {}
    for figure in FIGURES:
        if not all(figure.key in curves[run] for runs in groups.values() for run in runs):
            continue
        lines = {name: CurveLine.of([curves[run][figure.key] for run in runs]) for name, runs in groups.items()}
        figures[figure.key] = {
            **{key: value for key, value in dataclasses.asdict(figure).items() if key not in ("key", "digits")},
            "floor": floors.get(figure.key),
            "groups": {name: line.to_json() for name, line in lines.items()},
            "end": summarise(figure, lines),
        }
    return figures


def publish(result: dict[str, Any], out: Path) -> None:
    """Write transfer.json, transfer.png and transfer.md, each whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    content = json.dumps(result, indent=1, allow_nan=False) + "\n"
    write_beside(out / "transfer.json", lambda beside: beside.write_text(content, encoding="utf-8"))
    write_beside(out / "transfer.png", lambda beside: draw(result, beside))
    page = to_markdown(result)
    write_beside(out / "transfer.md", lambda beside: beside.write_text(page, encoding="utf-8"))


def to_markdown(result: dict[str, Any]) -> str:
    """Return the ends as a table, and a sentence for each figure."""
    names = list(result["groups"])
    heads = [f"{name} ({len(result['groups'][name])} runs)" for name in names]
    lines = [f"| at the end, 95 % interval over runs | {' | '.join(heads)} |", f"|---|{'---|' * len(names)}"]
    sentences = []
    for figure in FIGURES:
        if figure.key in result["figures"]:
            end = result["figures"][figure.key]["end"]
            cells = [text(figure, end["groups"][name]) if name in end["groups"] else "" for name in names]
            lines.append(f"| {figure.title} | {' | '.join(cells)} |")
            sentences.append(f"- {end['sentence']}")
    return "\n".join([*lines, "", *sentences, "", f"`{result['command']}`", ""])


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        task = bars.add_task("snapshots", total=total)
        yield lambda: bars.update(task, advance=1)
