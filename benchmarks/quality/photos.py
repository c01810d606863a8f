"""Photographs on air: the first frame, the detail of later ones, and what must stand still.

python -m benchmarks photos bundles/landscape --areas examples/photo-areas.toml --photos DIR

Animates each photograph of a TOML file, at its own shape, with a mask of what
may move and without one. The file names areas that must move and areas that
must not, in fractions of the photograph:

  [[photo]]
  file = "lake.jpg"
  moving = [[[0, 0.76], [1, 0.76], [1, 1], [0, 1]]]
  still = [[[0.2, 0.3], [0.8, 0.3], [0.5, 0.6]]]

Motion is the mean absolute difference to the first frame, in levels of 255.

examples:
  python -m benchmarks photos bundles/landscape --areas examples/photo-areas.toml \\
      --photos DIR --sheet sheet.png
      also a picture: first and last frame, and four times their difference
      with the mask and without
  python -m benchmarks photos bundles/landscape --areas examples/photo-areas.toml \\
      --photos DIR --network bundles/areas
      without a mask, a network says what may move
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import BenchmarkReport, progress_bars, write_beside
from export.areas import are_areas, filled
from runtime.generator import Generator
from runtime.golden import psnr_db
from runtime.prompts.images import load_image

Pixels = npt.NDArray[np.uint8]
_EVERY = 10  # frames between those that are looked at
_SHEET_WIDTH = 320


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle of schema 2")
    add("--areas", type=Path, required=True, metavar="FILE.toml", help="photographs and their areas")
    add("--photos", type=Path, metavar="DIR", help="folder of the photographs (default: that of FILE.toml)")
    add("--network", type=Path, metavar="BUNDLE", help="says what may move where no mask is given, e.g. bundles/areas")
    add("--width", type=int, default=1280, metavar="N", help="of frames in pixels (1280)")
    add("--frames", type=int, default=150, metavar="N", help="of each show (150)")
    add("--seed", type=int, default=3, metavar="N", help="of the shows (3)")
    add("--engine", default="auto", metavar="E", help="see `latency` (auto)")
    add("--precision", default="auto", metavar="P", help="see `latency` (auto)")
    add("--sheet", type=Path, metavar="FILE.png", help="write a picture of the frames")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError, OSError: an argument, a file or the bundle cannot be used.
    """
    if options.width < 64 or options.frames < 2 * _EVERY:
        raise ValueError(f"--width must be 64 or more and --frames {2 * _EVERY} or more")
    entries = read_areas(options.areas)
    folder = options.photos or options.areas.parent
    found: dict[str, dict[str, Any]] = {}
    rows: list[Pixels] = []
    with progress_bars() as bars, bars("photographs", len(entries)) as advance:
        for entry in entries:
            figures, pictures = _measure(folder / entry["file"], entry, options)
            found[entry["file"]] = figures
            rows.append(np.concatenate(pictures, axis=1))
            advance(1)
    if options.sheet is not None:
        from PIL import Image

        sheet = Image.fromarray(np.concatenate(rows))
        write_beside(options.sheet, lambda beside: sheet.save(beside, "PNG"))
    result = {
        "benchmark": "photos",
        "bundle": options.bundle.name,
        "network": None if options.network is None else options.network.name,
        "width": options.width,
        "frames": options.frames,
        "seed": options.seed,
        "photos": found,
    }
    return BenchmarkReport(f"photographs animated by {options.bundle.name}", _rows(found), result)


def read_areas(file: Path) -> list[dict[str, Any]]:
    """Read the photographs and their areas.

    Raises:
        ValueError: the file cannot be read, or an entry is wrong.
    """
    try:
        entries = tomllib.loads(file.read_text(encoding="utf-8")).get("photo", [])
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as TOML: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{file} needs a file per [[photo]] table, got {entries!r:.40}")
    for entry in entries:
        is_whole = isinstance(entry.get("file"), str) and all(
            entry.get(key) and are_areas(entry[key]) for key in ("moving", "still")
        )
        if not is_whole:
            raise ValueError(f"{file}: each [[photo]] needs a file, and polygons moving and still; got {entry!r:.80}")
    if not entries:
        raise ValueError(f"{file} has no [[photo]] tables: see python -m benchmarks photos --help")
    return list(entries)


