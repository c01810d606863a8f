"""Holes of live video, filled: beside OpenCV's two methods, copying, and a temporal median.

The held-out videos of a training get holes of three kinds: still, moving and
appearing. Figures are of the holes alone; LPIPS of the box around one. All
methods know the frames before, none those that follow. Intervals are 95 %,
over videos.

examples:
  python -m benchmarks fill runs/fill --data real everyday --lpips lpips.onnx \\
      --beside runs/without-memory --sheet sheet.png
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.live_clips import Clip, figure_rows, figures_table, first_frames, with_intervals
from benchmarks.quality.networks import Lpips
from benchmarks.report import BenchmarkReport, progress_bars, write_beside

if TYPE_CHECKING:
    from training.model.fill import Filler

Masks = npt.NDArray[np.uint8]  # (T, H, W), 0 in a hole, else 255
Method = Callable[[Clip, Masks], Clip]
_FIGURES = {"psnr_db": "PSNR, dB", "lpips": "LPIPS", "flicker": "flicker, levels"}
_WARM = 4  # frames that do not count
_EVERY = 3  # frames, from one whose LPIPS is measured to the next
_SHORT = 256  # pixels of the short side
_STEP = 16  # sides are multiples of so many pixels
_RADIUS = 4  # pixels, of OpenCV's methods
_RECENT = 15  # frames of the median
_LEAST_BOX = 64  # pixels of a side whose LPIPS is measured
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
_SHOWN = 5  # videos on the sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("source", type=Path, metavar="RUN", help="folder of the training, or its fill.pt")
    add("--data", type=Path, nargs="+", required=True, metavar="DIR", help="the folders that it was trained on")
    add("--lpips", type=Path, metavar="FILE", help="LPIPS as ONNX: img0, img1 -> distance")
    add("--beside", type=Path, nargs="*", default=[], metavar="RUN", help="other trainings")
    add("--frames", type=int, default=24, metavar="N", help="of a clip (24)")
    add("--clips", type=int, default=0, metavar="N", help="at most so many videos (all)")
    add("--sheet", type=Path, metavar="FILE.png", help="write a picture with some last frames")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, OSError: an argument or a file cannot be used.
    """
    from training.data.holes import KINDS, draw_holes
    from training.stages.fill import load_fill

    if options.frames < _WARM + 4 or options.clips < 0:
        raise ValueError(f"--frames must be {_WARM + 4} or more, and --clips 0 or more")
    _, facts = load_fill(_checkpoint(options.source), 64, 64)
    wanted = [path for folder in options.data for path in sorted(folder.glob("*")) if path.name in facts["held"]]
    clips = {name: _reduced(clip) for name, clip in first_frames(wanted, options.frames, options.clips)}
    if not clips:
        raise ValueError(
            f"none of the held-out videos is in --data with {options.frames} frames or more: name the folders that it "
            "was trained on, or lower --frames"
        )
    lpips = None if options.lpips is None else Lpips(options.lpips)
    values: dict[str, dict[str, list[float]]] = {}
    shown: list[tuple[Clip, dict[str, Clip], Clip]] = []
    names = list(_methods(options, 64, 64))
    with progress_bars() as bars, bars("clips", len(clips) * len(names) * len(KINDS)) as advance:
        for number, real in enumerate(clips.values()):
            methods = _methods(options, real.shape[2], real.shape[1])
            for kind in KINDS:
                masks = draw_holes(
                    kind, len(real), real.shape[1], real.shape[2], np.random.default_rng((number, KINDS.index(kind)))
                )
                seen = real * (masks[..., np.newaxis] > 0)
                made: dict[str, Clip] = {}
                for name, method in methods.items():
                    began_s = time.perf_counter()
                    made[name] = method(seen, masks)
                    took_ms = 1000 * (time.perf_counter() - began_s) / len(real)
                    found = values.setdefault(f"{name}, {kind}", {})
                    for key, value in {**measure(made[name], real, masks, lpips), "ms": took_ms}.items():
                        found.setdefault(key, []).append(value)
                    advance(1)
                if kind == KINDS[number % len(KINDS)]:
                    shown.append((seen[-1], {name: clip[-1] for name, clip in made.items()}, real[-1]))
    figures = with_intervals(values, lambda name: f"copy, {name.rpartition(', ')[2]}", "copy")
    if options.sheet is not None:
        _write_sheet(options.sheet, shown[:_SHOWN])
    result = {
        "benchmark": "fill",
        "videos": {name: f"{clip.shape[2]}x{clip.shape[1]}" for name, clip in clips.items()},
        "frames": options.frames,
        "methods": figures,
        "lpips_sha256": None if lpips is None else lpips.sha256,
    }
    return BenchmarkReport("holes of live video", figure_rows(figures, _FIGURES, "copy"), result)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table; differences to copying are in brackets."""
    return figures_table(result["methods"], _FIGURES, "copy")


def measure(made: Clip, real: Clip, masks: Masks, lpips: Lpips | None) -> dict[str, float]:
    """Return the figures in the holes of a clip (T, H, W, 3) beside the original; other frames do not count."""
    hidden = masks == 0
    late = [number for number in range(_WARM, len(real)) if hidden[number].any()]
    error = (made.astype(np.float32) - real.astype(np.float32)) * hidden[..., np.newaxis]
    means = [float((error[number] ** 2).sum() / (3 * hidden[number].sum())) for number in late]
    pairs = [number for number in late if (hidden[number] & hidden[number - 1]).any()]
    change = [
        float(np.abs((error[number] - error[number - 1]) @ _LUMA)[hidden[number] & hidden[number - 1]].mean())
        for number in pairs
    ]
    found = {
        "psnr_db": float(np.mean(10 * np.log10(255**2 / np.maximum(means, 1e-2)))),
        "flicker": float(np.mean(change)),
    }
    if lpips is not None:
        distances = []
        for number in late[::_EVERY]:
            part = _box(hidden[number])
            distances.append(lpips.distance(made[number][part][np.newaxis], real[number][part][np.newaxis])[0])
        found["lpips"] = float(np.mean(distances))
    return found


def copied(seen: Clip, masks: Masks) -> Clip:
    """Fill holes with what the last frame that saw a place showed there; what was never seen, by Telea's method."""
    last, made = np.zeros_like(seen[0]), []
    hidden: npt.NDArray[np.bool_] = np.ones(masks.shape[1:], np.bool_)
    for frame, mask in zip(seen, masks, strict=True):
        last = np.where(mask[..., np.newaxis] > 0, frame, last)
        hidden[mask > 0] = False
        made.append(_painted_over(last, hidden, "telea"))
    return np.stack(made)


