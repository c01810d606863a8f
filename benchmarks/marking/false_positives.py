"""Whether a mark is read where none is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.marking.store import ResultLines
from benchmarks.report import progress_bars
from verify.frames import read_frames
from verify.mark_reader import MOST_DECODED, WINDOW, MarkReader, windows


def measure_real(videos: Sequence[Path], store: ResultLines) -> dict[str, Any]:
    """Read every window of real videos; windows do not overlap, and each is searched in every way.

    Returns:
        The videos, the windows, those in which a payload was read, and the candidates that were decoded.
    """
    with progress_bars() as bar, bar("real footage", len(videos)) as advance:
        for video in videos:
            key = f"real/{video.parent.name}/{video.name}"
            if key not in store:
                reader, counts = MarkReader(), [0, 0, 0]
                for _, part in windows((frame.luma for frame in read_frames(str(video), None)), WINDOW):
                    if len(part) < WINDOW:
                        continue  # a window of few frames is another thing
                    counts[0] += 1
                    counts[1] += reader.read(part) is not None
                    counts[2] += MOST_DECODED - reader.decodings_left
                store.add(key, counts)
            advance(1)
    results = store.of("real")
    counts = [sum(one[place] for one in results.values()) for place in range(3)]
    return {"videos": len(results), "windows": counts[0], "payloads": counts[1], "decoded": counts[2]}
