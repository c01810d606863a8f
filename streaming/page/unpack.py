"""The child process that decodes a stranger's picture: whatever is in it, it hurts nobody but this process.

python -m streaming.page.unpack WIDTH HEIGHT      (started by `streaming.page.uploads`)

Standard input is the picture's file; standard output is "ok" and a line break, then height x width x 3 bytes of RGB,
or one line that says why not.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys

MEMORY_BYTES = 1 << 30  # of addresses; a picture of 40 million pixels and its decoder need half of it
CPU_S = 10
_MAX_PIXELS = 40_000_000
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")


def main(width: int, height: int) -> int:
    """Decode standard input and fit it to a size; return the exit status."""
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError, OSError):  # less is allowed already
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        os.nice(10)
    from PIL import Image

    from runtime.prompts.images import fit, to_rgb

    try:
        Image.MAX_IMAGE_PIXELS = None  # looked at below, before anything is decoded
        with Image.open(io.BytesIO(sys.stdin.buffer.read()), formats=_FORMATS) as opened:
            if opened.width * opened.height > _MAX_PIXELS:
                return _refuse(f"it has {opened.width} x {opened.height} pixels, at most {_MAX_PIXELS:,} are taken")
            opened.draft("RGB", (2 * width, 2 * height))  # a JPEG can be decoded at a half, a quarter, an eighth
            opened.load()
            pixels = fit(to_rgb(opened), width, height)
    except MemoryError:
        return _refuse("it needs too much memory")
    except Exception:  # noqa: BLE001 - Pillow raises anything at all on damaged files
        return _refuse(f"it is damaged, or none of {', '.join(_FORMATS)}")
    sys.stdout.buffer.write(b"ok\n" + pixels.tobytes())
    return 0


def _refuse(why: str) -> int:
    sys.stdout.buffer.write(why.encode() + b"\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
