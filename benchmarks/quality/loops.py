"""Endless clips: how many jumps they have, and how visible these are, beside other loops.

python -m benchmarks clips CLIP ... --lpips lpips.onnx

At each seam two figures are compared with those of ordinary consecutive frames
of the same clip (their 95th percentile is 1): LPIPS from frame to frame, and
the flow jump, the mean change of the optical flow from one pair of frames to
the next. The worst frame of a seam counts. "Reached" is at most 1.25 in both.
Detail is the mean Laplacian in the middle of a seam, of that of its ends.
Ghost is the least LPIPS of the frame in the middle to any frame of the clip, in
the same unit: it is large where two pictures are seen through each other.

The ways to go on for ever: the endless clip (with jumps, or with one long
dissolve where no two moments look alike); raw-pixel video textures (Schoedl et
al. 2000), which cut; a hard loop; a loop whose last second fades into its
first; there and back.

examples:
  python -m benchmarks clips waterfall.mp4 fire.mp4 --lpips lpips_alexnet.onnx
  python -m benchmarks clips CLIPS/*.mp4 --lpips lpips_alexnet.onnx --slices slices.png
      also a picture: a row of pixels over ten seconds of each clip
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.clip_loops import NAMES, ClipRenderer, Loop, make_loops
from benchmarks.quality.networks import Lpips
from benchmarks.quality.photos import laplacian
from benchmarks.report import BenchmarkReport, progress_bars, write_beside
from runtime.clips.clip_frames import ClipFrames, read_clip
from runtime.clips.endless import EndlessClip, make_endless
from runtime.clips.playhead import Playhead

Frames = npt.NDArray[np.uint8]
WANTED = 1.25  # times the 95th percentile of ordinary frames
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
    lpips, slices = Lpips(options.lpips), []
    found: dict[str, Any] = {}
    with progress_bars() as bars, bars("clips", len(options.clips)) as advance:
        for path in options.clips:
            clip = read_clip(path, *_sizes(path, options.width), fps=60.0)
            height, width = clip.frames.shape[1:3]
            with ClipRenderer((width, height), (width, height)) as renderer:
                loops = make_loops(clip, renderer, ways, options.seams)
                ours = make_endless(clip)
                found[path.name] = _measured(clip, ours, loops, lpips)
                if options.slices is not None:
                    slices.append(_slice(ours, renderer))
            advance(1)
    if options.slices is not None:
        _write_slices(options.slices, slices)
    result: dict[str, Any] = {"benchmark": "clips", "wanted": WANTED, "clips": found, "ways": _summary(found, ways)}
    rows = [
        (NAMES[name], f"{one['reached']} of {one['clips']}", f"LPIPS {one['lpips']:.2f}, flow {one['flow']:.2f}, "
         f"detail {one['detail']:.2f}, ghost {one['ghost']:.2f}")
        for name, one in result["ways"].items()
    ]  # fmt: skip
    with_jumps = sum(one["jumps"] > 1 or one["is_seamless"] for one in found.values())
    rows.insert(0, ("clips with jumps", f"{with_jumps} of {len(found)}", ""))
    return BenchmarkReport("endless clips", rows, result)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as Markdown tables."""
    lines = [
        "| clip | s | jumps | LPIPS at seams | flow jump | detail | ghost | 5-jump sequences that occur twice |",
        "|---|" + "---|" * 7,
    ]
    for name, one in result["clips"].items():
        ours = one["ways"]["ours"]
        jumps = one["jumps"] if one["is_seamless"] else "dissolves"
        values = [ours[key] for key in ("lpips", "flow", "detail", "ghost")] + [one["repeated"]]
        figures = " | ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {one['seconds']:.1f} | {jumps} | {figures} |")
    lines += ["", "| way | reached | LPIPS at seams | flow jump | detail | ghost |", "|---|---|---|---|---|---|"]
    for name, one in result["ways"].items():
        lines.append(
            f"| {NAMES[name]} | {one['reached']} of {one['clips']} | {one['lpips']:.2f} | {one['flow']:.2f} "
            f"| {one['detail']:.2f} | {one['ghost']:.2f} |"
        )
    return "\n".join(lines)


