"""Loads pictures of any kind and size as uint8 RGB of the frame's size."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from runtime.prompts.hints import Hints

if TYPE_CHECKING:  # Pillow takes 30 ms to import
    from PIL.Image import Image as Picture

MAX_PIXELS = 80_000_000  # 240 MB decoded
FITS = ("cover", "contain", "blur")  # how a picture of another shape fits the frame; see `fit`
STORED = ("JPEG", "PNG", "WEBP")  # formats of pictures that come with a bundle
_EDGE = 1 / 48  # part of the frame's longer side in which a picture inside the frame comes to rest
_BLUR = 1 / 24  # deviation of the blur behind a picture, of the frame's longer side


def load_image(
    image: str | Path | npt.NDArray[np.uint8], width: int, height: int, how: str = "cover"
) -> npt.NDArray[np.uint8]:
    """Load a picture and fit it to the frame.

    Args:
        image: path of an image file, or a uint8 (h, w, 3) RGB array of any size. EXIF orientation is applied;
            transparency becomes black; 16-bit, greyscale and palette pictures are converted; the first frame of an
            animation is used.
        width: of the result, in pixels.
        height: of the result, in pixels.
        how: one of `FITS`.

    Returns:
        uint8 (height, width, 3), RGB, 0 to 255, owned by the caller.

    Raises:
        ValueError: the file is missing, not a picture, damaged, or too large; or the array is not as above.
    """
    return load_placed(image, width, height, how)[0]


def load_placed(
    image: str | Path | npt.NDArray[np.uint8], width: int, height: int, how: str = "cover"
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]:
    """Load a picture, fit it to the frame, and say where in the frame it is.

    Args and errors are those of `load_image`.

    Returns:
        The picture, as of `load_image`; and uint8 (height, width, 1), 255 inside the picture, falling to 0 at its edges
        and beside it, or None if it fills the frame.
    """
    from PIL import Image

    if isinstance(image, (str, Path)):
        picture = _open_picture(Path(image))
    elif isinstance(image, np.ndarray):
        checked = _checked_array(image)
        if checked.shape[:2] == (height, width):
            return np.array(checked, np.uint8, order="C"), None
        picture = Image.fromarray(checked, "RGB")
    else:
        raise ValueError(f"an image must be a path or a uint8 array, got {type(image).__name__}")
    where = None if how == "cover" else _where(picture.size, width, height)
    return fit(picture, width, height, how), where


def load_mask(
    mask: str | Path | npt.NDArray[np.uint8], width: int, height: int, how: str = "cover"
) -> npt.NDArray[np.uint8]:
    """Load a mask and fit it to the frame like the picture that it belongs to; what is beside it is 0.

    Args:
        mask: path of an image file, or a uint8 (h, w) array of any size: white (255) where things may move, black (0)
            where nothing does. Colours become grey.
        width: of the result, in pixels.
        height: of the result, in pixels.
        how: one of `FITS`.

    Returns:
        uint8 (height, width, 1), owned by the caller.

    Raises:
        ValueError: as for `load_image`.
    """
    from PIL import Image

    if isinstance(mask, np.ndarray):
        grey = mask[..., np.newaxis].repeat(3, axis=2) if mask.ndim == 2 else mask
        picture = Image.fromarray(_checked_array(grey), "RGB")
    else:
        picture = _open_picture(Path(mask))
    shown = picture.convert("L")
    if how == "cover":
        box = centre_box(picture.size, width / height)
        fitted = shown.resize((width, height), Image.Resampling.BILINEAR, box=box)  # without ringing
    else:
        size, corner = inside(picture.size, width, height)
        fitted = Image.new("L", (width, height))
        fitted.paste(shown.resize(size, Image.Resampling.BILINEAR), corner)
    return np.array(fitted, np.uint8)[..., np.newaxis]


def decode_image(data: bytes, name: str) -> npt.NDArray[np.uint8]:
    """Decode the content of an image file, named `name` in messages; result and errors as of `load_image`."""
    from PIL import Image

    with refusing(Path(name), "image"), Image.open(io.BytesIO(data), formats=STORED) as opened:
        check_pixels(*opened.size)
        opened.load()
        return np.array(to_rgb(opened), np.uint8)


def fit(picture: Picture, width: int, height: int, how: str = "cover") -> npt.NDArray[np.uint8]:
    """Fit a Pillow RGB picture to a size.

    Args:
        picture: of any size.
        width: of the result, in pixels.
        height: of the result, in pixels.
        how: "cover": fill the frame and crop around the centre; "contain": show all of it, on black; "blur": show all
            of it, on a blurred copy that fills the frame.

    Returns:
        uint8 (height, width, 3), owned by the caller.
    """
    from PIL import Image, ImageFilter

    size, corner = inside(picture.size, width, height)
    if how != "cover" and size != (width, height):
        back = Image.new("RGB", (width, height))
        if how == "blur":
            cover = Image.fromarray(fit(picture, width, height))
            back = cover.filter(ImageFilter.GaussianBlur(_BLUR * max(width, height)))
        back.paste(picture.resize(size, Image.Resampling.LANCZOS), corner)
        picture = back
    if picture.size != (width, height):
        picture = picture.resize(
            (width, height), Image.Resampling.LANCZOS, box=centre_box(picture.size, width / height)
        )
    return np.array(picture, np.uint8)


def place_hints(hints: Hints, size: tuple[int, int], width: int, height: int, how: str = "cover") -> Hints:
    """Return hints that were drawn over a picture as hints for the frame that it is fitted to.

    Args:
        hints: in shares of the picture.
        size: (width, height) of the picture.
        width, height: of the frame.
        how: one of `FITS`.
    """
    if how == "cover":
        left, top, right, bottom = centre_box(size, width / height)
        return hints.placed(left / size[0], top / size[1], (right - left) / size[0], (bottom - top) / size[1])
    inner, corner = inside(size, width, height)
    return hints.placed(-corner[0] / inner[0], -corner[1] / inner[1], width / inner[0], height / inner[1])


def check_pixels(width: int, height: int) -> None:
    """Raise ValueError if a picture has more than `MAX_PIXELS`."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width} x {height} pixels are more than {MAX_PIXELS}; make it smaller")


