"""Endless clips: how many jumps they have, and how visible these are, beside other loops.

python -m benchmarks clips CLIP ... --lpips lpips.onnx

At each seam two figures are compared with those of ordinary consecutive frames
of the same clip (their 95th percentile is 1): LPIPS from frame to frame, and
the flow jump, the mean change of the optical flow from one pair of frames to
the next. The worst frame of a seam counts. "Reached" is at most 1.25 in both.
Detail is the mean Laplacian in the middle of a seam, of that of its ends.
Ghost is the least LPIPS of the frame in the middle to any frame of the clip, in
the same unit: it is large where two pictures are seen through each other.

In ten minutes: the share of sequences of five jumps that occur twice, the share
of the clip's frames that are seen, and the median time until a frame is seen
again.

The ways to go on for ever: the endless clip (with jumps, or with one long
dissolve where no two moments look alike); raw-pixel video textures (Schoedl et
al. 2000), which cut; a hard loop; a loop whose last second fades into its
first; there and back.

--features compares what jumps are chosen by: mean colours of squares, as the
runtime does; features of a bundle's encoder, of the same network with random
weights, of EfficientNet-Lite0; raw pixels. First with the runtime's limit, then
the best jumps of each clip without one.

examples:
  python -m benchmarks clips waterfall.mp4 fire.mp4 --lpips lpips_alexnet.onnx
  python -m benchmarks clips CLIPS/*.mp4 --lpips lpips_alexnet.onnx --slices slices.png
      also a picture: a row of pixels over ten seconds of each clip
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.clip_features import NAMES as FEATURES
from benchmarks.quality.clip_features import make_features
from benchmarks.quality.clip_loops import NAMES, ClipRenderer, Loop, make_loops
from benchmarks.quality.jump_choice import measure_choices, summarise, to_table
from benchmarks.quality.networks import Lpips
from benchmarks.quality.seams import FIGURES, WANTED, SeamJudge, has_reached, median
from benchmarks.report import BenchmarkReport, progress_bars, write_beside
from runtime.clips.clip_frames import ClipFrames, read_clip
from runtime.clips.endless import EndlessClip, make_endless
from runtime.clips.playhead import Playhead

Frames = npt.NDArray[np.uint8]
_SEQUENCE = 5  # jumps
_MINUTES = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("clips", type=Path, nargs="+", metavar="CLIP", help="video files")
    add("--lpips", type=Path, required=True, metavar="FILE", help="LPIPS as ONNX: img0, img1 -> distance")
    add("--width", type=int, default=448, metavar="N", help="of the frames in pixels, a multiple of 32 (448)")
    add("--ways", default=",".join(NAMES), metavar="NAMES", help=f"{', '.join(NAMES)} (all)")
    add("--seams", type=int, default=6, metavar="N", help="of each clip that are measured (6)")
    add("--features", default="", metavar="NAMES", help=f"also choose jumps by {', '.join(FEATURES)}")
    add("--bundle", type=Path, default=Path("bundles/landscape"), metavar="DIR", help="whose encoder is compared")
    add("--imagenet", type=Path, metavar="FILE", help="weights of EfficientNet-Lite0, a .pth file")
    add("--slices", type=Path, metavar="FILE.png", help="write a picture of ten seconds of each clip")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, OSError: an argument or a file cannot be used.
    """
    ways = [name.strip() for name in options.ways.split(",")]
    if unknown := [name for name in ways if name not in NAMES]:
        raise ValueError(f"--ways has {unknown[0]!r}; expected {', '.join(NAMES)}")
    if options.width % 32 or options.width < 64 or options.seams < 1:
        raise ValueError(f"--width must be a multiple of 32 from 64 up and --seams 1 or more, got {options.width}")
    chosen = [name.strip() for name in options.features.split(",") if name.strip()]
    features = make_features(chosen, options.bundle, options.imagenet)
    lpips, slices, choices = Lpips(options.lpips), [], []
    found: dict[str, Any] = {}
    with progress_bars() as bars, bars("clips", len(options.clips)) as advance:
        for path in options.clips:
            clip = read_clip(path, *_sizes(path, options.width), fps=60.0)
            height, width = clip.frames.shape[1:3]
            with ClipRenderer((width, height), (width, height)) as renderer:
                loops, judge = make_loops(clip, renderer, ways, options.seams), SeamJudge(clip, lpips)
                ours = make_endless(clip)
                found[path.name] = _measured(clip, ours, loops, judge)
                if features:
                    choices.append(measure_choices(clip, renderer, judge, features, options.seams))
                    found[path.name]["choices"] = choices[-1]
                if options.slices is not None:
                    slices.append(_slice(ours, renderer))
            advance(1)
    if options.slices is not None:
        _write_slices(options.slices, slices)
    result: dict[str, Any] = {"benchmark": "clips", "wanted": WANTED, "clips": found, "ways": _summary(found, ways)}
    if choices:
        result["features"] = summarise(choices)
    rows = [
        (NAMES[name], f"{one['reached']} of {one['clips']}", f"LPIPS {one['lpips']:.2f}, flow {one['flow']:.2f}, "
         f"detail {one['detail']:.2f}, ghost {one['ghost']:.2f}")
        for name, one in result["ways"].items()
    ]  # fmt: skip
    with_jumps = sum(one["jumps"] > 1 or one["is_seamless"] for one in found.values())
    rows.insert(0, ("clips with jumps", f"{with_jumps} of {len(found)}", ""))
    rows += [
        (f"jumps by {FEATURES[name]}", f"{one['reached']} of {one['with_jumps']}", f"best jumps {one['best_reached']} "
         f"of {one['with_best']}")
        for name, one in result.get("features", {}).items()
    ]  # fmt: skip
    return BenchmarkReport("endless clips", rows, result)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as Markdown tables."""
    lines = [
        "| clip | s | jumps | LPIPS at seams | flow jump | detail | ghost | 5-jump sequences that occur twice | seen "
        "| seen again after s |",
        "|---|" + "---|" * 9,
    ]
    for name, one in result["clips"].items():
        ours = one["ways"]["ours"]
        jumps = one["jumps"] if one["is_seamless"] else "dissolves"
        values = [ours[key] for key in FIGURES] + [one[key] for key in ("repeated", "seen", "again_s")]
        figures = " | ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {one['seconds']:.1f} | {jumps} | {figures} |")
    lines += ["", "| way | reached | LPIPS at seams | flow jump | detail | ghost |", "|---|---|---|---|---|---|"]
    for name, one in result["ways"].items():
        lines.append(
            f"| {NAMES[name]} | {one['reached']} of {one['clips']} | {one['lpips']:.2f} | {one['flow']:.2f} "
            f"| {one['detail']:.2f} | {one['ghost']:.2f} |"
        )
    if "features" in result:
        lines += ["", *to_table(result["features"])]
    return "\n".join(lines)


def _sizes(path: Path, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    from runtime.prompts.clips import open_video

    with open_video(path) as container:
        stream = container.streams.video[0].codec_context
        height = max(32, round(width * stream.height / stream.width / 32) * 32)
    return (width, height), (width, height)


def _measured(clip: ClipFrames, ours: EndlessClip, loops: Mapping[str, Loop], judge: SeamJudge) -> dict[str, Any]:
    return {
        "seconds": len(clip.frames) / clip.fps,
        "jumps": len(ours.jumps),
        "is_seamless": ours.is_seamless,
        "cost": median([jump.cost for jump in ours.jumps]),
        **_walked(ours),
        "ordinary_lpips": judge.ordinary,
        "ways": {
            name: {**judge.figures(loop.seams), "is_seamless": loop.is_seamless, "seams": len(loop.seams)}
            for name, loop in loops.items()
        },
    }


def _walked(clip: EndlessClip) -> dict[str, float]:
    """Return what is seen in ten minutes.

    Returns:
        `repeated`: share of sequences of jumps that occur twice; `seen`: share of the frames that are seen; `again_s`:
        median time until a frame is seen again.
    """
    playhead, random = Playhead(clip.jumps, clip.clip.fps), np.random.default_rng(0)
    taken: list[int] = []
    seen: dict[int, int] = {}  # frame -> when it was seen last
    agains, before, place = [], -1, -1
    for now, draw in enumerate(random.random(round(_MINUTES * 60 * clip.clip.fps))):
        moment = playhead.advance(1.0, float(draw), 0.5)
        if moment.jump >= 0 and moment.jump != before:
            taken.append(moment.jump)
        if (frame := int(moment.position)) != place:
            agains += [now - seen[frame]] if frame in seen else []
            seen[frame], place = now, frame
        before = moment.jump
    sequences = Counter(tuple(taken[start : start + _SEQUENCE]) for start in range(len(taken) - _SEQUENCE + 1))
    return {
        "repeated": sum(count > 1 for count in sequences.values()) / max(1, len(sequences)),
        "seen": len(seen) / len(clip.clip.frames),
        "again_s": median(agains) / clip.clip.fps,
    }


def _summary(found: Mapping[str, Any], ways: Sequence[str]) -> dict[str, Any]:
    summary = {}
    for name in ways:
        ones = [clip["ways"][name] for clip in found.values()]
        reached = sum(map(has_reached, ones))
        medians = {key: median([one[key] for one in ones]) for key in FIGURES}
        summary[name] = {"reached": reached, "clips": len(ones), **medians}
    return summary


def _slice(clip: EndlessClip, renderer: ClipRenderer) -> Frames:
    """Return a row of pixels over ten seconds, uint8 (T, W, 3); jumps are marked at the left."""
    playhead, random = Playhead(clip.jumps, clip.clip.fps), np.random.default_rng(0)
    rows = []
    for draw in random.random(round(10 * clip.clip.fps)):
        moment = playhead.advance(1.0, float(draw), 0.5)
        row = renderer.frame(clip, moment)[clip.clip.frames.shape[1] // 2].copy()
        row[:6] = (255, 0, 0) if moment.jump >= 0 else (0, 0, 0)
        rows.append(row)
    return np.stack(rows)


def _write_slices(path: Path, slices: Sequence[Frames]) -> None:
    from PIL import Image

    height = max(len(one) for one in slices)
    padded = [np.pad(one, ((0, height - len(one)), (0, 8), (0, 0))) for one in slices]
    picture = Image.fromarray(np.concatenate(padded, axis=1))
    write_beside(path, lambda file: picture.save(file, "PNG"))
