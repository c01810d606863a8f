"""The enlarger of painted pictures beside bicubic and Lanczos enlargement, on held-out photographs.

python -m benchmarks enlarging RUN/enlarge.pt --photos PHOTOS ... --lpips lpips.onnx

Crops of the photographs that training held out are damaged as in training
(soft, with dots of noise, a quarter of the size), enlarged, and compared with
what they were. LPIPS decides if it is of another network than the one that
trained the enlarger. Intervals are 95 %, over pictures.

examples:
  python -m benchmarks enlarging runs/mine/enlarge.pt --photos PHOTOS --lpips lpips_vgg.onnx \\
      --sheet sheet.png --ncnn MODELS/realesr-animevideov3-x4
      also beside Real-ESRGAN (needs the package ncnn), with a picture
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.networks import Lpips
from benchmarks.quality.photos import laplacian
from benchmarks.report import BenchmarkReport, progress_bars, write_beside

Pixels = npt.NDArray[np.uint8]
Enlarge = Callable[[Pixels], Pixels]
_SHOWN = 6  # pictures of the sheet
_FIGURES = {"psnr_db": "PSNR, dB", "ssim": "SSIM", "lpips": "LPIPS", "laplacian": "mean Laplacian, of the original's"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("checkpoint", type=Path, metavar="FILE", help="enlarge.pt of a run")
    add("--photos", type=Path, nargs="+", required=True, metavar="DIR", help="the folders that it was trained on")
    add("--lpips", type=Path, metavar="FILE", help="LPIPS as ONNX: img0, img1 -> distance")
    add("--ncnn", type=Path, metavar="NAME", help="another network that enlarges by 4: NAME.param and NAME.bin")
    add("--pictures", type=int, default=48, metavar="N", help="crops (48)")
    add("--side", type=int, default=256, metavar="N", help="of a crop in pixels, a multiple of 4 (256)")
    add("--seed", type=int, default=1, metavar="N", help="of crops and damage (1)")
    add("--sheet", type=Path, metavar="FILE.png", help="write a picture of some crops")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, OSError: an argument or a file cannot be used.
    """
    from training.checkpoint import load_checkpoint
    from training.data.pictures import PairSampler, read_pictures, split_pictures

    if options.side % 4 or options.side < 64 or options.pictures < 4:
        raise ValueError("--side must be a multiple of 4 of at least 64, and --pictures 4 or more")
    lpips = None if options.lpips is None else Lpips(options.lpips)
    methods = _methods(options)
    content = load_checkpoint(options.checkpoint)
    # Split as in training; pictures that are too small for these crops are then left out.
    held = split_pictures(read_pictures(options.photos, int(content["config"]["enlarge"].get("side", options.side))))[1]
    held = [picture for picture in held if min(picture.pixels.shape[:2]) >= options.side]
    if not held:
        raise ValueError(f"no held-out picture has sides of {options.side} pixels: lower --side")
    stored = content.get("held", [])
    if foreign := sorted({picture.name for picture in held} - set(stored)):
        raise ValueError(f"{foreign[0]} was not held out of this training: name the folders that it was trained on")
    small, large = PairSampler(held, options.side, options.seed).batch(0, options.pictures)
    inputs, truths = (_to_pixels(part.numpy()) for part in (small, large))
    made: dict[str, list[Pixels]] = {}
    figures: dict[str, dict[str, Any]] = {}
    with progress_bars() as bars, bars("pictures", len(methods) * len(inputs)) as advance:
        for name, enlarge in methods.items():
            began = time.perf_counter()
            made[name] = []
            for picture in inputs:
                made[name].append(enlarge(picture))
                advance(1)
            ms = 1000 * (time.perf_counter() - began) / len(inputs)
            figures[name] = {**_compare(made[name], truths, lpips, options.seed), "ms": ms}
    if options.sheet is not None:
        _write_sheet(options.sheet, inputs, made, truths)
    result = {
        "benchmark": "enlarging",
        "pictures": options.pictures,
        "side": options.side,
        "held_out": sorted({picture.name for picture in held}),
        "methods": figures,
        "lpips_sha256": None if lpips is None else lpips.sha256,
    }
    return BenchmarkReport("pictures enlarged by 4", _rows(figures), result)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    keys = [key for key in _FIGURES if key in next(iter(result["methods"].values()))]
    lines = [f"| method | {' | '.join(_FIGURES[key] for key in keys)} |", "|---" * (len(keys) + 1) + "|"]
    for name, found in result["methods"].items():
        cells = (f"{found[key]['mean']:.3f} [{found[key]['low']:.3f}, {found[key]['high']:.3f}]" for key in keys)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def ssim(one: Pixels, two: Pixels) -> float:
    """Return the structural similarity of the lumas (Wang et al. 2004, eq. 13; Gaussian windows of 11 pixels)."""
    from scipy.ndimage import gaussian_filter

    weights = np.array([0.299, 0.587, 0.114], np.float32)
    a, b = (picture.astype(np.float32) @ weights for picture in (one, two))

    def mean(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(gaussian_filter(picture, 1.5, truncate=3.5), np.float32)

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, both = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    index = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(index.mean())


def _methods(options: argparse.Namespace) -> dict[str, Enlarge]:
    import torch
    from PIL import Image

    from training.model.enlarger import FACTOR
    from training.stages.enlarge import load_enlarger

    enlarger, _ = load_enlarger(options.checkpoint)

    def ours(picture: Pixels) -> Pixels:
        with torch.no_grad():
            large = enlarger.whole(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
        pixels: Pixels = _to_pixels(large.numpy())[0]
        return pixels

    def resized(how: Image.Resampling) -> Enlarge:
        return lambda picture: np.asarray(
            Image.fromarray(picture).resize((FACTOR * picture.shape[1], FACTOR * picture.shape[0]), how)
        )

    found = {"bicubic": resized(Image.Resampling.BICUBIC), "Lanczos": resized(Image.Resampling.LANCZOS), "ours": ours}
    if options.ncnn is not None:
        found[options.ncnn.name] = ncnn_network(options.ncnn)
    return found


def ncnn_network(name: Path) -> Enlarge:
    """Return an ncnn network, NAME.param and NAME.bin, that enlarges pictures, uint8 (h, w, 3).

    Raises:
        ValueError: the package ncnn is missing, or the files cannot be read.
    """
    try:
        ncnn = import_module("ncnn")
    except ImportError:
        raise ValueError("--ncnn needs the package ncnn: pip install ncnn") from None
    network = ncnn.Net()
    if network.load_param(f"{name}.param") or network.load_model(f"{name}.bin"):
        raise ValueError(f"{name}.param and {name}.bin cannot be read as an ncnn network")

    def enlarge(picture: Pixels) -> Pixels:
        with network.create_extractor() as extractor:
            planes = np.ascontiguousarray(picture.transpose(2, 0, 1), np.float32) / 255
            extractor.input("data", ncnn.Mat(planes))
            _, large = extractor.extract("output")
            pixels: Pixels = _to_pixels(np.array(large)[np.newaxis])[0]
            return pixels

    return enlarge


def _to_pixels(planes: npt.NDArray[np.float32]) -> Pixels:
    """Return pictures (N, 3, H, W) in [0, 1] as uint8 (N, H, W, 3)."""
    return np.clip(np.round(planes.transpose(0, 2, 3, 1) * 255), 0, 255).astype(np.uint8)


def _compare(made: list[Pixels], truths: Pixels, lpips: Lpips | None, seed: int) -> dict[str, Any]:
    from runtime.golden import psnr_db

    values: dict[str, list[float]] = {"psnr_db": [], "ssim": [], "laplacian": []}
    for picture, truth in zip(made, truths, strict=True):
        values["psnr_db"].append(psnr_db(picture, truth))
        values["ssim"].append(ssim(picture, truth))
        values["laplacian"].append(laplacian(picture) / max(laplacian(truth), 1e-6))
    if lpips is not None:
        values["lpips"] = lpips.distance(np.stack(made), truths).tolist()
    random = np.random.default_rng(seed)
    draws = random.integers(0, len(made), (2000, len(made)))
    found = {}
    for name, items in values.items():
        low, high = np.percentile(np.array(items)[draws].mean(axis=1), (2.5, 97.5))
        found[name] = {"mean": float(np.mean(items)), "low": float(low), "high": float(high)}
    return found


def _rows(figures: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    rows = []
    for name, found in figures.items():
        shown = [
            f"{title} {found[key]['mean']:.3f} [{found[key]['low']:.3f}, {found[key]['high']:.3f}]"
            for key, title in _FIGURES.items()
            if key in found
        ]
        rows.append((name, f"{found['ms']:.0f} ms", "; ".join(shown)))
    return rows


def _write_sheet(path: Path, inputs: Pixels, made: Mapping[str, list[Pixels]], truths: Pixels) -> None:
    from PIL import Image

    side = truths.shape[1]
    small = [np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.NEAREST)) for one in inputs[:_SHOWN]]
    rows = [small, *(pictures[:_SHOWN] for pictures in made.values()), list(truths[:_SHOWN])]
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, axis=1) for row in rows]))
    write_beside(path, lambda beside: sheet.save(beside, "PNG"))
