"""Uploaded pictures: limited in bytes here, and in pixels, memory and time by a child process."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import numpy.typing as npt

from streaming.process.child import ChildProcess

MAX_BYTES = 20 * 2**20
KINDS = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "application/octet-stream")
_PATIENCE_S = 20.0  # for the child, which may use 10 s of CPU time
_NICENESS = 10  # the show has priority


def decode_picture(
    data: bytes, width: int, height: int, fit: str = "cover", *, patience_s: float = _PATIENCE_S
) -> npt.NDArray[np.uint8]:
    """Decode a picture and scale it down to what a frame shows of it, in a child process.

    Args:
        data: JPEG, PNG, WebP, GIF or BMP, at most `MAX_BYTES`.
        width: of the frame in pixels.
        height: of the frame in pixels.
        fit: as for `runtime.prompts.images.fit`; with "cover" the result fills the frame, else it is the whole picture.
        patience_s: how long the child may take.

    Returns:
        uint8 (h, w, 3) RGB, h at most height and w at most width.

    Raises:
        ValueError: it is not such a picture, too large, or takes too long.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"a picture may have at most {MAX_BYTES // 2**20} MiB, got {len(data) / 2**20:.1f}")
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")  # each needs memory
    try:
        child = ChildProcess("streaming.page.uploads_child", environment=threads, niceness=_NICENESS, is_quiet=True)
        with closing(child):
            child.send({"width": width, "height": height, "fit": fit}, data)
            message = child.receive(patience_s)
    except ConnectionError:
        raise ValueError("this picture cannot be used: decoding it took too much") from None
    except OSError as error:
        raise ValueError(f"pictures cannot be decoded here: {error.strerror}") from error
    if message is None:
        raise ValueError("this picture takes too long to decode; make it smaller")
    fields, pixels = message
    h, w = int(fields.get("height", 0)), int(fields.get("width", 0))
    is_inside = 0 < h <= height and 0 < w <= width
    if "error" in fields or not is_inside or len(pixels) != h * w * 3:
        raise ValueError(f"this picture cannot be used: {fields.get('error', 'the decoder failed')}")
    return np.frombuffer(pixels, np.uint8).reshape(h, w, 3)
