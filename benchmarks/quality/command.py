"""How good what a generator makes is: distances to held-out footage beside floors, motion, text, memory, endlessness.

python -m benchmarks quality bundles/NAME --data FOOTAGE --i3d i3d_kinetics400.onnx
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_card
from benchmarks.quality.context import QualityContext, QualityPlan
from benchmarks.quality.footage import find_footage, overlap_share
from benchmarks.quality.networks import I3D, MIN_FRAMES, FeatureCache, Lpips, cache_folder
from benchmarks.quality.page import build_page
from benchmarks.quality.parts import PARTS, measure_real
from benchmarks.quality.plot import draw
from benchmarks.quality.store import ResultStore
from benchmarks.quality.table import print_sets, summary
from benchmarks.quality.target import QualityTarget, open_target, state_norm
from benchmarks.quality.text import PROMPTS, read_prompts
from benchmarks.report import BenchmarkReport, write_beside
from runtime.generator import Generator

SUMMARY = "how good what it makes is, beside floors"
DESCRIPTION = """\
Judge what a generator makes against footage that its training never saw. BUNDLE
may be a training run, too: it is exported into a temporary folder first. Every
frame is made by the runtime, exactly as a show would have it.

parts:
  i2v      real clips continued from their first frame alone
  seeds    clips made from seeds alone
  text     clips made from prompts, named by a probe (bundles that take text)
  memory   is it only what it was trained on?
  endless  a long show: distances at frame 0, 1000, 10000 ..., drift, returns

Floors that need no generator stand in every table: real footage against real
footage, reversed, shuffled, the first frame repeated, the nearest training clip.
"""
EXAMPLES = """\
examples:
  python -m benchmarks quality bundles/mine --data FOOTAGE --i3d i3d_kinetics400.onnx
      everything; quality.json, quality.png and quality.html in runs/quality/mine
  python -m benchmarks quality runs/mine --data FOOTAGE --i3d I3D --parts i2v --clips 16
      a training run, in a few minutes; with --train-clips 0 in less
  python -m benchmarks quality bundles/satellite-256 --data FOOTAGE --i3d I3D \\
      --config training/configs/satellite-256.toml
      a bundle that does not tell what its training held out

