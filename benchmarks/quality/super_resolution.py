"""Live video at twice the size beside bicubic and Lanczos enlargement, on held-out clips.

python -m benchmarks super-resolution RUN --data FOLDER ... --lpips lpips.onnx

Clips of the videos that training held out are reduced to half (averages of 2 x
2 pixels) and enlarged again, as they are ("clean") and after H.264 as a live
stream has it ("stream", quality 28 of x264). Each clip starts from zeros; the
first frames do not count. Flicker is the mean difference between the change
from frame to frame and that of the original, in levels. Intervals are 95 %,
over videos. PSNR, SSIM and flicker are of brightness.

examples:
  python -m benchmarks super-resolution runs/enlarge --data real everyday --lpips lpips.onnx \\
      --beside runs/without-critic --sheet sheet.png --ncnn MODELS/realesr-animevideov3-x2
      also beside another training and Real-ESRGAN (package ncnn), with a picture
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.quality.enlarging import ncnn_network, ssim
from benchmarks.quality.live_clips import Clip, figure_rows, figures_table, first_frames, with_intervals
from benchmarks.quality.networks import Lpips
from benchmarks.report import BenchmarkReport, progress_bars, write_beside

if TYPE_CHECKING:
    from training.model.super_resolution import SuperResolver

Method = Callable[[Clip], Clip]
_FIGURES = {"psnr_db": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS", "flicker": "flicker, levels"}
_QUALITY = 28  # of x264's scale
_CONDITIONS = ("clean", "stream")
_WARM = 4  # frames that do not count
_EVERY = 4  # frames, from one whose SSIM and LPIPS are measured to the next
_SHOWN = (4, 160)  # crops of the sheet, and their side
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("source", type=Path, metavar="RUN", help="folder of the training, or its super_resolution.pt")
    add("--data", type=Path, nargs="+", required=True, metavar="DIR", help="the folders that it was trained on")
    add("--lpips", type=Path, metavar="FILE", help="LPIPS as ONNX: img0, img1 -> distance")
    add("--beside", type=Path, nargs="*", default=[], metavar="RUN", help="other trainings")
    add("--ncnn", type=Path, metavar="NAME", help="another network that enlarges by 2: NAME.param and NAME.bin")
    add("--frames", type=int, default=20, metavar="N", help="of a clip (20)")
    add("--clips", type=int, default=0, metavar="N", help="at most so many videos (all)")
    add("--sheet", type=Path, metavar="FILE.png", help="write a picture with crops of some last frames")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, OSError: an argument or a file cannot be used.
    """
    from training.data.live_clips import through_h264
    from training.stages.super_resolution import load_super_resolution

    if options.frames < _WARM + 2 or options.clips < 0:
        raise ValueError(f"--frames must be {_WARM + 2} or more, and --clips 0 or more")
    _, facts = load_super_resolution(_checkpoint(options.source), 64, 64)
    wanted = [path for folder in options.data for path in sorted(folder.glob("*")) if path.name in facts["held"]]
    clips = dict(first_frames(wanted, options.frames, options.clips))
    if not clips:
        raise ValueError(
            f"none of the held-out videos is in --data with {options.frames} frames or more: name the folders that it "
            "was trained on, or lower --frames"
        )
    lpips = None if options.lpips is None else Lpips(options.lpips)
    values: dict[str, dict[str, list[float]]] = {}
    shown: list[tuple[Clip, dict[str, Clip], Clip]] = []
    names = list(_methods(options, 64, 64))
    with progress_bars() as bars, bars("clips", len(clips) * len(names) * len(_CONDITIONS)) as advance:
        for large in clips.values():
            methods = _methods(options, large.shape[2] // 2, large.shape[1] // 2)
            for condition in _CONDITIONS:
                small = _halved(large)
                if condition == "stream":
                    small = through_h264(small, _QUALITY)
                made: dict[str, Clip] = {}
                for name, method in methods.items():
                    began_s = time.perf_counter()
                    made[name] = method(small)
                    took_ms = 1000 * (time.perf_counter() - began_s) / len(small)
                    found = values.setdefault(f"{name}, {condition}", {})
                    for key, value in {**measure(made[name], large, lpips), "ms": took_ms}.items():
                        found.setdefault(key, []).append(value)
                    advance(1)
                if condition == "stream":
                    shown.append((small[-1], {name: clip[-1] for name, clip in made.items()}, large[-1]))
    figures = with_intervals(values, lambda name: f"bicubic, {name.rpartition(', ')[2]}", "bicubic")
    if options.sheet is not None:
        _write_sheet(options.sheet, shown[: _SHOWN[0]])
    result = {
        "benchmark": "super-resolution",
        "videos": {name: f"{clip.shape[2]}x{clip.shape[1]}" for name, clip in clips.items()},
        "frames": options.frames,
        "methods": figures,
        "lpips_sha256": None if lpips is None else lpips.sha256,
    }
    return BenchmarkReport("live video at twice the size", figure_rows(figures, _FIGURES, "bicubic"), result)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table; differences to bicubic enlargement are in brackets."""
    return figures_table(result["methods"], _FIGURES, "bicubic")


def measure(made: Clip, real: Clip, lpips: Lpips | None) -> dict[str, float]:
    """Return the figures of a clip (T, H, W, 3) beside the original."""
    one, two = ((clip[_WARM:].astype(np.float32) @ _LUMA) for clip in (made, real))
    error = one - two
    some = slice(_WARM, None, _EVERY)
    found = {
        "psnr_db": float(np.mean(10 * np.log10(255**2 / np.maximum((error**2).mean(axis=(1, 2)), 1e-4)))),
        "ssim": float(np.mean([ssim(*pair) for pair in zip(made[some], real[some], strict=True)])),
        "flicker": float(np.abs(np.diff(error, axis=0)).mean()),
    }
    if lpips is not None:
        pairs = zip(made[some], real[some], strict=True)
        found["lpips"] = float(np.mean([lpips.distance(a[np.newaxis], b[np.newaxis])[0] for a, b in pairs]))
    return found


def _checkpoint(run: Path) -> Path:
    from training.stages.live_network import checkpoint_of

    return checkpoint_of(run, "super_resolution")


def _methods(options: argparse.Namespace, width: int, height: int) -> dict[str, Method]:
    import cv2

    from training.stages.super_resolution import load_super_resolution

    def resized(how: int) -> Method:
        return lambda clip: np.stack([cv2.resize(frame, (2 * width, 2 * height), interpolation=how) for frame in clip])

    found: dict[str, Method] = {"bicubic": resized(cv2.INTER_CUBIC), "Lanczos": resized(cv2.INTER_LANCZOS4)}
    own, _ = load_super_resolution(_checkpoint(options.source), width, height)
    found["ours"] = _player(own, 1.0)
    if own.remembers:
        found["ours, memory 0"] = _player(own, 0.0)
    for other in options.beside:
        name = _checkpoint(other).resolve().parent.name
        if name in found:
            raise ValueError(f"--beside {other} would be another {name!r}: name its folder differently")
        found[name] = _player(load_super_resolution(_checkpoint(other), width, height)[0], 1.0)
    if options.ncnn is not None:
        enlarge = ncnn_network(options.ncnn)
        found[options.ncnn.name] = lambda clip: np.stack([enlarge(frame) for frame in clip])
    return found


def _player(network: SuperResolver, memory: float) -> Method:
    import torch

    def play(clip: Clip) -> Clip:
        state, made = network.initial_state(1), []
        controls = torch.tensor([[1.0, 0.0, memory]])
        with torch.no_grad():
            for frame in clip:
                small = torch.from_numpy(frame).permute(2, 0, 1)[None].float() / 255
                large, state = network(small, state, controls)
                made.append((large[0].permute(1, 2, 0) * 255).round().byte().numpy())
        return np.stack(made)

    return play


def _halved(clip: Clip) -> Clip:
    total = clip.reshape(len(clip), clip.shape[1] // 2, 2, clip.shape[2] // 2, 2, 3).astype(np.uint16).sum(axis=(2, 4))
    halved: Clip = ((total + 2) // 4).astype(np.uint8)
    return halved


def _write_sheet(path: Path, shown: Sequence[tuple[Clip, dict[str, Clip], Clip]]) -> None:
    """Write crops with much detail: a row for the small frame, each method and the original."""
    from PIL import Image

    side, columns = min(_SHOWN[1], *(min(real.shape[:2]) for _, _, real in shown), _SHOWN[1]), []
    for small, made, real in shown:
        height, width = real.shape[0] // side, real.shape[1] // side
        cells = real[: height * side, : width * side].reshape(height, side, width, side, 3).astype(np.float32)
        spread = np.abs(np.diff(cells, axis=1)).mean(axis=(1, 3, 4))
        row, column = np.unravel_index(int(spread.argmax()), spread.shape)
        part = slice(row * side, (row + 1) * side), slice(column * side, (column + 1) * side)
        whole = np.repeat(np.repeat(small, 2, axis=0), 2, axis=1)
        columns.append(np.concatenate([frame[part] for frame in (whole, *made.values(), real)]))
    sheet = Image.fromarray(np.concatenate(columns, axis=1))
    write_beside(path, lambda beside: sheet.save(beside, "PNG"))
