"""The child process that decodes an uploaded picture, so that a malicious one harms only this process.

python -m streaming.page.uploads_child      (started by `streaming.page.uploads`)

It receives {"width": W, "height": H, "fit": HOW} with the picture's file. It sends {"width": W, "height": H} with
height x width x 3 bytes of RGB, or {"error": REASON}. With HOW "cover" the picture fills the size that was asked
for; else it is the whole picture, as large as fits into it.
"""

from __future__ import annotations

import contextlib
import io
import sys

MEMORY_BYTES = 1 << 30  # of address space; a picture of 40 million pixels and its decoder need half of it
CPU_S = 10
_MAX_PIXELS = 40_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def main() -> None:
    """Decode a picture and fit it to a size."""
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError, OSError):  # the limits are lower already
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    from PIL import Image

    from runtime.prompts.images import fit, inside, to_rgb
    from streaming.process.child import ParentPipe

    parent = ParentPipe()
    if (message := parent.receive()) is None:
        return
    fields, data = message
    width, height = fields["width"], fields["height"]
    try:
        Image.MAX_IMAGE_PIXELS = None  # checked below, before decoding
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                size = f"{opened.width} x {opened.height}"
                parent.send({"error": f"it has {size} pixels, at most {_MAX_PIXELS:,} are allowed"})
                return
            opened.draft("RGB", (2 * width, 2 * height))  # a JPEG can be decoded at a half, a quarter, an eighth
            opened.load()
            picture = to_rgb(opened)
        if fields["fit"] == "cover":
            pixels = fit(picture, width, height).tobytes()
        else:
            (width, height), _ = inside(picture.size, width, height)
            pixels = picture.resize((width, height), Image.Resampling.LANCZOS).tobytes()
        parent.send({"width": width, "height": height}, pixels)
    except MemoryError:
        parent.send({"error": "it needs too much memory"})
    except Exception:  # noqa: BLE001 - Pillow raises many types on damaged files
        parent.send({"error": f"it is damaged, or not one of {', '.join(_FORMATS)}"})


if __name__ == "__main__":
    main()
