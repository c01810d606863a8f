"""Pretraining speed: clips per second, waiting for data, TFLOP/s against a measured peak.

python -m benchmarks pretraining training/configs/tasks-64.toml --data SHARDS

Runs pretraining steps of a configuration without keeping anything, after five
to warm up. Floating-point operations are PyTorch's own count of one step
(convolutions and matrix products, forward and backward). The peak is a 3x3
convolution of 256 channels at 64 x 64, batch 8, forward and backward, on the
same device in the same precision, the best of ten.

examples:
  python -m benchmarks pretraining training/configs/tasks-64.toml --data SHARDS --words WORDS
  python -m benchmarks pretraining CONFIG --data SHARDS --scale 10 --steps 1   (100 x the encoder)
"""

from __future__ import annotations

import argparse
import dataclasses
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.report import BenchmarkReport

if TYPE_CHECKING:
    from lightning.fabric import Fabric

WARM_UP = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="a training configuration")
    add("--data", type=Path, required=True, metavar="DIR", help="a folder of videos, or shards of it")
    add("--words", type=Path, metavar="WORDS", help="word vectors, if alignment is on")
    add("--cache", type=Path, metavar="DIR", help="where decoded footage is kept")
    add("--steps", type=int, default=30, metavar="N", help="steps that are timed (30)")
    add("--workers", type=int, metavar="N", help="processes that read clips (as in the configuration)")
    add("--scale", type=float, metavar="S", help="encoder_scale (as in the configuration)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: configuration, footage or words are invalid.
    """
    import torch

    from training.config import load_config
    from training.data.footage import ClipSampler, open_footage, split
    from training.data.loading import load_batches
    from training.data.words import WordVectors
    from training.fabric import choose_precision, start_engine
    from training.stages.pretrain import PretrainStage

    if options.steps < 1:
        raise ValueError(f"--steps is {options.steps}, expected 1 or more")
    config = load_config(options.config)
    if options.scale is not None:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, encoder_scale=options.scale))
    warm_up = WARM_UP if options.steps > 1 else 0
    total = warm_up + options.steps
    fabric = start_engine(config)
    is_cuda = fabric.device.type == "cuda"
    library = open_footage(options.data, config.footage, options.cache)
    sampler = ClipSampler(
        split(library, config.footage, "train"), config.footage, config.model.height, config.model.width, 0
    )
    stage = PretrainStage(config, None, WordVectors.open(options.words) if options.words else None)
    encoder = stage.pretrainer.generator.condition.encoder.trunk
    parameters = {
        "encoder": sum(parameter.numel() for parameter in encoder.parameters()),
        "all": sum(parameter.numel() for parameter in stage.pretrainer.parameters()),
    }
    stage.setup(fabric)
    workers = config.run.workers if options.workers is None else options.workers
    batches = load_batches(sampler, stage.offsets, stage.batch, 0, total, 0, 1, workers)
    began, waited, losses = time.perf_counter(), 0.0, []
    with batches:
        for step, batch in enumerate(batches):
            if step == warm_up:
                _finish(fabric)
                began, waited = time.perf_counter(), batches.waited
            losses.append(stage.update(batch, stage.offsets(step), step)["loss"])
            last = batch
    _finish(fabric)
    seconds = time.perf_counter() - began
    waiting = (batches.waited - waited) / seconds
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    flops = _count_flops(stage, last, total)
    peak = _convolution_peak(fabric) if options.steps > 1 else None
    rate = stage.batch * options.steps / seconds
    achieved = flops * options.steps / seconds
    clip_seconds = (config.footage.horizon_frames + 1) / config.footage.fps
    result: dict[str, Any] = {
        "benchmark": "pretraining", "config": config.name, "device": str(fabric.device),
        "precision": choose_precision(config.run.precision, fabric.device.type), "tasks": stage.pretrainer.weights,
        "parameters": parameters, "batch": stage.batch, "frame": [config.model.height, config.model.width],
        "steps": options.steps, "workers": workers, "step_seconds": round(seconds / options.steps, 4),
        "clips_per_second": round(rate, 2), "waiting_share": round(waiting, 5), "gflop_per_step": round(flops / 1e9, 1),
        "tflops": round(achieved / 1e12, 4), "peak_tflops": None if peak is None else round(peak / 1e12, 4),
        "footage_hours_per_day": round(rate * clip_seconds * 24, 1), "memory_gib": round(memory / 2**30, 2),
        "device_memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if is_cuda else None,
        "loss": losses[-1],
    }  # fmt: skip
    rows = [
        ("encoder", f"{parameters['encoder'] / 1e6:.1f} M", f"parameters, of {parameters['all'] / 1e6:.1f} M in all"),
        ("clips/s", f"{rate:.2f}", f"{result['step_seconds']:.3f} s per step of {stage.batch} clips"),
        ("waiting for data", f"{100 * waiting:.2f} %", f"of the time, {workers} worker processes"),
        ("TFLOP/s", f"{achieved / 1e12:.3f}", f"{flops / 1e9:.0f} GFLOP per step"),
        ("footage", f"{result['footage_hours_per_day']:.0f} h/day", f"clips that span {clip_seconds:.2f} s each"),
        ("memory", f"{result['memory_gib']:.2f} GiB", "resident, at the peak, this process"),
    ]
    if peak is not None:
        note = f"one 3x3 convolution; pretraining reaches {100 * achieved / peak:.0f} % of it"
        rows.insert(4, ("peak TFLOP/s", f"{peak / 1e12:.3f}", note))
    return BenchmarkReport(f"pretraining {config.name} on {fabric.device}, batch {stage.batch}", rows, result)


def _finish(fabric: Fabric) -> None:
    import torch

    if fabric.device.type == "cuda":
        torch.cuda.synchronize()


def _count_flops(stage: Any, batch: Any, step: int) -> float:
    """Return the floating-point operations of one forward and backward pass, by PyTorch's counter."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter:
        stage.update(batch, stage.offsets(step - 1), step - 1)
    return float(counter.get_total_flops())


def _convolution_peak(fabric: Fabric) -> float:
    """Return the operations per second of a large convolution, forward and backward, the best of ten."""
    import torch
    from torch import nn

    layer = nn.Conv2d(256, 256, 3, padding=1).to(fabric.device, memory_format=torch.channels_last)
    x = torch.randn(8, 256, 64, 64, device=fabric.device).to(memory_format=torch.channels_last).requires_grad_()
    best = float("inf")
    for _ in range(10):
        _finish(fabric)
        began = time.perf_counter()
        with fabric.autocast():
            layer(x).float().mean().backward()
        _finish(fabric)
        best = min(best, time.perf_counter() - began)
    return 3 * 2 * 8 * 64 * 64 * 256 * 256 * 9 / best
