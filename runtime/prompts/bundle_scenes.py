"""The pictures that come with a bundle."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import read_file
from runtime.bundle.strict_json import nearest
from runtime.prompts.images import STORED, check_pixels, decode_image, refusing, to_rgb


def load_scene(
    folder: Path | None, manifest: Manifest, name: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Load a scene of a bundle.

    Args:
        folder: of the bundle.
        manifest: of the bundle.
        name: of the scene.

    Returns:
        Its picture, uint8 (h, w, 3) RGB, and the mask of what may move, uint8 (h, w), or None.

    Raises:
        ValueError: there is no such scene, or its picture cannot be read.
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
    return pictures[0], pictures[1].max(axis=2) if scene.moving else None


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
