"""How well a matte cuts people out, as it is used and merely enlarged, beside known mattes.

python -m benchmarks matte bundles/person --clips DIR

DIR holds NAME.mp4, and alpha/NAME_alpha.mp4 of the same size and length: grey,
white where the person is. Every clip is played through `Composite`, over black
and over white, which gives the matte as it is used ("refined": smoothed in time,
with an edge of its own); beside it the bundle's own frame, enlarged bilinearly,
and the refined matte with one part left out, computed with NumPy:
smoothing in time, the edge's ramp, or bilinear instead of nearest enlargement.
A part's gain has an interval over clips. Figures are means over frames:

  difference   mean absolute difference to the known matte, x 1000
  at edges     the same within 8 pixels of the known matte's edge, x 1000
  flicker      mean absolute difference of the changes from frame to frame, x 1000

examples:
  python -m benchmarks matte bundles/person --clips DIR --sheet sheet.png
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.distances import bootstrap_mean
from benchmarks.quality.matte_parts import PARTS, PartialMatte
from benchmarks.report import BenchmarkReport, progress_bars, write_beside
from runtime.compositing.composite import Composite
from runtime.generator import Generator

Pixels = npt.NDArray[np.uint8]
Alpha = npt.NDArray[np.float32]
EDGE = 8  # pixels from the known matte's edge
_SHEET_HEIGHT = 288
_SCALE = np.float32(1 / 255)
_FIGURES = ("difference", "at edges", "flicker")
_WITHOUT = {f"without {part}": part for part in PARTS}
_KINDS = ("enlarged", "refined", *_WITHOUT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of a matte bundle")
    add("--clips", type=Path, required=True, metavar="DIR", help="clips, and their mattes in DIR/alpha")
    add("--frames", type=int, default=75, metavar="N", help="of each clip (75)")
    add("--feather", type=float, metavar="F", help="control matte.feather (its default)")
    add("--noise", type=float, default=0.0, metavar="D", help="noise of a dim camera: its deviation, of 255 (0)")
    add("--engine", default="auto", metavar="E", help="see `latency` (auto)")
    add("--sheet", type=Path, metavar="FILE.png", help="write a picture: frame, raw matte, refined matte, known matte")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, BundleError, EngineError, OSError: an argument, a file or the bundle cannot be used.
    """
    if not 0 <= options.noise <= 100:
        raise ValueError(f"--noise is {options.noise:g}, expected 0 to 100")
    if options.frames < 2:
        raise ValueError(f"--frames is {options.frames}, expected 2 or more")
    known = sorted((options.clips / "alpha").glob("*_alpha.mp4"))
    pairs = [(options.clips / f"{path.stem.removesuffix('_alpha')}.mp4", path) for path in known]
    if not pairs:
        raise ValueError(f"{options.clips}/alpha has no file NAME_alpha.mp4: name a folder with clips and their mattes")
    found: dict[str, dict[str, dict[str, float]]] = {}
    rows: list[Pixels] = []
    with progress_bars() as bars, bars("clips", len(pairs)) as advance:
        for clip, matte in pairs:
            figures, row = _measure(clip, matte, options)
            found[clip.stem] = figures
            rows.append(row)
            advance(1)
    if options.sheet is not None:
        from PIL import Image

        width = max(row.shape[1] for row in rows)
        padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        sheet = Image.fromarray(np.concatenate(padded))
        write_beside(options.sheet, lambda beside: sheet.save(beside, "PNG"))
    means = {
        kind: {name: float(np.mean([one[kind][name] for one in found.values()])) for name in _FIGURES}
        for kind in _KINDS
    }
    result = {
        "benchmark": "matte",
        "bundle": options.bundle.name,
        "frames": options.frames,
        "noise": options.noise,
        "clips": found,
        "means": means,
        "gains": {part: _gains(kind, found) for kind, part in _WITHOUT.items()},
    }
    return BenchmarkReport(f"mattes of {options.bundle.name}", _rows(found, means, result["gains"]), result)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures as a Markdown table."""
    heads = " | ".join(f"{name}, enlarged and refined" for name in _FIGURES)
    lines = [f"| clip | {heads} |", "|---" * (len(_FIGURES) + 1) + "|"]
    for clip, one in [*result["clips"].items(), ("mean", result["means"])]:
        cells = (f"{one['enlarged'][name]:.1f} and {one['refined'][name]:.1f}" for name in _FIGURES)
        lines.append(f"| {clip} | {' | '.join(cells)} |")
    lines += ["", f"| what a part takes away | {' | '.join(_FIGURES)} |", "|---" * (len(_FIGURES) + 1) + "|"]
    for part, one in result["gains"].items():
        lines.append(f"| {part} | {' | '.join(_gain(one[name]) for name in _FIGURES)} |")
    return "\n".join(lines) + "\n"


def difference(made: Alpha, known: Alpha, edge: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the mean absolute difference of two mattes (H, W), everywhere and where `edge` is True, x 1000."""
    error = np.abs(made - known)
    return 1000 * float(error.mean()), 1000 * float(error[edge].mean()) if edge.any() else 0.0


