"""Distances of made clips to held-out footage with floors, motion, text, memorisation, long shows.

python -m benchmarks quality bundles/NAME --data FOOTAGE --i3d i3d_kinetics400.onnx

Compares what a generator makes with footage that was held out of its training.
BUNDLE may also be a training run: it is exported into a temporary folder first.
Every frame is made by the runtime, as in a real show.

parts:
  i2v      real clips continued from their first frame alone
  seeds    clips made from seeds alone
  text     clips made from prompts, named by a probe (bundles that take text)
  memory   whether the training footage is reproduced
  endless  a long show: distances at frame 0, 1000, 10000 ..., drift, recurrence

Every table has floors that need no generator: real footage against real
footage, reversed, shuffled, the first frame repeated, the nearest training clip.

examples:
  python -m benchmarks quality bundles/mine --data FOOTAGE --i3d i3d_kinetics400.onnx
      everything; quality.json, quality.png and quality.html in runs/quality/mine
  python -m benchmarks quality runs/mine --data FOOTAGE --i3d I3D --parts i2v --clips 16
      a training run, in a few minutes; with --train-clips 0 in less
  python -m benchmarks quality bundles/satellite --data FOOTAGE --i3d I3D \\
      --config training/configs/satellite.toml
      a bundle without its training's [footage]
  python -m benchmarks quality bundles/landscape --data FOOTAGE --i3d I3D --size 256x256 \\
      --parts i2v --without transport
      with one part of the motion switched off, and what that changes

Finished measurements are kept in the output folder: the same command resumes.
Features of clips are kept in the user's cache, by content.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import plots
from benchmarks.machine import machine_card
from benchmarks.quality.context import QualityContext, QualityPlan
from benchmarks.quality.footage import find_footage
from benchmarks.quality.networks import I3D, MIN_FRAMES, FeatureCache, Lpips, cache_folder
from benchmarks.quality.page import build_page
from benchmarks.quality.parts import PARTS, measure_real
from benchmarks.quality.store import ResultStore
from benchmarks.quality.table import print_sets, summary
from benchmarks.quality.target import QualityTarget, open_target, state_norm
from benchmarks.quality.text import PROMPTS, read_prompts
from benchmarks.quality.without import PARTS as PARTS_OF_MOTION
from benchmarks.quality.without import what_it_changes, without_rows, write_without
from benchmarks.report import BenchmarkReport, command_line, progress_bars, write_beside, write_text
from export.commandline import to_size
from runtime.generator import Generator

_MINIMA = {
    "clips": 4, "frames": MIN_FRAMES, "train_clips": 0, "horizon": 0, "shows": 1, "windows": 1, "probe_every": 3,
    "seed": 0, "threads": 1,
}  # fmt: skip
_COMPARED = 8  # pictures, with and without a part
_LONG = ("per_clip", "per_prompt", "probes")  # lists that are left out of the line of JSON


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("target", type=Path, metavar="BUNDLE", help="folder of a bundle, or of a training run")
    add("--data", type=Path, required=True, metavar="DIR", help="a folder of videos, or shards of it")
    add("--i3d", type=Path, metavar="FILE", help="I3D as ONNX: video -> logits, features (needed)")
    add("--lpips", type=Path, metavar="FILE", help="LPIPS as ONNX: img0, img1 -> distance")
    add("--trained-with-lpips", action="store_true", help="LPIPS was used in training: it is not independent")
    add("--prompts", type=Path, default=PROMPTS, metavar="FILE", help="CSV: prompt,class[,novel] (50 landscapes)")
    add("--words", type=Path, metavar="WORDS", help="word vectors of a run that takes text (those it was trained with)")
    add("--out", type=Path, metavar="DIR", help="folder for the results (runs/quality/NAME)")
    add("--parts", metavar="LIST", help=f"some of {','.join(PARTS)} (all that are possible)")
    add("--seed", type=int, default=0, metavar="N", help="of all random choices (0)")
    add("--clips", type=int, default=32, metavar="N", help="held-out clips (32)")
    add("--frames", type=int, default=64, metavar="N", help="of a clip; fewer if the footage has fewer (64)")
    add("--train-clips", type=int, default=128, metavar="N", help="training clips to compare with; 0: none (128)")
    add("--horizon", type=int, default=100_000, metavar="N", help="last mark of the long show, in frames (100000)")
    add("--shows", type=int, default=2, metavar="N", help="long shows, a seed each (2)")
    add("--windows", type=int, default=8, metavar="N", help="clips of a show at each mark (8)")
    add("--probe-every", type=int, default=50, metavar="N", help="frames between probes of the show (50)")
    add("--engine", default="auto", metavar="E", help="see `latency` (auto)")
    add("--precision", default="auto", metavar="P", help="see `latency` (auto)")
    add("--size", metavar="WxH", help="frame size in pixels (the bundle's)")
    add("--without", choices=PARTS_OF_MOTION, metavar="PART", help=f"switch off one of {', '.join(PARTS_OF_MOTION)}")
    add("--threads", type=int, metavar="T", help="CPU threads for everything (every core)")
    add("--cache", type=Path, metavar="DIR", help="where features are kept")
    add = parser.add_argument_group("how the footage was split in training, if the bundle does not say").add_argument
    add("--config", type=Path, metavar="TOML", help="take [footage] from a training configuration")
    add("--holdout", choices=("scene", "time"), help="scene")
    add("--holdout-fraction", type=float, metavar="F", help="0.2")
    add("--short-side", type=int, metavar="N", help="pixels that videos are decoded at")
    add("--crop-min", type=int, metavar="N", help="side of the smallest crop, in these pixels")
    add("--crop-max", type=int, metavar="N", help="side of the largest crop")
    add("--footage-horizon", type=int, metavar="N", help="footage.horizon_frames: the gap of a split by time")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Evaluate.

    Raises:
        ValueError, BundleError, EngineError, OSError: an argument, a file or the footage cannot be used.
    """
    parts = _check(options)
    machine = machine_card()
    if options.i3d is None:
        raise ValueError("--i3d is needed: name I3D's ONNX file (inputs video, outputs logits and features)")
    extractor = I3D(options.i3d, options.threads)
    lpips = Lpips(options.lpips, options.threads) if options.lpips is not None else None
    prompts = read_prompts(options.prompts)
    plan = QualityPlan(options.seed, options.horizon, options.shows, options.windows, options.probe_every, prompts)
    with ExitStack() as stack:
        target = whole = stack.enter_context(open_target(options.target, options.words))
        if options.without is not None:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="everframe-without-"))) / "bundle"
            bundle, name = (
                write_without(whole.bundle, options.without, folder),
                f"{whole.name} without {options.without}",
            )
            target = replace(whole, bundle=bundle, name=name, key=f"{whole.key} without {options.without}")
        progress = stack.enter_context(progress_bars())
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
            renewal = generator.manifest.renewal
            takes_text = generator.manifest.prompt_input("text") is not None
        if "text" in (parts or ()) and not takes_text:
            raise ValueError(f"{target.name} does not take text: leave text out of --parts")
        needing = [part for part in ("memory", "text", "endless") if options.train_clips == 0]
        for part in needing:
            if part in (parts or ()):
                raise ValueError(f"{part} needs training clips: raise --train-clips, or leave {part} out")
        if parts is None:
            parts = [part for part in PARTS if part not in needing and (part != "text" or takes_text)]
        out = options.out or Path("runs") / "quality" / target.name
        context = QualityContext(
            name=target.name,
            key={key: facts[key] for key in ("kind", "key", "engine", "precision", "frame")},
            open_show=lambda: _open(target, options),
            norm=state_norm,
            fps=float(generator.fps),
            renewal_frames=renewal.every_frames if renewal is not None else 0,
            takes_text=takes_text,
            footage=find_footage(target, options, generator.height, generator.width),
            cache=FeatureCache(extractor, options.cache or cache_folder()),
            lpips=lpips.distance if lpips is not None else None,
            lpips_sha256=lpips.sha256 if lpips is not None else None,
            store=ResultStore(out / "kept"),
            plan=plan,
            progress=progress,
        )
        result = {"benchmark": "quality", **facts, **evaluate(context, parts)}
        if options.without is not None:
            result["without"] = {"part": options.without, **_compare(whole, target, context, options)}
        result["ledger"] = {extractor.name: {"sha256": extractor.sha256, "independent": True}}
        if lpips is not None:
            trained = True if options.trained_with_lpips else target.trained_with_lpips
            independent = None if trained is None else not trained
            result["ledger"][lpips.name] = {"sha256": lpips.sha256, "independent": independent}
    result |= {"machine": machine, "command": command_line()}
    publish(result, context, out)
    print_sets(result)
    rows = [*summary(result), *without_rows(result), ("page", "", str(out / "quality.html"))]
    short = {name: {k: v for k, v in part.items() if k not in _LONG} for name, part in result["parts"].items()}
    return BenchmarkReport(f"quality of {target.name}", rows, {**result, "parts": short}, {"parts": result["parts"]})


