"""The pictures that come with a bundle."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import read_file
from runtime.bundle.strict_json import nearest
from runtime.prompts.hints import Hints, decode_hints, to_hints
from runtime.prompts.images import STORED, check_pixels, decode_image, place_hints, refusing, to_rgb
from runtime.prompts.scene import PromptParts


def load_scene(
    folder: Path | None, manifest: Manifest, name: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None, Hints]:
    """Load a scene of a bundle.

    Args:
        folder: of the bundle.
        manifest: of the bundle.
        name: of the scene.

    Returns:
        Its picture, uint8 (h, w, 3) RGB, the mask of what may move, uint8 (h, w), or None, and what was drawn over the
        picture, in shares of it.

    Raises:
        ValueError: there is no such scene, or its picture or its hints cannot be read.
        BundleError: a file is damaged.
    """
    scenes = {scene.name: scene for scene in manifest.scenes}
    if folder is None or name not in scenes:
        known = nearest(name, scenes) if scenes else "(it has none)"
        raise ValueError(f'{manifest.name} has no scene "{name}" {known}')
    scene = scenes[name]
    pictures = [
        decode_image(read_file(folder, file, manifest.files[file]), file)
        for file in (scene.picture, scene.moving)
        if file
    ]
    hints = Hints()
    if scene.hints:
        hints = decode_hints(read_file(folder, scene.hints, manifest.files[scene.hints]), scene.hints)
    return pictures[0], pictures[1].max(axis=2) if scene.moving else None, hints


def with_scene(
    parts: PromptParts, folder: Path | None, manifest: Manifest, how: str, *, takes_hints: bool
) -> dict[str, Any]:
    """Return a prompt with the picture, the mask and the hints of its scene in place of the scene's name.

    Its past takes the place of a clip, which the condition graph goes on from.

    Args:
        parts: hints of its own replace those of the scene.
        folder: of the bundle.
        manifest: of the bundle, with the size of the frames.
        how: pictures fit the frame, one of `runtime.prompts.images.FITS`.
        takes_hints: whether the bundle takes any; else those of a scene are left out.

    Raises:
        ValueError: there is no such scene, it cannot be read, the prompt has a picture or a mask as well, or its hints
            are wrong.
        BundleError: a file is damaged.
    """
    given: dict[str, Any] = dict(parts)
    name, hints = given.pop("scene", None), given.get("hints")
    given["hints"] = None if hints is None else to_hints(hints)
    if (past := given.pop("past", None)) is not None:
        if given.get("clip") is not None:
            raise ValueError("a clip and past are two clips to go on from: leave one out")
        given["clip"] = past
    if name is None:
        return given
    if given.get("image") is not None or given.get("moving") is not None:
        raise ValueError(f'the scene "{name}" has an image and a mask of its own: leave the others out')
    picture, given["moving"], own = load_scene(folder, manifest, name)
    given["image"] = picture
    if hints is None and takes_hints:
        size = (picture.shape[1], picture.shape[0])
        given["hints"] = place_hints(own, size, manifest.frame.width, manifest.frame.height, how)
    return given


def scene_thumbnail(folder: Path, manifest: Manifest, name: str, width: int = 192) -> bytes:
    """Return a small JPEG of a scene's picture, `width` pixels wide.

    Raises:
        ValueError: there is no such scene, or its picture cannot be read.
        BundleError: a file is damaged.
    """
    from PIL import Image

    scene = next((scene for scene in manifest.scenes if scene.name == name), None)
    if scene is None:
        raise ValueError(f'{manifest.name} has no scene "{name}"')
    data = read_file(folder, scene.picture, manifest.files[scene.picture])
    with refusing(Path(scene.picture), "image"), Image.open(io.BytesIO(data), formats=STORED) as opened:
        check_pixels(*opened.size)
        opened.draft("RGB", (2 * width, 2 * width))  # a JPEG is decoded at a fraction of its size
        picture = to_rgb(opened)
    picture.thumbnail((width, width))
    small = io.BytesIO()
    picture.save(small, "JPEG", quality=80)
    return small.getvalue()