def median(seen: Clip, masks: Masks) -> Clip:
    """Fill holes with the median of the recent frames that saw a place; what was not seen, by Telea's method."""
    made = []
    for number, (frame, mask) in enumerate(zip(seen, masks, strict=True)):
        recent = slice(max(0, number - _RECENT), number + 1)
        there = np.where(masks[recent, ..., np.newaxis] > 0, seen[recent], np.nan)
        known: npt.NDArray[np.bool_] = np.any(masks[recent] > 0, axis=0)
        middle = np.zeros(frame.shape, np.float32)
        middle[known] = np.nanmedian(there[:, known], axis=0)
        whole = np.where(mask[..., np.newaxis] > 0, frame, np.rint(middle).astype(np.uint8))
        made.append(_painted_over(whole, ~known, "telea"))
    return np.stack(made)


def _painted_over(frame: npt.NDArray[np.uint8], hidden: npt.NDArray[np.bool_], how: str) -> npt.NDArray[np.uint8]:
    import cv2

    method = {"telea": cv2.INPAINT_TELEA, "navier-stokes": cv2.INPAINT_NS}[how]
    filled: npt.NDArray[np.uint8] = cv2.inpaint(frame, hidden.astype(np.uint8), _RADIUS, method)
    return filled


def _checkpoint(run: Path) -> Path:
    from training.stages.live_network import checkpoint_of

    return checkpoint_of(run, "fill")


def _methods(options: argparse.Namespace, width: int, height: int) -> dict[str, Method]:
    from training.stages.fill import load_fill

    def each(how: str) -> Method:
        return lambda seen, masks: np.stack(
            [_painted_over(frame, mask == 0, how) for frame, mask in zip(seen, masks, strict=True)]
        )

    found: dict[str, Method] = {"Telea": each("telea"), "Navier-Stokes": each("navier-stokes")}
    found |= {"copy": copied, "median": median}
    own, _ = load_fill(_checkpoint(options.source), width, height)
    found["ours"] = _player(own, 1.0)
    if own.remembers:
        found["ours, memory 0"] = _player(own, 0.0)
    smooth = type(own)(height, width, remembers=own.remembers, paints=False)
    found["ours, nothing painted"] = _player(smooth, 1.0)
    for other in options.beside:
        name = _checkpoint(other).resolve().parent.name
        if name in found:
            raise ValueError(f"--beside {other} would be another {name!r}: name its folder differently")
        found[name] = _player(load_fill(_checkpoint(other), width, height)[0], 1.0)
    return found


def _player(network: Filler, memory: float) -> Method:
    import torch

    def play(seen: Clip, masks: Masks) -> Clip:
        state, made = network.initial_state(1), []
        with torch.no_grad():
            for frame, mask in zip(seen, masks, strict=True):
                picture = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
                where = torch.from_numpy(mask)[None, None].float() / 255
                filled = network(picture, where, state, torch.tensor([[memory]]))
                state = filled.state
                made.append((filled.frame[0].permute(1, 2, 0) * 255).round().byte().numpy())
        return np.stack(made)

    return play


def _reduced(clip: Clip) -> Clip:
    """Return a clip whose short side has `_SHORT` pixels or fewer."""
    import cv2

    scale = min(1.0, _SHORT / min(clip.shape[1:3]))
    height, width = (round(side * scale) // _STEP * _STEP for side in clip.shape[1:3])
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in clip])


def _box(hidden: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the box around a hole, with a margin of a quarter and at least `_LEAST_BOX` pixels a side."""
    found = []
    for axis, length in ((1, hidden.shape[0]), (0, hidden.shape[1])):
        places = np.flatnonzero(hidden.any(axis=axis))
        low, high = int(places[0]), int(places[-1]) + 1
        side = min(length, max(_LEAST_BOX, (high - low) * 3 // 2))
        first = min(max(0, (low + high - side) // 2), length - side)
        found.append(slice(first, first + side))
    return found[0], found[1]


def _write_sheet(path: Path, shown: Sequence[tuple[Clip, dict[str, Clip], Clip]]) -> None:
    """Write last frames: a row for each video; what was seen, each method, and the original."""
    from PIL import Image

    height, width = (min(real.shape[axis] for _, _, real in shown) for axis in (0, 1))
    rows = [
        np.concatenate([frame[:height, :width] for frame in (seen, *made.values(), real)], axis=1)
        for seen, made, real in shown
    ]
    sheet = Image.fromarray(np.concatenate(rows))
    write_beside(path, lambda beside: sheet.save(beside, "PNG"))