def evaluate(context: QualityContext, parts: list[str]) -> dict[str, Any]:
    """Run parts and return `footage`, `floors` and `parts` as plain data; the page's clips are in the context."""
    floors = measure_real(context)
    found = {part: PARTS[part](context) for part in PARTS if part in parts}
    return {"footage": describe_footage(context), "floors": floors, "parts": found}


def describe_footage(context: QualityContext) -> dict[str, Any]:
    """Return figures of the real clips and how they were split."""
    footage = context.footage
    lengths = sorted(Counter(window.frames for window in footage.heldout).items())
    settings = dict(footage.settings)
    splits = {"scene": "whole scenes held out", "time": "the end of every video held out"}
    return {
        "clips": len(footage.heldout),
        "videos": len({window.video for window in footage.heldout}),
        "scenes": len({window.scene for window in footage.heldout}),
        "frames": {str(length): count for length, count in lengths},
        "frames_text": ", ".join(f"{count} x {length} frames" for length, count in reversed(lengths)),
        "too_short": footage.too_short,
        "training_clips": len(footage.training),
        "holdout_text": splits.get(settings.get("holdout", ""), ""),
        "settings": settings,
    }


def publish(result: dict[str, Any], context: QualityContext, out: Path) -> None:
    """Write quality.json, quality.png and quality.html, each complete or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "quality.json", json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_beside(out / "quality.png", lambda beside: plots.quality(result, beside))
    write_text(out / "quality.html", build_page(result, context.figures, (out / "quality.png").read_bytes()))


def _check(options: argparse.Namespace) -> list[str] | None:
    for name, minimum in _MINIMA.items():
        value = getattr(options, name)
        if value is not None and value < minimum:
            raise ValueError(f"--{name.replace('_', '-')} is {value}, expected {minimum} or more")
    if options.parts is None:
        return None
    parts = [part.strip() for part in options.parts.split(",")]
    for part in parts:
        if part not in PARTS:
            raise ValueError(f'there is no part "{part}": expected some of {", ".join(PARTS)}')
    return parts


def _open(target: QualityTarget, options: argparse.Namespace) -> Generator:
    return Generator.open(
        target.bundle,
        engine=options.engine,
        precision=options.precision,
        seed=options.seed,
        threads=options.threads,
        size=None if options.size is None else to_size(options.size),
    )


def _compare(
    whole: QualityTarget, without: QualityTarget, context: QualityContext, options: argparse.Namespace
) -> dict[str, Any]:
    """Return `what_it_changes` on the first frames of real clips."""
    pictures = [clip[0] for clip in context.real.clips[:_COMPARED]]
    with (
        _open(whole, options) as one,
        _open(without, options) as other,
        context.progress("without the part", len(pictures)) as advance,
    ):
        return what_it_changes(one, other, pictures, lambda: advance(1))
