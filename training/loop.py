"""The training loop that both stages share: progress, metrics, samples, checkpoints, resuming.

A stage brings its modules and one `update`; everything random in it is drawn from (seed, iteration), so a run that was
stopped and resumed gives the weights of one that never stopped.
"""

from __future__ import annotations

import copy
import ctypes
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from training.checkpoint import load_checkpoint, require_same_model, save_checkpoint
from training.config import Config
from training.footage import Batch, ClipSampler, Video
from training.generator import VideoGenerator
from training.sampling import write_samples


class Stage(Protocol):
    """One stage of training."""

    name: str
    iterations: int
    batch: int
    generator: VideoGenerator
    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]

    def prepare(self, clips: ClipSampler) -> None:
        """Read from the footage what the stage needs before its first iteration; not called when a run resumes."""
        ...

    def offsets(self, rng: np.random.Generator) -> list[int]:
        """Return which frames of a clip the next iteration wants."""
        ...

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        """Do one iteration and return its metrics."""
        ...


def keep_memory() -> None:
    """Tell glibc to keep freed memory instead of giving every large tensor back to the system.

    Fresh pages cost time: on two Zen 5 cores a 64-channel 3x3 convolution at 64x64, batch 8, forward and backward under
    bf16, went from 19 to 20 ms to 13 to 16 ms.
    """
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: never map a block of its own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never give the top back
        libc.mallopt(-2, 256 * 2**20)  # M_TOP_PAD
    except (OSError, AttributeError):
        return  # another libc: only slower


def train(stage: Stage, config: Config, videos: list[Video], held_out: list[Video], run: Path) -> None:
    """Run a stage to its end, resuming from `RUN/STAGE.pt` if that is there.

    Writes `RUN/STAGE.pt`, `RUN/metrics.jsonl`, TensorBoard events and `RUN/samples/`.
    """
    keep_memory()
    torch.set_num_threads(config.run.threads or os.cpu_count() or 1)
    run.mkdir(parents=True, exist_ok=True)
    path = run / f"{stage.name}.pt"
    sampler = ClipSampler(videos, config.footage, config.model.height, config.model.width, config.run.seed)
    if not path.exists():
        stage.prepare(sampler)
    ema = copy.deepcopy(stage.generator).eval().requires_grad_(False)
    start = 0
    if path.exists():
        content = load_checkpoint(path)
        require_same_model(path, content, config)
        for name, module in stage.modules.items():
            module.load_state_dict(content["modules"][name])
        for name, optimiser in stage.optimisers.items():
            optimiser.load_state_dict(content["optimisers"][name])
        ema.load_state_dict(content["ema"])
        start = content["iteration"]
        print(f"resuming {path} at iteration {start}")
    watcher = ClipSampler(held_out or videos, config.footage, config.model.height, config.model.width, config.run.seed)

    def draw(iteration: int) -> tuple[Batch, list[int]]:
        offsets = stage.offsets(np.random.default_rng((config.run.seed, 1, iteration)))
        return sampler.draw(iteration, stage.batch, offsets), offsets

    def save(iteration: int) -> None:
        save_checkpoint(
            path,
            {
                "stage": stage.name,
                "iteration": iteration,
                "config": config.to_dict(),
                "modules": {name: module.state_dict() for name, module in stage.modules.items()},
                "optimisers": {name: optimiser.state_dict() for name, optimiser in stage.optimisers.items()},
                "ema": ema.state_dict(),
                "footage": sorted({(v.name, v.licence, v.source) for v in videos}),
            },
        )

    _forget_metrics(run / "metrics.jsonl", stage.name, start)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns, TextColumn("{task.fields[note]}")) as progress,
        ThreadPoolExecutor(1) as loader,
        SummaryWriter(str(run / "tensorboard")) as board,
        (run / "metrics.jsonl").open("a", encoding="utf-8") as metrics_file,
    ):
        task = progress.add_task(stage.name, total=stage.iterations, completed=start, note="")
        ahead = loader.submit(draw, start)
        sums: dict[str, float] = {}
        for iteration in range(start, stage.iterations):
            batch, offsets = ahead.result()
            ahead = loader.submit(draw, iteration + 1)
            torch.manual_seed(config.run.seed * 1_000_003 + iteration)
            metrics = stage.update(batch, offsets, iteration)
            _average(ema, stage.generator, min(config.run.ema, (1 + iteration) / (10 + iteration)))
            for key, value in metrics.items():
                sums[key] = sums.get(key, 0.0) + value
            done = iteration + 1
            progress.update(task, advance=1)
            if done % config.run.log_every == 0:
                means = {key: value / config.run.log_every for key, value in sums.items()}
                sums = {}
                if not all(np.isfinite(value) for value in means.values()):
                    raise ValueError(
                        f"{stage.name} diverged at iteration {done}: {means}; lower the learning rate and resume"
                    )
                progress.update(task, note="  ".join(f"{key} {value:.3f}" for key, value in list(means.items())[:4]))
                line: dict[str, Any] = {"stage": stage.name, "iteration": done, **means}
                metrics_file.write(json.dumps(line) + "\n")
                metrics_file.flush()
                for key, value in means.items():
                    board.add_scalar(f"{stage.name}/{key}", value, done)
            if done % config.run.checkpoint_every == 0 or done == stage.iterations:
                save(done)
            if done % config.run.sample_every == 0 or done == stage.iterations:
                write_samples(ema, watcher, config, run / "samples" / f"{stage.name}-{done:06d}")


def _forget_metrics(path: Path, stage: str, start: int) -> None:
    """Drop the lines of iterations that are about to be done again, so that no figure mixes two runs."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if (entry := json.loads(line))["stage"] != stage or entry["iteration"] <= start]
    partial = path.with_suffix(".partial")
    partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    partial.replace(path)


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, current in zip(ema.parameters(), model.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)
