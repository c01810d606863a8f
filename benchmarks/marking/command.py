"""How well the mark of frames is found, what it costs, and what removes it.

python -m benchmarks mark bundles/landscape --photos PHOTOS --real FOOTAGE

Parts, of which --parts takes some:

  detection  clips of 16 frames, marked by the runtime, after each of the
             changes of benchmarks/marking/changes.py; each clip has its own
             payload. A clip counts as found if exactly this payload is read
  real       windows of 16 frames of real footage, which have no mark, and
             unmarked clips of the bundles: every payload is a false positive
  cost       PSNR and LPIPS between marked and unmarked frames, by size
  speed      time per frame of the pixel stage with and without the mark, and
             of the stage that marks other frames, in alternating runs
  attacks    what somebody achieves who knows how it works
  engines    the marked frames of every engine beside those of ONNX Runtime,
             and TensorRT-RTX engines of the marked graph

Results of single clips are kept in --store FILE, so that a second run goes on
where the first one was stopped.

examples:
  python -m benchmarks mark bundles/landscape bundles/satellite \\
      --photos photos --real footage --clips 500 --store mark.jsonl
  python -m benchmarks mark bundles/landscape --parts speed
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.marking.attacks import measure_attacks
from benchmarks.marking.cost import measure_cost
from benchmarks.marking.detection import measure_detection
from benchmarks.marking.engines import measure_engines
from benchmarks.marking.false_positives import measure_real
from benchmarks.marking.footage import Case, videos_in
from benchmarks.marking.speed import measure_speed
from benchmarks.marking.store import ResultLines
from benchmarks.marking.tables import rows_of, to_markdown
from benchmarks.report import BenchmarkReport
from export.commandline import to_list, to_size
from runtime.bundle.reader import read_manifest

__all__ = ["add_arguments", "run", "to_markdown"]
PARTS = ("detection", "real", "cost", "speed", "attacks", "engines")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundles", nargs="+", type=Path, metavar="BUNDLE", help="folders of bundles")
    add("--parts", default=",".join(PARTS), metavar="P,...", help="what is measured (all)")
    add("--clips", type=int, default=40, metavar="N", help="marked clips (40)")
    add("--first", type=int, default=0, metavar="N", help="number of the first clip, to share the work (0)")
    add("--sizes", default="1280x720,640x360", metavar="WxH,...", help="sizes of the clips (1280x720,640x360)")
    add("--photos", type=Path, metavar="FOLDER", help="pictures that are animated, beside the scenes of the bundles")
    add("--real", nargs="*", type=Path, default=[], metavar="PLACE", help="real videos, or folders of them")
    add("--matte", type=Path, metavar="BUNDLE", help="also clips of a person over the first bundle")
    add("--people", nargs="*", type=Path, default=[], metavar="PLACE", help="videos of people for --matte")
    add("--then", type=Path, metavar="BUNDLE", help="also clips of the first bundle through this one")
    add("--lpips", type=Path, metavar="FILE", help="LPIPS as ONNX, for the cost")
    add("--store", type=Path, metavar="FILE", help="keep results here, and go on from them")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError: an argument, a bundle or a file cannot be used.
    """
    parts = to_list(options.parts)
    if unknown := [part for part in parts if part not in PARTS]:
        raise ValueError(f"--parts has {unknown[0]!r}, expected some of {', '.join(PARTS)}")
    if options.clips < 1:
        raise ValueError(f"--clips is {options.clips}, expected 1 or more")
    if options.first < 0:
        raise ValueError(f"--first is {options.first}, expected 0 or more")
    people, real = videos_in(options.people), videos_in(options.real)
    if options.matte is not None and not people:
        raise ValueError("--matte needs videos of people: add --people FOLDER")
    if "real" in parts and not real:
        raise ValueError("the part real needs real videos: add --real FOLDER, or choose other --parts")
    photos = [] if options.photos is None else sorted(options.photos.glob("*.jpg"))
    sizes = [to_size(text) for text in to_list(options.sizes)]
    cases = [Case((bundle,), size) for size in sizes for bundle in options.bundles]
    if options.matte is not None:
        cases += [Case((options.bundles[0],), size, options.matte) for size in sizes]
    if options.then is not None:
        frame = read_manifest(options.then).frame
        cases.append(Case((options.bundles[0], options.then), (frame.width, frame.height)))
    store = ResultLines(options.store)
    found: dict[str, Any] = {}
    if "detection" in parts:
        found["detection"] = measure_detection(cases, options.clips, photos, people, store, options.first)
    if "real" in parts:
        found["real"] = measure_real(real, store)
    if "cost" in parts:
        found["cost"] = measure_cost(cases, photos, people, options.lpips, store)
    if "speed" in parts:
        found["speed"] = measure_speed(options.bundles[0])
    if "attacks" in parts:
        found["attacks"] = measure_attacks(cases[0], photos, real)
    if "engines" in parts:
        found["engines"] = measure_engines(options.bundles, sizes)
    return BenchmarkReport("the mark of frames", rows_of(found), {"benchmark": "mark", **found})
