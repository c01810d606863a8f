"""A pipeline of the size of SD-turbo, exported: time, memory, size of the bundle, and time per frame.

python -m benchmarks diffusers --keep bundles/turbo

Writes a pipeline of diffusers with the sizes of SD-turbo and random weights
(a UNet of 866 million values, 1.7 GB in FP16, and a small autoencoder), and
exports it with `python -m export diffusers`, which compares its frames with
those of diffusers. Needs about 14 GB of free memory and 10 GB of disk.

examples:
  python -m benchmarks diffusers
  python -m benchmarks diffusers --steps 2 --keep /data/turbo --engine onnxruntime
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import BenchmarkReport
from export.commandline import to_list, to_size
from export.diffusers.exporter import DiffusersOptions, export_pipeline
from export.parity.checks import available_engines
from runtime.engines.table import count_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("--size", default="512x512", metavar="WxH", help="frames in pixels (512x512)")
    add("--mode", default="img2img", help="img2img or txt2img (img2img)")
    add("--steps", type=int, default=1, metavar="N", help="steps of the UNet (1)")
    add("--engine", default="onnxruntime", metavar="E,...", help="engines that make frames (onnxruntime)")
    add("--keep", type=Path, metavar="BUNDLE", help="keep the bundle there")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: the export failed.
    """
    with tempfile.TemporaryDirectory(prefix="everframe-diffusers-") as scratch:
        pipeline = Path(scratch) / "turbo"
        start = time.monotonic()
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.diffusion.pipeline", str(pipeline)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        written_s = time.monotonic() - start
        print(f"the pipeline was written in {written_s:.0f} s", file=sys.stderr)
        bundle = options.keep or Path(scratch) / "bundle"
        names = {"onnxruntime", *to_list(options.engine)}
        engines = [(name, precision) for name, precision in available_engines() if name in names]
        engines = [pair for pair in engines if pair[0] != "onnxruntime" or pair[1] == "fp32"]
        start = time.monotonic()
        report = export_pipeline(
            pipeline,
            bundle,
            DiffusersOptions(
                mode=options.mode, steps=options.steps, size=to_size(options.size), precision="fp16", engines=engines
            ),
            say=lambda text: print(f"{time.monotonic() - start:6.0f} s  {text}", file=sys.stderr, flush=True),
        )
        export_s = time.monotonic() - start
        size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    frames = {
        f"{result.check.engine} {result.check.precision}": {
            "ms": round(result.frame_ms, 1),
            "psnr_db": round(result.check.worst, 1),
        }
        for result in report.results
        if result.check is not None
    }
    what = f"{options.size}, {options.mode}, steps: {options.steps}"
    rows = [
        ("export", f"{export_s:.0f} s", f"{what}; with the comparison with diffusers"),
        ("memory", f"{report.peak_bytes / 1e9:.1f} GB", "of the largest process, at its highest"),
        ("bundle", f"{size / 1e9:.2f} GB", "weights in FP16"),
        *(
            (name, f"{found['ms']:.0f} ms", f"a frame with {count_cores()} threads; {found['psnr_db']} dB, diffusers")
            for name, found in frames.items()
        ),
    ]
    result = {
        "benchmark": "diffusers",
        "size": options.size,
        "mode": options.mode,
        "steps": options.steps,
        "export_s": round(export_s, 1),
        "peak_bytes": report.peak_bytes,
        "bundle_bytes": size,
        "frames": frames,
        "refusals": [found.refusal for found in report.results if found.refusal],
    }
    return BenchmarkReport("a pipeline of the size of SD-turbo, random weights", rows, result)