def edge_of(known: Alpha) -> npt.NDArray[np.bool_]:
    """Return which pixels are at most `EDGE` pixels from the edge of a matte (H, W), in a square sense."""
    from scipy.ndimage import maximum_filter, minimum_filter

    is_person = known > 0.5
    size = 2 * EDGE + 1
    return np.asarray(maximum_filter(is_person, size) != minimum_filter(is_person, size))


def _measure(clip: Path, matte: Path, options: argparse.Namespace) -> tuple[dict[str, dict[str, float]], Pixels]:
    from PIL import Image

    frames = _frames(clip)
    first = next(_frames(clip), None)
    if first is None:
        raise ValueError(f"{clip} has no picture: replace it")
    height, width = first.shape[:2]
    width, height = width // 2 * 2, height // 2 * 2
    values: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in _FIGURES} for kind in _KINDS}
    partial = {kind: PartialMatte(part, width, height, options.feather) for kind, part in _WITHOUT.items()}
    random = np.random.default_rng(0)
    before: dict[str, Alpha] = {}
    shown: list[Pixels] = []
    opened = {"engine": options.engine, "pixels": "rgb"}
    black, white = (np.full((height, width, 3), level, np.uint8) for level in (0, 255))
    with (
        Composite.open(options.bundle, width, height, **opened) as over_black,
        Composite.open(options.bundle, width, height, **opened) as over_white,
        Generator.open(options.bundle, engine=options.engine, precision="fp32") as raw,
    ):
        for composite in (over_black, over_white):
            if options.feather is not None:
                composite.set_control("matte.feather", options.feather)
        for number, (frame, mask) in enumerate(zip(frames, _frames(matte), strict=False)):
            if number == options.frames:
                break
            picture, known = frame[:height, :width], mask[:height, :width, 0].astype(np.float32) * _SCALE
            if options.noise:
                noisy = picture + random.normal(0, options.noise, picture.shape)
                picture = noisy.round().clip(0, 255).astype(np.uint8)
            over_black.feed_live(picture)
            over_white.feed_live(picture)
            raw.feed_live(np.asarray(Image.fromarray(picture).resize((raw.width, raw.height), Image.Resampling.BOX)))
            change = over_white.over(white).astype(np.float32) - over_black.over(black)
            matte_now = np.ascontiguousarray(next(raw)[..., 0])
            small = Image.fromarray(matte_now)
            made: dict[str, Alpha] = {
                "refined": (1 - change.mean(axis=2) / 255).astype(np.float32),
                "enlarged": np.asarray(small.resize((width, height), Image.Resampling.BILINEAR), np.float32) * _SCALE,
                **{kind: one.refine(matte_now) for kind, one in partial.items()},
            }
            edge = edge_of(known)
            for kind, alpha in made.items():
                everywhere, at_edge = difference(alpha, known, edge)
                values[kind]["difference"].append(everywhere)
                values[kind]["at edges"].append(at_edge)
                if number:
                    moved = np.abs((alpha - before[kind]) - (known - before["known"])).mean()
                    values[kind]["flicker"].append(1000 * float(moved))
            before = {**made, "known": known}
            if number == options.frames // 2:
                greys = [
                    np.repeat((255 * part)[..., None], 3, axis=2) for part in (made["enlarged"], made["refined"], known)
                ]
                shown = [picture, *(grey.round().astype(np.uint8) for grey in greys)]
    if not shown:
        raise ValueError(f"{clip} and {matte} have too few frames: expected more than {options.frames // 2}")
    size = (round(width * _SHEET_HEIGHT / height), _SHEET_HEIGHT)
    row = np.concatenate([np.asarray(Image.fromarray(part).resize(size)) for part in shown], axis=1)
    means = {kind: {name: float(np.mean(numbers)) for name, numbers in of.items()} for kind, of in values.items()}
    return means, row


def _frames(path: Path) -> Iterator[Pixels]:
    import av

    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except av.FFmpegError as error:
        raise ValueError(f"{path} is no video that can be read: {error}") from error


def _gains(kind: str, found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float | None]]:
    """Return by how much each figure falls with the part that `kind` leaves out, with intervals over clips."""
    gains = {name: [one[kind][name] - one["refined"][name] for one in found.values()] for name in _FIGURES}
    return {name: bootstrap_mean(values).to_json() for name, values in gains.items()}


def _gain(one: Mapping[str, float | None]) -> str:
    value, low, high = (one[name] for name in ("value", "low", "high"))
    interval = "" if low is None or high is None else f" ({low:.2f} to {high:.2f})"
    return f"{value:.2f}{interval}"


def _rows(
    found: Mapping[str, Mapping[str, Mapping[str, float]]],
    means: Mapping[str, Mapping[str, float]],
    gains: Mapping[str, Mapping[str, Mapping[str, float | None]]],
) -> list[tuple[str, str, str]]:
    rows = []
    for clip, one in [*found.items(), ("mean", means)]:
        parts = [f"{name} {one['enlarged'][name]:.1f} -> {one['refined'][name]:.1f}" for name in _FIGURES]
        rows.append((clip, "", "; ".join(parts)))
    for part, gain in gains.items():
        rows.append((part, "", "; ".join(f"{name} less {_gain(gain[name])}" for name in _FIGURES)))
    return rows