def laplacian(picture: Pixels) -> float:
    """Return the mean absolute Laplacian of a picture's luma, a measure of its finest detail."""
    luma = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(np.abs(around - 4 * luma[1:-1, 1:-1]).mean())


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    head = (
        "| photograph | frame 1, dB | mean Laplacian of later frames, of the photograph's | motion where it must move, "
        "levels | where it must not | ratio | ratio without a mask |"
    )
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, one in result["photos"].items():
        first = "every value equal" if one["first_db"] is None else f"{one['first_db']:.1f}"
        low, high = one["laplacian"]
        with_mask, without = one["with_mask"], one["without_mask"]
        motion = f"{with_mask['moving']:.2f} | {with_mask['still']:.3f} | {with_mask['ratio']:.3f}"
        lines.append(f"| {Path(name).stem} | {first} | {low:.2f} to {high:.2f} | {motion} | {without['ratio']:.2f} |")
    return "\n".join(lines) + "\n"


def _measure(path: Path, entry: Mapping[str, Any], options: argparse.Namespace) -> tuple[dict[str, Any], list[Pixels]]:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as picture:
            turned = ImageOps.exif_transpose(picture)
            aspect = turned.height / turned.width
    except OSError as error:
        raise ValueError(f"{path} is no picture that can be read: {error}") from error
    width, height = options.width // 2 * 2, round(options.width * aspect / 2) * 2
    photograph = load_image(path, width, height)
    moving, still = (filled(entry[key], width, height) for key in ("moving", "still"))
    found: dict[str, Any] = {}
    frames: dict[str, list[Pixels]] = {}
    with Generator.open(
        options.bundle,
        size=(width, height),
        engine=options.engine,
        precision=options.precision,
        seed=options.seed,
        areas=options.network,
    ) as generator:
        for name, mask in (("with_mask", moving), ("without_mask", None)):
            generator.reset()
            generator.condition(image=photograph, moving=mask)
            shown = [
                frame.copy() for index, frame in enumerate(islice(generator, options.frames)) if index % _EVERY == 0
            ]
            frames[name] = shown
            change = np.mean([np.abs(frame.astype(np.int16) - shown[0]).mean(axis=2) for frame in shown[1:]], axis=0)
            motions = {area: float(change[where > 0].mean()) for area, where in (("moving", moving), ("still", still))}
            found[name] = {**motions, "ratio": motions["still"] / max(motions["moving"], 1e-9)}
    shown = frames["with_mask"]
    first_db = psnr_db(shown[0], photograph)
    found["first_db"] = None if np.isinf(first_db) else first_db
    kept = [laplacian(frame) / laplacian(photograph) for frame in shown[1:]]
    found["laplacian"] = [min(kept), max(kept)]
    found["laplacian_mean"] = float(np.mean(kept))
    differences = [
        np.clip(4 * np.abs(some[-1].astype(np.int16) - some[0]), 0, 255).astype(np.uint8) for some in frames.values()
    ]
    small = (_SHEET_WIDTH, round(_SHEET_WIDTH * height / width))
    pictures = [np.asarray(Image.fromarray(part).resize(small)) for part in (shown[0], shown[-1], *differences)]
    return found, pictures


def _rows(found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    rows = []
    for name, one in found.items():
        motion = one["with_mask"]
        first = "equal" if one["first_db"] is None else f"{one['first_db']:.1f} dB"
        what = f"first frame {first}; Laplacian {one['laplacian'][0]:.2f} to {one['laplacian'][1]:.2f}; "
        what += f"motion {motion['moving']:.2f} and {motion['still']:.3f} levels; "
        without = one["without_mask"]
        what += f"without a mask {without['moving']:.2f} and {without['still']:.3f}, ratio {without['ratio']:.2f}"
        rows.append((Path(name).stem, f"{motion['ratio']:.3f}", what))
    for name in ("with_mask", "without_mask"):
        ratios = [one[name]["ratio"] for one in found.values()]
        what = f"largest {max(ratios):.3f}, median {np.median(ratios):.3f} of {len(ratios)} photographs"
        rows.append((f"must not / must move, {name.replace('_', ' ')}", f"{np.mean(ratios):.3f}", what))
    return rows
