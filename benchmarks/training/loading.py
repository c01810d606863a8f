"""How fast, and with how much memory, many short clips become shards and shards become batches.

python -m benchmarks loading --clips 10000 --workers 2
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_card
from benchmarks.report import BenchmarkReport

SUMMARY = "many short clips: sharding, then an epoch of batches"
DESCRIPTION = """\
Make short clips (32 frames of 160 x 120 or as told, textures and squares that
move, MPEG-4), turn them into shards as `python -m training shard` does, and load one
epoch of them at batch 16 with worker processes. For each stage: seconds, clips
per second, and the memory of this process and all its children together, which
must not grow with the number of clips (but for a kilobyte of index each).
"""
EXAMPLES = """\
examples:
  python -m benchmarks loading
  python -m benchmarks loading --clips 1000 --out /tmp/clips --json loading.json
"""
FRAMES, BATCH, HORIZON = 32, 16, 24
OFFSETS = (0, 8, 16, 24)
CHUNK = 50  # clips that a process makes at a time
SAMPLE_SECONDS = 0.5
SHARES = (0.1, 0.5, 1.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    parser.add_argument("--clips", type=int, default=10_000, metavar="N", help="how many clips (10000)")
    parser.add_argument("--height", type=int, default=120, metavar="N", help="of a frame; the width is 4/3 of it (120)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="processes of every stage (2)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep clips and shards here, for the next run")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure as the arguments say.

    Raises:
        ValueError: there is nothing to measure.
    """
    if options.clips < 4 * BATCH or options.workers < 1:
        raise ValueError(f"{options.clips} clips and {options.workers} workers: expected {4 * BATCH} and 1 or more")
    if options.height < 48 or options.height % 12:
        raise ValueError(f"--height is {options.height}, expected a multiple of 12 from 48 on")
    height: int = options.height
    folder = options.out or Path(tempfile.mkdtemp(prefix="everframe-loading-"))
    try:
        result = {
            "benchmark": "loading", "clips": options.clips, "frames": FRAMES, "size": [height, height * 4 // 3],
            "batch": BATCH, "workers": options.workers, "machine": machine_card(),
        }  # fmt: skip
        result["make"] = _make(folder / "clips", options.clips, height, options.workers)
        result["shard"] = _shard(folder / "clips", folder / "shards", height, options.workers)
        result["load"] = _load(folder / "shards", height, options.workers)
    finally:
        if options.out is None:
            shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for stage in ("make", "shard", "load"):
        figures = result[stage]
        rows.append((f"{stage}, clips/s", f"{figures['clips_per_second']:.0f}", f"{figures['seconds']:.1f} s"))
        shares = ", ".join(f"{value:.0f} at {share} %" for share, value in figures["memory_mib"].items())
        rows.append((f"{stage}, memory", f"{figures['memory_peak_mib']:.0f} MiB", f"at the peak; {shares} of the time"))
    rows.append(("shards", f"{result['shard']['bytes'] / 1e6:.0f} MB", f"{result['shard']['shards']} files"))
    rows.append(("opening", f"{result['load']['open_seconds'] * 1e3:.0f} ms", "index of all takes"))
    return BenchmarkReport(f"{options.clips} clips of {FRAMES} frames, {options.workers} workers", rows, result)


class _Memory:
    """Samples the memory of this process and its children while a stage runs."""

    def __enter__(self) -> _Memory:
        self._samples: list[tuple[float, float]] = []
        self._done = threading.Event()
        self._began = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while True:
            self._samples.append((time.perf_counter() - self._began, _memory_mib(os.getpid())))
            if self._done.wait(SAMPLE_SECONDS):
                return

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._began
        self._done.set()
        self._thread.join()

    def figures(self, clips: int) -> dict[str, Any]:
        """Return seconds, clips per second and the memory when 10, 50 and 100 % of the time had passed."""
        times, values = np.array(self._samples).T
        # The last sample that all processes are still there for, not the one after they have ended.
        at = {
            f"{share * 100:.0f}": round(float(values[np.abs(times - share * (self.seconds - 1)).argmin()]), 1)
            for share in SHARES
        }
        return {
            "seconds": round(self.seconds, 2),
            "clips_per_second": round(clips / self.seconds, 1),
            "memory_mib": at,
            "memory_peak_mib": round(float(values.max()), 1),
        }


def _memory_mib(process: int) -> float:
    """Return the memory of a process and its children, in MiB; 0 where the system does not tell.

    Anonymous and shared memory, each page counted once; not the files of libraries, whose share depends on what else
    runs on the machine.
    """
    total = 0.0
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                total += int(line.split()[1]) / 1024
        children = [
            int(child)
            for task in Path(f"/proc/{process}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:  # it has ended, or this is no Linux
        return total
    return total + sum(_memory_mib(child) for child in children)


def _make(folder: Path, clips: int, height: int, workers: int) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    with _Memory() as memory, ProcessPoolExecutor(workers, context) as pool:
        ranges = [range(start, min(start + CHUNK, clips)) for start in range(0, clips, CHUNK)]
        for _ in pool.map(_make_clips, [str(folder)] * len(ranges), [height] * len(ranges), ranges):
            pass
    size = sum(path.stat().st_size for path in folder.rglob("*.mp4"))
    return {**memory.figures(clips), "bytes": size}


def _make_clips(folder: str, height: int, numbers: range) -> None:
    import av

    width, cell = height * 4 // 3, height // 12
    for number in numbers:
        path = Path(folder) / f"{number // 1000:03d}" / f"{number:06d}.mp4"
        if path.exists():
            continue
        path.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng(number)
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
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", 800_000
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

    with _Memory() as memory:
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
    first = 0.0
    with _Memory() as memory, load_batches(sampler, _offsets_at, BATCH, 0, steps, workers=workers) as batches:
        for number, _ in enumerate(batches):
            if number == 0:
                first = batches.waited
    return {
        **memory.figures(steps * BATCH),
        "steps": steps,
        "open_seconds": round(opened, 4),
        "first_batch_seconds": round(first, 2),
    }
