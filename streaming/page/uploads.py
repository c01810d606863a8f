"""Pictures that strangers send: bounded in bytes here, in pixels, memory and time in a process of their own."""

from __future__ import annotations

import subprocess

import numpy as np
import numpy.typing as npt

from streaming.process.children import command, environment

MAX_BYTES = 20 * 2**20
KINDS = ("image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp", "application/octet-stream")
_PATIENCE_S = 20.0  # for the child, of which it may compute 10


def decode_picture(data: bytes, width: int, height: int, *, patience_s: float = _PATIENCE_S) -> npt.NDArray[np.uint8]:
    """Decode a picture and fit it to a size by centre crop and resize, in a child process; waits for it.

    Args:
        data: JPEG, PNG, WebP, GIF or BMP, at most `MAX_BYTES`.
        width: of the result in pixels.
        height: of the result in pixels.
        patience_s: how long the child may take.

    Returns:
        uint8 (height, width, 3) RGB.

    Raises:
        ValueError: it is no such picture, too large, or too much work.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"a picture may have at most {MAX_BYTES // 2**20} MiB, got {len(data) / 2**20:.1f}")
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")  # each would want its own memory
    try:
        child = subprocess.run(
            command("streaming.page.unpack", str(width), str(height)),
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(**threads),
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError("this picture takes too long to decode; make it smaller") from error
    except OSError as error:
        raise ValueError(f"pictures cannot be decoded here: {error.strerror}") from error
    head, _, pixels = child.stdout.partition(b"\n")
    if head == b"ok" and len(pixels) == width * height * 3:
        return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)
    why = head.decode(errors="replace") if child.returncode == 1 and head else "decoding it took too much"
    raise ValueError(f"this picture cannot be used: {why}")
