"""A sheet of frames over time and a clip, made by bundles.

python -m benchmarks pictures bundles/NAME --sheet frames.png --motion motion.webp

Makes frames of one or more bundles from several seeds, images or prompts, as in
a real show with renewal. The sheet has one row per bundle, prompt and seed, and
one column per frame number; the clip has all of them side by side. Brightness,
contrast and motion over time show whether a show degrades or freezes.

examples:
  python -m benchmarks pictures bundles/mine --sheet frames.png
  python -m benchmarks pictures bundles/a bundles/b --seeds 1,2,3 --motion both.webp
  python -m benchmarks pictures bundles/mine --image photo.jpg --sheet photo.png
  python -m benchmarks pictures bundles/mine --text "a stormy sea" --text candles --sheet words.jpg
  python -m benchmarks pictures bundles/mine --frames 1,100,10000 --sheet long.jpg --tile 160
"""

from __future__ import annotations

import argparse
import itertools
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from benchmarks.report import BenchmarkReport, write_beside
from runtime.generator import Generator

Frame = npt.NDArray[np.uint8]
COLUMNS = (1, 12, 24, 48, 120, 300, 900, 1800)
MOTION_SECONDS = 5
MOTION_STEP = 2  # every second frame: half the size of the file, still smooth


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("bundles", metavar="BUNDLE", nargs="+", help="folders of bundles of one frame size")
    add("--seeds", default="1,2,3,4", metavar="LIST", help="seeds, one row each (1,2,3,4)")
    add("--image", metavar="FILE", action="append", default=[], help="a picture to animate, one row each")
    add("--text", metavar="TEXT", action="append", default=[], help="a prompt, one row each")
    add("--frames", metavar="LIST", help=f"columns ({','.join(map(str, COLUMNS))})")
    add("--tile", type=int, metavar="PIXELS", help="height of a frame on the sheet (its own)")
    add("--sheet", metavar="FILE", help="where to write the sheet, .png, .jpg or .webp")
    add("--motion", metavar="FILE", help="where to write the clip, .webp, .gif or .png (animated)")
    add("--engine", default="auto", metavar="E", help="see `latency` (auto)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Make the pictures.

    Raises:
        ValueError, BundleError, EngineError: see `Generator.open`; or a seed or file name is wrong.
    """
    seeds = _numbers("seeds", options.seeds, 0)
    columns = sorted(set(_numbers("frames", options.frames, 1))) if options.frames else list(COLUMNS)
    if options.tile is not None and not 16 <= options.tile <= 4096:
        raise ValueError(f"--tile is {options.tile}, expected 16 to 4096 pixels")
    prompts: list[dict[str, Any]] = [{"text": text} for text in options.text]
    prompts += [{"image": image} for image in options.image]
    for name, endings in (("sheet", (".png", ".jpg", ".webp")), ("motion", (".webp", ".gif", ".png"))):
        value = getattr(options, name)
        if value is not None and not value.lower().endswith(endings):
            raise ValueError(f"--{name} is {value}, expected a name that ends in {' or '.join(endings)}")
    rows: list[list[Frame]] = []
    clips: list[list[Frame]] = []
    figures: list[dict[str, Any]] = []
    fps = 0.0
    for bundle in options.bundles:
        for prompt, seed in itertools.product(prompts or [{}], seeds):
            with Generator.open(bundle, engine=options.engine, seed=seed) as generator:
                generator.condition(**prompt, seed=seed)
                fps = float(generator.fps)
                row, clip, found = _watch(generator, columns, wants_clip=options.motion is not None)
                figures.append({"bundle": generator.manifest.name, **prompt, "seed": seed, "frames": found})
            rows.append(row)
            clips.append(clip)
    if len({row[0].shape for row in rows}) > 1:
        raise ValueError("the bundles make frames of different sizes: draw one sheet for each")
    if options.sheet is not None:
        sheet = _draw_sheet(rows, columns, [_label(show) for show in figures], options.tile)
        write_beside(Path(options.sheet), lambda beside: sheet.save(beside))
    if options.motion is not None:
        _write_motion(Path(options.motion), clips, len(seeds) if len(seeds) > 1 else min(4, len(clips)), fps)
    title = f"{len(rows)} shows, frames {', '.join(map(str, columns))}"
    result = {"benchmark": "pictures", "columns": columns, "shows": figures}
    return BenchmarkReport(title, _table(figures), result)


def _numbers(name: str, text: str, least: int) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [-1]
    if min(numbers) < least:
        raise ValueError(f"--{name} is {text!r}, expected whole numbers with commas between them: 1,2,3")
    return numbers


def _label(show: dict[str, Any]) -> str:
    prompt = show.get("text") or (Path(show["image"]).stem if "image" in show else "")
    lines = textwrap.wrap(prompt, 16)[:6] or [show["bundle"]]
    return "\n".join([*lines, f"seed {show['seed']}"])


def _watch(
    generator: Generator, columns: list[int], *, wants_clip: bool
) -> tuple[list[Frame], list[Frame], list[dict[str, float]]]:
    """Run a show to the last column; return the columns, the clip's frames, and figures at each column."""
    row, clip, figures = [], [], []
    before: npt.NDArray[np.float32] | None = None
    clip_frames = round(MOTION_SECONDS * generator.fps) if wants_clip else 0
    wanted = {number for column in columns for number in (column - 1, column)}
    wanted |= {number for number in range(1, clip_frames + 1) if number % MOTION_STEP == 0}
    for number in sorted(wanted - {0}):
        generator.skip(number - generator.frame_index - 1)
        frame = next(generator)
        if number <= clip_frames and number % MOTION_STEP == 0:
            clip.append(frame.copy())
        if number in columns or number + 1 in columns:
            values = frame.astype(np.float32)
            if number in columns:
                row.append(frame.copy())
                motion = 0.0 if before is None else float(np.abs(values - before).mean())
                levels = {"brightness": round(float(values.mean()), 2), "contrast": round(float(values.std()), 2)}
                figures.append({"frame": number, **levels, "motion": round(motion, 3)})
            before = values
    return row, clip, figures


def _draw_sheet(rows: list[list[Frame]], columns: list[int], labels: list[str], tile: int | None) -> Image.Image:
    """Lay the frames out with the prompt at the left of each row and the frame's number above each column."""
    margin, head = 112, 24
    height, width = rows[0][0].shape[:2]
    if tile is not None and tile != height:
        width, height = round(width * tile / height), tile
        rows = [[np.asarray(Image.fromarray(frame).resize((width, height))) for frame in row] for row in rows]
    pictures = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    sheet = Image.new("RGB", (margin + pictures.shape[1], head + pictures.shape[0]), (14, 15, 18))
    sheet.paste(Image.fromarray(pictures), (margin, head))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, number in enumerate(columns):
        draw.text((margin + index * width + 4, 4), f"frame {number:,}", fill=(200, 203, 210), font=font)
    for index, label in enumerate(labels):
        place = (6, head + index * height + height // 2 - 8 * (label.count("\n") + 1))
        draw.multiline_text(place, label, fill=(200, 203, 210), font=font, spacing=2)
    return sheet


def _write_motion(file: Path, clips: list[list[Frame]], columns: int, fps: float) -> None:
    frames = []
    for index in range(min(len(clip) for clip in clips)):
        tiles = [clip[index] for clip in clips]
        tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
        rows = [np.concatenate(tiles[start : start + columns], axis=1) for start in range(0, len(tiles), columns)]
        frames.append(Image.fromarray(np.concatenate(rows)))
    duration_ms = round(1000 * MOTION_STEP / fps)
    options: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": duration_ms, "loop": 0}
    if file.suffix.lower() == ".webp":
        options |= {"quality": 70, "method": 4}
    write_beside(file, lambda beside: frames[0].save(beside, **options))


def _table(figures: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    rows = []
    for show in figures:
        first, last = show["frames"][min(1, len(show["frames"]) - 1)], show["frames"][-1]
        what = f"brightness from frame {first['frame']} to {last['frame']}; contrast {first['contrast']:.0f} -> "
        what += f"{last['contrast']:.0f}, motion {first['motion']:.2f} -> {last['motion']:.2f} levels per frame"
        name = f"{show['bundle']}, {_label(show)}".replace("\n", " ")
        rows.append((name, f"{first['brightness']:.0f} -> {last['brightness']:.0f}", what))
    return rows
