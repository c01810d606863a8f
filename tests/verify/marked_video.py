"""Small videos with and without a mark: textures that move, drawn from noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle.tensors import TensorSpec
from runtime.marking.graph import mark_frame
from runtime.marking.plane import make_plane

PAYLOAD = 0xC0FFEE123456
TEXT = "c0ffee123456"


def texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return a picture whose contrast falls with frequency, as in photographs; float (height, width), 40 to 220."""
    random = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(height)[:, np.newaxis], np.fft.rfftfreq(width)
    radius = np.maximum(np.hypot(down, across), 1 / max(width, height))
    spectrum = np.fft.rfft2(random.normal(size=(height, width))) / radius**1.3
    plane = np.fft.irfft2(spectrum, (height, width))
    low, high = np.percentile(plane, [1, 99])
    return np.clip(40 + 180 * (plane - low) / (high - low), 40, 220)


def clip(width: int, height: int, count: int = 16, seed: int = 0, payload: int | None = PAYLOAD) -> list[np.ndarray]:
    """Return I420 frames, uint8 (height * 3 / 2, width), of a texture that moves by a pixel a frame."""
    picture = texture(width, height, seed)
    frames = []
    for number in range(count):
        frame = np.full((height * 3 // 2, width), 128, np.uint8)
        frame[:height] = np.roll(picture, number, axis=1).astype(np.uint8)
        frames.append(frame)
    if payload is None:
        return frames
    plane = make_plane(payload, TensorSpec("frame", "uint8", (1, height * 3 // 2, width), "frame", pixels="i420"))
    return [mark_frame(frame, plane, "i420") for frame in frames]


def luma(frames: list[np.ndarray]) -> list[np.ndarray]:
    """Return the brightness of I420 frames."""
    return [frame[: len(frame) * 2 // 3] for frame in frames]


def write(path: Path, frames: list[np.ndarray], bit_rate: int = 600_000, fps: int = 25) -> Path:
    """Encode I420 frames with x264."""
    import av

    height, width = len(frames[0]) * 2 // 3, frames[0].shape[1]
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=fps, options={"preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", bit_rate
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="yuv420p")))
        out.mux(stream.encode(None))
    return path
