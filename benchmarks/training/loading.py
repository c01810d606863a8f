"""Speed and memory of sharding many short clips, and of loading one epoch of batches from the shards.

python -m benchmarks loading --clips 10000 --height 48

Makes short clips (32 frames of moving textures and squares, MPEG-4), turns them
into shards as `python -m training shard` does, and loads one epoch at batch 16
with worker processes. For both: seconds, clips per second, and the memory of
this process and its children, which must not grow with the number of clips
(except for a kilobyte of index each).

examples:
  python -m benchmarks loading
  python -m benchmarks loading --clips 1000 --out /tmp/clips --json loading.json
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import process_tree
from benchmarks.report import BenchmarkReport

FRAMES, BATCH, HORIZON = 32, 16, 24
OFFSETS = (0, 8, 16, 24)
SAMPLE_SECONDS = 0.5
SHARES = (0.1, 0.5, 1.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("--clips", type=int, default=10_000, metavar="N", help="number of clips (10000)")
    add("--height", type=int, default=120, metavar="N", help="of a frame; the width is 4/3 of it (120)")
    add("--workers", type=int, default=2, metavar="N", help="processes of every stage (2)")
    add("--out", type=Path, metavar="DIR", help="keep clips and shards here, for the next run")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: there are too few clips or workers, or the height is not a multiple of 12.
    """
    height: int = options.height
    if options.clips < 4 * BATCH or options.workers < 1 or height < 48 or height % 12:
        raise ValueError(
            f"--clips must be at least {4 * BATCH}, --workers at least 1 and --height a multiple of 12 from 48 on, got "
            f"{options.clips}, {options.workers} and {height}"
        )
    result: dict[str, Any] = {
        "benchmark": "loading", "clips": options.clips, "frames": FRAMES, "size": [height, height * 4 // 3],
        "batch": BATCH, "workers": options.workers,
    }  # fmt: skip
    with tempfile.TemporaryDirectory() if options.out is None else nullcontext(options.out) as name:
        clips, shards = Path(name) / "clips", Path(name) / "shards"
        with ProcessPoolExecutor(options.workers, multiprocessing.get_context("spawn")) as pool:
            list(pool.map(_make_clip, repeat(clips), repeat(height), range(options.clips), chunksize=50))
        result["shard"] = _shard(clips, shards, height, options.workers)
        result["load"] = _load(shards, height, options.workers)
    rows = []
    for stage in ("shard", "load"):
        figures = result[stage]
        rows.append((f"{stage}, clips/s", f"{figures['clips_per_second']:.0f}", f"{figures['seconds']:.1f} s"))
        shares = ", ".join(f"{value:.0f} at {share} %" for share, value in figures["memory_mib"].items())
        rows.append((f"{stage}, memory", f"{figures['memory_peak_mib']:.0f} MiB", f"at the peak; {shares} of the time"))
    rows.append(("shards", f"{result['shard']['bytes'] / 1e6:.0f} MB", f"{result['shard']['shards']} files"))
    rows.append(("opening", f"{result['load']['open_seconds'] * 1e3:.0f} ms", "index of all takes"))
    return BenchmarkReport(f"{options.clips} clips of {FRAMES} frames, {options.workers} workers", rows, result)


class _StageMemory:
    """Samples the memory of this process and its children during the body."""

    def __enter__(self) -> _StageMemory:
        self._samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def _sample(self) -> None:
        is_over = False
        while not is_over:
            memory = sum(_memory_mib(process) for process in process_tree(os.getpid()))
            self._samples.append((time.perf_counter() - self._began, memory))
            is_over = self._done.wait(SAMPLE_SECONDS)

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self._done.set()
        self._thread.join()

    def figures(self, clips: int) -> dict[str, Any]:
        """Return seconds, clips per second, and the memory after 10, 50 and 100 % of the time and at its peak."""
        times, values = np.array(self._samples).T
        # At 100 %, a second before the end: all processes are still there.
        moments = {f"{share * 100:.0f}": np.abs(times - share * (self.seconds - 1)).argmin() for share in SHARES}
        return {
            "seconds": round(self.seconds, 2),
            "clips_per_second": round(clips / self.seconds, 1),
            "memory_mib": {share: round(float(values[index]), 1) for share, index in moments.items()},
            "memory_peak_mib": round(float(values.max()), 1),
        }


def _memory_mib(process: int) -> float:
    """Return the anonymous and shared memory of a process, shared pages divided; 0 if it has ended or not on Linux."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:"))) / 1024


def _make_clip(folder: Path, height: int, number: int) -> None:
    import av

    path = folder / f"{number // 1000:03d}" / f"{number:06d}.mp4"
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    cell, rng = height // 12, np.random.default_rng(number)
    scene = rng.integers(30, 200, (12, 16, 3)).astype(np.uint8).repeat(cell, 0).repeat(cell, 1)
    squares = [
        (
            rng.integers(0, 256, 3),
            rng.integers(0, height * 2 // 3, 2),
            rng.integers(-3, 4, 2),
            int(rng.integers(cell, 4 * cell)),
        )
        for _ in range(3)
    ]
    speed = rng.integers(-2, 3, 2)
    partial = path.with_name(f"{path.stem}.partial.mp4")
    with av.open(str(partial), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = height * 4 // 3, height, "yuv420p", 800_000
        stream.thread_count = 1
        for index in range(FRAMES):
            picture = np.roll(scene, tuple(speed * index), axis=(0, 1))
            for colour, place, step, side in squares:
                top, left = place + step * index
                picture[max(0, top) : max(0, top + side), max(0, left) : max(0, left + side)] = colour
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    partial.replace(path)


def _shard(clips: Path, out: Path, height: int, workers: int) -> dict[str, Any]:
    from training.data.shards import shard_report, write_shards
    from training.data.takes import ShardSettings

    with _StageMemory() as memory:
        index = write_shards([clips], out, ShardSettings(short_side=height), workers)
    report = shard_report(index)
    totals = {key: report[key] for key in ("videos", "takes", "frames", "shards", "bytes", "cuts", "dropped")}
    return {**memory.figures(report["videos"]), **totals}


def _offsets_at(_: int) -> list[int]:
    return list(OFFSETS)


def _load(shards: Path, height: int, workers: int) -> dict[str, Any]:
    from training.config import FootageConfig
    from training.data.footage import ClipSampler, open_footage, split
    from training.data.loading import load_batches

    side = height // 4 * 4 - 4
    config = FootageConfig(
        short_side=height, crop_min=side, crop_max=height, horizon_frames=HORIZON, holdout_fraction=0.01
    )
    began = time.perf_counter()
    library = open_footage(shards, config)
    opened = time.perf_counter() - began
    sampler = ClipSampler(split(library, config, "train"), config, side, side, seed=0)
    steps = sampler.num_scenes // BATCH
    with _StageMemory() as memory, load_batches(sampler, _offsets_at, BATCH, 0, steps, workers=workers) as batches:
        for _ in batches:
            pass
    return {**memory.figures(steps * BATCH), "steps": steps, "open_seconds": round(opened, 4)}