What is finished is kept in the output folder: the same command goes on where it
was stopped. Features of real clips are kept in the user's cache, by content.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("target", type=Path, metavar="BUNDLE", help="folder of a bundle, or of a training run")
    add("--data", type=Path, required=True, metavar="DIR", help="a folder of videos, or shards of it")
    add("--i3d", type=Path, metavar="FILE", help="I3D as ONNX: video -> logits, features (needed)")
    add("--lpips", type=Path, metavar="FILE", help="LPIPS as ONNX: img0, img1 -> distance")
    add("--trained-with-lpips", action="store_true", help="LPIPS took part in the training: it is no judge")
    add("--prompts", type=Path, default=PROMPTS, metavar="FILE", help="CSV: prompt,class[,novel] (50 landscapes)")
    add("--words", type=Path, metavar="WORDS", help="word vectors of a run that takes text (those it was trained with)")
    add("--out", type=Path, metavar="DIR", help="where results go (runs/quality/NAME)")
    add("--parts", metavar="LIST", help=f"some of {','.join(PARTS)} (all that it can do)")
    add("--seed", type=int, default=0, metavar="N", help="of everything that is drawn (0)")
    add("--clips", type=int, default=32, metavar="N", help="held-out clips (32)")
    add("--frames", type=int, default=64, metavar="N", help="of a clip; fewer where the footage has fewer (64)")
    add("--train-clips", type=int, default=128, metavar="N", help="training clips to compare with; 0: none (128)")
    add("--horizon", type=int, default=100_000, metavar="N", help="last mark of the endless show, in frames (100000)")
    add("--shows", type=int, default=2, metavar="N", help="endless shows, a seed each (2)")
    add("--windows", type=int, default=8, metavar="N", help="clips of a show at each mark (8)")
    add("--probe-every", type=int, default=50, metavar="N", help="frames between probes of the show (50)")
    add("--engine", default="auto", metavar="E", help="see `latency` (auto)")
    add("--precision", default="auto", metavar="P", help="see `latency` (auto)")
    add("--threads", type=int, metavar="T", help="CPU threads for everything (every core)")
    add("--cache", type=Path, metavar="DIR", help="where features are kept")
    told = parser.add_argument_group(
        "what the training held out, where a bundle does not tell or something else is meant"
    )
    told.add_argument("--config", type=Path, metavar="TOML", help="take [footage] from a training configuration")
    told.add_argument("--holdout", choices=("scene", "time"), help="scene")
    told.add_argument("--holdout-fraction", type=float, metavar="F", help="0.2")
    told.add_argument("--short-side", type=int, metavar="N", help="pixels that videos are decoded at")
    told.add_argument("--crop-min", type=int, metavar="N", help="pixels of that: side of the smallest crop")
    told.add_argument("--crop-max", type=int, metavar="N", help="and of the largest")
    told.add_argument(
        "--footage-horizon", type=int, metavar="N", help="footage.horizon_frames: the gap of a split by time"
    )


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Evaluate as the arguments say.

    Raises:
        ValueError, BundleError, EngineError, OSError: something cannot be used; one sentence says what.
    """
    parts = _check(options)
    machine = machine_card()
    if options.i3d is None:
        raise ValueError("--i3d is needed: name I3D's ONNX file (inputs video, outputs logits and features)")
    extractor = I3D(options.i3d, options.threads)
    lpips = Lpips(options.lpips, options.threads) if options.lpips is not None else None
    prompts = read_prompts(options.prompts)
    with open_target(options.target, options.words) as target, _bars() as progress:
        with _open(target, options) as generator:
            facts = {
                "name": target.name,
                "kind": target.kind,
                "key": target.key,
                "engine": generator.engine,
                "precision": generator.precision,
                "frame": f"{generator.width} x {generator.height}",
                "fps": str(generator.fps),
            }
            listens = _listens(generator)
            renewal = generator.manifest.renewal
            size = (generator.height, generator.width)
            fps = generator.fps
        if parts is None:
            without = {"memory", "text", "endless"} if options.train_clips == 0 else set()
            parts = [part for part in PARTS if part not in without and (part != "text" or listens)]
        elif "text" in parts and not listens:
            raise ValueError(f"{target.name} does not listen to text: leave text out of --parts")
        needing = [part for part in ("memory", "text", "endless") if part in parts and options.train_clips == 0]
        if needing:
            raise ValueError(f"{needing[0]} needs training clips: raise --train-clips, or leave {needing[0]} out")
        footage = find_footage(target, options, *size)
        out = options.out or Path("runs") / "quality" / target.name
        out.mkdir(parents=True, exist_ok=True)
        context = QualityContext(
            name=target.name,
            key={key: facts[key] for key in ("kind", "key", "engine", "precision")},
            open_show=lambda: _open(target, options),
            norm=state_norm,
            fps=float(fps),
            renewal_frames=renewal.every_frames if renewal is not None else 0,
            listens=listens,
            footage=footage,
            cache=FeatureCache(extractor, options.cache or cache_folder()),
            lpips=lpips.distance if lpips is not None else None,
            lpips_sha256=lpips.sha256 if lpips is not None else None,
            store=ResultStore(out / "kept"),
            plan=QualityPlan(
                options.seed, options.horizon, options.shows, options.windows, options.probe_every, prompts
            ),
            progress=progress,
        )
        trained = True if options.trained_with_lpips else target.trained_with_lpips
        result = {"benchmark": "quality", **facts, **evaluate(context, parts)}
        result["ledger"] = {extractor.name: {"sha256": extractor.sha256, "independent": True}}
        if lpips is not None:
            independent = None if trained is None else not trained
            result["ledger"][lpips.name] = {"sha256": lpips.sha256, "independent": independent}
    result["machine"] = machine
    result["command"] = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    publish(result, context, out)
    print_sets(result)
    rows = [*summary(result), ("page", "", str(out / "quality.html"))]
    details = {"parts": result["parts"]}
    return BenchmarkReport(
        f"quality of {target.name}", rows, {**result, "parts": _without_lists(result["parts"])}, details
    )


def evaluate(context: QualityContext, parts: list[str]) -> dict[str, Any]:
    """Run parts and return `footage`, `floors` and `parts` as plain data; what the page shows is in the context."""
    floors = measure_real(context)
    found = {part: PARTS[part](context) for part in PARTS if part in parts}
    return {"footage": describe_footage(context), "floors": floors, "parts": found}


def describe_footage(context: QualityContext) -> dict[str, Any]:
    """Return what the real clips are."""
    footage = context.footage
    lengths = Counter(window.frames for window in footage.heldout)
    settings = dict(footage.settings)
    by = {"scene": "whole scenes held out", "time": "the end of every video held out"}.get(
        settings.get("holdout", ""), ""
    )
    return {
        "clips": len(footage.heldout),
        "videos": len({window.video for window in footage.heldout}),
        "scenes": len({window.scene for window in footage.heldout}),
        "frames": {str(length): count for length, count in sorted(lengths.items())},
        "frames_text": ", ".join(
            f"{count} x {length} frames" for length, count in sorted(lengths.items(), reverse=True)
        ),
        "too_short": footage.too_short,
        "other_moments_overlap": overlap_share(footage.heldout, footage.others),
        "training_clips": len(footage.training),
        "holdout_text": by,
        "settings": settings,
    }


def publish(result: dict[str, Any], context: QualityContext, out: Path) -> None:
    """Write quality.json, quality.png and quality.html, each whole or not at all."""
    text = json.dumps(result, indent=1, allow_nan=False) + "\n"
    write_beside(out / "quality.json", lambda beside: beside.write_text(text, encoding="utf-8"))
    write_beside(out / "quality.png", lambda beside: draw(result, beside))
    page = build_page(result, context.figures, (out / "quality.png").read_bytes())
    write_beside(out / "quality.html", lambda beside: beside.write_text(page, encoding="utf-8"))


def _check(options: argparse.Namespace) -> list[str] | None:
    least = {
        "clips": 4,
        "frames": MIN_FRAMES,
        "train_clips": 0,
        "horizon": 0,
        "shows": 1,
        "windows": 1,
        "probe_every": 3,
    }
    for name, minimum in least.items():
        if getattr(options, name) < minimum:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} is {getattr(options, name)}, expected {minimum} or more")
    if options.seed < 0:
        raise ValueError(f"--seed is {options.seed}, expected 0 or more")
    if options.threads is not None and options.threads < 1:
        raise ValueError(f"--threads is {options.threads}, expected 1 or more")
    if options.parts is None:
        return None
    parts = [part.strip() for part in options.parts.split(",")]
    for part in parts:
        if part not in PARTS:
            raise ValueError(f'there is no part "{part}": expected some of {", ".join(PARTS)}')
    return parts


def _open(target: QualityTarget, options: argparse.Namespace) -> Generator:
    return Generator.open(
        target.bundle, engine=options.engine, precision=options.precision, seed=options.seed, threads=options.threads
    )


def _listens(generator: Generator) -> bool:
    condition = generator.manifest.condition
    return condition is not None and condition.only_input("text") is not None


@contextmanager
def _bars() -> Iterator[Callable[[str, int], Any]]:
    """Give the function that shows one bar after the other; each stays when it is full."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        @contextmanager
        def bar(name: str, total: int) -> Iterator[Callable[[int], None]]:
            task = bars.add_task(name, total=total)
            yield lambda count: bars.update(task, advance=count)

        yield bar


def _without_lists(parts: dict[str, Any]) -> dict[str, Any]:
    """Leave out of the line for programs what has a value per clip, prompt or probe."""
    long = ("per_clip", "per_prompt", "probes")
    return {name: {key: value for key, value in part.items() if key not in long} for name, part in parts.items()}
