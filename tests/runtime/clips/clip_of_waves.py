"""Small clips that come back to where they were, for the tests of endless clips."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt


def waves(count: int, width: int = 128, height: int = 72, period: float = 30.0) -> npt.NDArray[np.uint8]:
    """Return bright spots that circle once in `period` frames, uint8 (count, height, width, 3) RGB."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    base = 90 + 40 * np.sin(0.31 * x) * np.cos(0.27 * y)
    frames = []
    for time in range(count):
        angle = 2 * np.pi * time / period
        centre = width / 2 + width / 5 * np.cos(angle), height / 2 + height / 5 * np.sin(angle)
        spot = 120 * np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (0.01 * width * height))
        frames.append(np.stack([base + spot, base, base - 0.5 * spot], axis=2).clip(0, 255))
    return np.stack(frames).astype(np.uint8)


def write(path: Path, frames: npt.NDArray[np.uint8], fps: int = 30, times: list[int] | None = None) -> Path:
    """Write frames losslessly; `times` are in frames, for a varying rate."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps, width=frames.shape[2], height=frames.shape[1])
        stream.pix_fmt = "bgr0"
        for number, frame in enumerate(frames):
            video = av.VideoFrame.from_ndarray(frame, format="rgb24")
            video.pts = number if times is None else times[number]
            container.mux(stream.encode(video))
        container.mux(stream.encode())
    return path