def _sizes(path: Path, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    from runtime.prompts.clips import open_video

    with open_video(path) as container:
        stream = container.streams.video[0].codec_context
        height = max(32, round(width * stream.height / stream.width / 32) * 32)
    return (width, height), (width, height)


def _measured(clip: ClipFrames, ours: EndlessClip, loops: Mapping[str, Loop], lpips: Lpips) -> dict[str, Any]:
    flows = [_flow(one, two) for one, two in pairwise(clip.small)]
    jumps = [float(np.abs(two - one).mean()) for one, two in pairwise(flows)]
    ordinary_flow = max(1e-6, float(np.percentile(jumps, 95)))
    numbers = np.unique(np.linspace(0, len(clip.frames) - 2, min(60, len(clip.frames) - 1)).round().astype(int))
    steps = [_lpips(lpips, clip.frames[number : number + 2])[0] for number in numbers]
    ordinary = max(1e-6, float(np.percentile(steps, 95)))
    ways = {}
    for name, loop in loops.items():
        worst, jolts, details, ghosts = [], [], [], []
        for seam in loop.seams:
            worst.append(max(_lpips(lpips, seam)) / ordinary)
            moved = [_flow(one, two) for one, two in pairwise(seam)]
            jolts.append(max(float(np.abs(two - one).mean()) for one, two in pairwise(moved)))
            ends = 0.5 * (laplacian(seam[0]) + laplacian(seam[-1]))
            middle = seam[len(seam) // 2]
            details.append(laplacian(middle) / max(1e-6, ends))
            ghosts.append(_nearest(lpips, middle, clip.frames) / ordinary)
        figures = {"lpips": _median(worst), "flow": _median(jolts) / ordinary_flow, "detail": _median(details)}
        figures["ghost"] = _median(ghosts)
        ways[name] = {**figures, "is_seamless": loop.is_seamless, "seams": len(loop.seams)}
    return {
        "seconds": len(clip.frames) / clip.fps,
        "jumps": len(ours.jumps),
        "is_seamless": ours.is_seamless,
        "cost": _median([jump.cost for jump in ours.jumps]),
        "repeated": _repeated(ours),
        "ordinary_lpips": ordinary,
        "ways": ways,
    }


def _median(values: Sequence[float]) -> float:
    return float(np.median(values))


def _lpips(lpips: Lpips, frames: Frames) -> list[float]:
    return [float(value) for value in lpips.distance(frames[:-1], frames[1:])]


def _nearest(lpips: Lpips, picture: Frames, frames: Frames) -> float:
    """Return the least LPIPS of a picture to one of the frames whose pixels are closest to its own."""
    differences = [float(np.abs(frame[::4, ::4].astype(np.int16) - picture[::4, ::4]).mean()) for frame in frames]
    closest = np.argsort(differences)[:4]
    return float(lpips.distance(np.stack([picture] * len(closest)), frames[closest]).min())


def _flow(one: Frames, two: Frames) -> npt.NDArray[np.float32]:
    """Return the flow between two frames at half of their size, float32 (h, w, 2), in its own pixels."""
    import cv2

    small = [cv2.cvtColor(cv2.resize(frame, None, fx=0.5, fy=0.5), cv2.COLOR_RGB2GRAY) for frame in (one, two)]
    method: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow: npt.NDArray[np.float32] = method.calc(*small, None)
    return flow


def _repeated(clip: EndlessClip) -> float:
    """Return the share of sequences of jumps that occur twice in ten minutes."""
    playhead, random = Playhead(clip.jumps, clip.clip.fps), np.random.default_rng(0)
    taken: list[int] = []
    before = -1
    for draw in random.random(round(_MINUTES * 60 * clip.clip.fps)):
        jump = playhead.advance(1.0, float(draw), 0.5).jump
        if jump >= 0 and jump != before:
            taken.append(jump)
        before = jump
    sequences = Counter(tuple(taken[start : start + _SEQUENCE]) for start in range(len(taken) - _SEQUENCE + 1))
    return sum(count > 1 for count in sequences.values()) / max(1, len(sequences))


def _summary(found: Mapping[str, Any], ways: Sequence[str]) -> dict[str, Any]:
    summary = {}
    for name in ways:
        ones = [clip["ways"][name] for clip in found.values()]
        reached = sum(one["lpips"] <= WANTED and one["flow"] <= WANTED for one in ones)
        medians = {key: _median([one[key] for one in ones]) for key in ("lpips", "flow", "detail", "ghost")}
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
