"""The far end of a live stream: decodes it as it arrives, and notes when the pixels of each number were there.

python -m benchmarks.live.receiver URL [large]      (started by `benchmarks.live.command` and `screen`)

Standard output is a line of JSON at the end of the stream or of standard input: [[number, nanoseconds of
`time.monotonic_ns`], ...].
"""

from __future__ import annotations

import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.live import stamp

# As a player for low latency is started: no buffering, and each frame comes out before the next one goes in.
LOW_DELAY = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "500000", "rtmp_live": "live"}


def main(url: str, size: str = "") -> int:
    """Receive to the end, numbers or large numbers; return the exit status."""
    read = stamp.read_large if size == "large" else stamp.read
    arrivals: list[tuple[int, int]] = []
    threading.Thread(target=_end_with_input, args=(arrivals,), daemon=True).start()
    for luma in _from_page(url) if url.startswith("http://") else _from_stream(url):
        number = read(luma)
        if number is not None:
            arrivals.append((number, time.monotonic_ns()))
    print(json.dumps(arrivals), flush=True)
    return 0


def _end_with_input(arrivals: list[tuple[int, int]]) -> None:
    sys.stdin.read()
    print(json.dumps(list(arrivals)), flush=True)
    os._exit(0)  # a reader that waits for the network cannot be ended otherwise


def _from_stream(url: str) -> Iterator[npt.NDArray[Any]]:
    """Yield luma planes (H, W), each as soon as it is decoded."""
    import av

    try:
        while True:
            with av.open(url, options=LOW_DELAY, timeout=(20.0, 10.0)) as container:
                if not container.streams.video:
                    continue  # before the first key frame there is only sound
                video = container.streams.video[0]
                video.codec_context.thread_count = 1
                for frame in container.decode(video):
                    plane = frame.planes[0]
                    pixels = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                    yield pixels[:, : plane.width]
    except (av.error.EOFError, av.error.ExitError, OSError):
        return


def _from_page(url: str) -> Iterator[npt.NDArray[Any]]:
    from urllib.request import urlopen

    from PIL import Image

    with urlopen(f"{url}/stream.mjpeg", timeout=20) as answer:
        for data in jpegs(answer):
            with Image.open(io.BytesIO(data)) as picture:
                yield np.asarray(picture.convert("L"))


def jpegs(stream: Any) -> Iterator[bytes]:
    """Yield the JPEG files of a multipart stream; anything with `readline` and `read`."""
    while line := stream.readline():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            while stream.readline().strip():
                pass
            yield stream.read(int(value))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
