"""`python -m export scenes BUNDLE FILE.toml`: puts pictures, masks of what may move and drawn motion into a bundle."""

from __future__ import annotations

import argparse
import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from export.areas import are_areas, filled
from export.folder_writer import atomic_folder, copy_bundle
from runtime.bundle.manifest import SCENE_NAME
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.prompts.hints import to_hints
from runtime.prompts.images import load_image, load_mask

SIZE = (1920, 1080)  # of the pictures in a bundle
FEATHER = 6  # pixels at 1280 x 720: standard deviation of the blur of a mask's edges
_QUALITY = 84  # of JPEG
_KEYS = {"name", "title", "picture", "credit", "licence", "moving", "areas", "feather", "hints"}
EXAMPLE = """example of FILE.toml:
  [[scene]]
  name = "lake"
  title = "a lake below snowy mountains"
  picture = "lake.jpg"                    # relative to this file, or to --photos
  credit = "Jane Doe"
  licence = "CC0-1.0"
  moving = "lake-mask.png"                # white where things may move; or, in fractions of the picture:
  areas = [[[0, 0.76], [1, 0.76], [1, 1], [0, 1]]]
  feather = 6                             # blur of the areas' edges in pixels at 1280 x 720
  hints = "lake-hints.json"               # motion that was drawn on the page, over a frame of 16:9; or, in place:
  hints = { vectors = [[0.5, 0.9, 0.02, 0]] }

Pictures are cropped to 16:9 around their centre first. Scenes of the same name are replaced.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    scenes = argparse.ArgumentParser(
        prog="python -m export scenes",
        description="Put pictures, with masks of what may move and drawn motion, into a bundle of schema 2.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = scenes.add_argument
    add("bundle", type=Path, metavar="BUNDLE", help="folder of a bundle")
    add("file", type=Path, metavar="FILE.toml", help="the scenes")
    add("--photos", type=Path, metavar="DIR", help="folder of the pictures (default: that of FILE.toml)")
    return scenes


def run(argv: Sequence[str]) -> Path:
    """Add the scenes and return the bundle's folder.

    Raises:
        ValueError: the bundle is of schema 1, the file or a picture cannot be read, or a value is wrong; the bundle is
            as it was.
        BundleError: the bundle is damaged.
    """
    arguments = parser().parse_args(argv)
    bundle: Path = arguments.bundle
    add_scenes(bundle, arguments.file, arguments.photos or arguments.file.parent)
    return bundle


def add_scenes(bundle: Path, file: Path, photos: Path) -> None:
    """Add scenes to a bundle; arguments and errors as of `run`."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    if not manifest.shapes:
        raise ValueError(f"{bundle} is of schema 1, which has no scenes: export the generator again")
    entries = [_checked(entry, file) for entry in _read(file)]
    value = manifest.to_json()
    names = {entry["name"] for entry in entries}
    kept = [scene for scene in value.get("scenes", []) if scene["name"] not in names]
    with atomic_folder(bundle, force=True) as folder:
        copy_bundle(opened, folder, has_engines=True)
        (folder / "scenes").mkdir(exist_ok=True)
        for name in names:
            for old in (f"{name}.jpg", f"{name}-moving.png", f"{name}-hints.json"):
                (folder / "scenes" / old).unlink(missing_ok=True)
        value["scenes"] = [*kept, *(_write(folder, entry, photos) for entry in entries)]
        write_manifest(folder, value)
        open_bundle(folder)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as TOML: {error}") from error
    scenes = content.get("scene")
    if not isinstance(scenes, list) or not scenes or set(content) != {"scene"}:
        raise ValueError(f"{file} must hold [[scene]] tables and nothing else; see python -m export scenes --help")
    return scenes


def _checked(entry: dict[str, Any], file: Path) -> dict[str, Any]:
    where = f'{file}: the scene "{entry.get("name", "?")}"'
    if unknown := set(entry) - _KEYS:
        raise ValueError(f'{where} has the unknown key "{min(unknown)}"')
    for key in ("name", "title", "picture", "credit", "licence"):
        if not isinstance(entry.get(key), str):
            raise ValueError(f'{where} needs the text "{key}"')
    if re.fullmatch(SCENE_NAME, entry["name"]) is None:
        raise ValueError(f"{where} has a wrong name: use small letters, digits and -, at most 40")
    if "moving" in entry and "areas" in entry:
        raise ValueError(f"{where} has both moving and areas: leave one out")
    are_right = isinstance(entry.get("moving", ""), str) and isinstance(entry.get("hints", ""), (str, dict))
    if not are_right or not isinstance(entry.get("feather", FEATHER), (int, float)):
        raise ValueError(f"{where} has a wrong value: moving is a file, hints a file or a table, feather a number")
    if not are_areas(entry.get("areas", [])):
        raise ValueError(f"{where} has a wrong area: give three points or more, each x and y from 0 to 1")
    return entry


def _write(folder: Path, entry: dict[str, Any], photos: Path) -> dict[str, str]:
    """Write a scene's files and return its entry of the manifest."""
    from PIL import Image, ImageFilter

    name = entry["name"]
    picture = load_image(photos / entry["picture"], *SIZE)
    scene = {key: entry[key] for key in ("name", "title", "credit", "licence")}
    scene["picture"] = f"scenes/{name}.jpg"
    Image.fromarray(picture).save(folder / scene["picture"], "JPEG", quality=_QUALITY, optimize=True, progressive=True)
    mask = None
    if "moving" in entry:
        mask = Image.fromarray(load_mask(photos / entry["moving"], *SIZE)[..., 0])
    elif "areas" in entry:
        mask = Image.fromarray(filled(entry["areas"], *SIZE)).filter(
            ImageFilter.GaussianBlur(float(entry.get("feather", FEATHER)) * SIZE[0] / 1280)
        )
    if mask is not None:
        scene["moving"] = f"scenes/{name}-moving.png"
        mask.resize((SIZE[0] // 4, SIZE[1] // 4), Image.Resampling.BOX).save(folder / scene["moving"], optimize=True)
    if "hints" in entry:
        scene["hints"] = f"scenes/{name}-hints.json"
        drawn = entry["hints"]
        hints = to_hints(photos / drawn if isinstance(drawn, str) else drawn)
        (folder / scene["hints"]).write_text(json.dumps(hints.to_json()) + "\n", encoding="ascii")
    return scene