@contextmanager
def refusing(path: Path, kind: str) -> Iterator[None]:
    """Convert the errors that Pillow raises for a damaged file into a ValueError that names the file.

    Args:
        path: of the file.
        kind: "image" or "clip", for the message.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"the {kind} {path} is too large (at most {MAX_PIXELS} pixels)") from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"{path} is not an image that Pillow can read; give a PNG, JPEG or WebP, and a video as a clip"
        ) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, TypeError) as error:
        raise ValueError(f"the {kind} {path} cannot be used: {error}") from error


def to_rgb(picture: Picture) -> Picture:
    """Convert a picture of any mode to RGB: 16 bits are scaled to 8, transparency becomes black, EXIF rotates it."""
    from PIL import Image, ImageOps

    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow clips at 255 instead of scaling
        grey = np.asarray(picture).astype(np.int64).clip(0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode == "F":
        return Image.fromarray(np.nan_to_num(np.asarray(picture)).clip(0, 255).astype(np.uint8)).convert("RGB")
    if "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        # The colour of a transparent pixel is arbitrary: black replaces it.
        layer = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, (0, 0, 0, 255)), layer).convert("RGB")
    return picture.convert("RGB")


def _checked_array(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        raise ValueError(f"an image array must be uint8 (height, width, 3) RGB, got {image.dtype} {image.shape}")
    return np.ascontiguousarray(image)


def _open_picture(path: Path) -> Picture:
    from PIL import Image

    if not os.path.isfile(path):  # noqa: PTH113 - Path raises if a name is too long
        raise ValueError(f"there is no image file {path}")
    with refusing(path, "image"), Image.open(path) as opened:
        check_pixels(*opened.size)
        opened.load()
        return to_rgb(opened)


def inside(size: tuple[int, int], width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size of a whole picture inside a frame, and its top left corner there."""
    scale = min(width / size[0], height / size[1])
    inner = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return inner, ((width - inner[0]) // 2, (height - inner[1]) // 2)


def _where(size: tuple[int, int], width: int, height: int) -> npt.NDArray[np.uint8] | None:
    """Return where a whole picture lies inside a frame, see `load_placed`."""
    inner, corner = inside(size, width, height)
    if inner == (width, height):
        return None
    ramp = max(1.0, _EDGE * max(width, height))
    sides = []
    for length, start, whole in zip(inner, corner, (width, height), strict=True):
        place = np.arange(whole, dtype=np.float32) + 0.5
        side = np.full(whole, np.inf, np.float32)  # no edge: the picture is as long as the frame
        if length < whole:
            side = np.minimum(place - start, start + length - place) / np.float32(ramp)
        sides.append(side)
    columns, rows = sides
    share = np.clip(np.minimum(rows[:, np.newaxis], columns[np.newaxis]), 0, 1)
    held: npt.NDArray[np.uint8] = np.rint(255 * share).astype(np.uint8)
    return held[..., np.newaxis]


def centre_box(size: tuple[int, int], aspect: float) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of the largest box of an aspect around the centre of a (width, height)."""
    width, height = size
    crop_width, crop_height = min(width, height * aspect), min(height, width / aspect)
    left, top = (width - crop_width) / 2, (height - crop_height) / 2
    return left, top, left + crop_width, top + crop_height
