"""The far end of a live stream: decodes it as it comes, and notes when the pixels of each number were there.

python -m benchmarks.live.receiver URL      (started by `benchmarks.live.command`)

Standard output is "ready" once the first frame is there, and at the end of the stream a line of JSON: [[number,
nanoseconds of `time.monotonic_ns`], ...]. It ends with the stream, or with the end of standard input.
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

# As a player for low delay is started: nothing is waited for, and a frame comes out before the next one goes in.
_OPTIONS = {"fflags": "nobuffer", "flags": "low_delay", "analyzeduration": "500000", "rtmp_live": "live"}


def main(url: str) -> int:
    """Receive to the end; return the exit status."""
    arrivals: list[tuple[int, int]] = []
    threading.Thread(target=_end_with_input, args=(arrivals,), daemon=True).start()
    for luma in _pictures(url):
        number = stamp.read(luma)
        if number is not None:
            arrivals.append((number, time.monotonic_ns()))
            if len(arrivals) == 1:
                print("ready", flush=True)
    _tell(arrivals)
    return 0


def _end_with_input(arrivals: list[tuple[int, int]]) -> None:
    sys.stdin.read()
    _tell(arrivals)
    os._exit(0)  # a reader that waits for the network cannot be ended otherwise


def _tell(arrivals: list[tuple[int, int]]) -> None:
    print(json.dumps(list(arrivals)), flush=True)


def _pictures(url: str) -> Iterator[npt.NDArray[Any]]:
    """Yield luma planes (H, W), each as soon as it is decoded."""
    return _from_page(url) if url.startswith("http://") else _from_stream(url)


def _from_stream(url: str) -> Iterator[npt.NDArray[Any]]:
    import av

    try:
        while True:
            with av.open(url, options=_OPTIONS, timeout=(20.0, 10.0)) as container:
                if not container.streams.video:
                    continue  # only sound has come so far: the picture begins with the next key frame
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
        while line := answer.readline():
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "content-length":
                while answer.readline().strip():
                    pass
                with Image.open(io.BytesIO(answer.read(int(value)))) as picture:
                    yield np.asarray(picture.convert("L"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
