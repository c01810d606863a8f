"""The training loop of all stages: progress, metrics, held-out measures, samples, checkpoints, resuming.

A stage has modules and an `update`. Its random numbers depend on (seed, iteration) alone, so a run that was stopped and
resumed has the same weights as one that was not.
"""

from __future__ import annotations

import contextlib
import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from lightning.fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import nn

from training.atomic_file import write_text
from training.checkpoint import (
    HINTS,
    find_checkpoint,
    load_checkpoint,
    load_optimiser,
    load_weights,
    save_checkpoint,
    save_sharded_checkpoint,
)
from training.config import Config
from training.data.footage import Batch, ClipSampler
from training.data.loading import load_batches
from training.progress import ProgressLines
from training.sampling import write_samples
from training.stages.losses import DivergenceError
from training.tensorboard import TensorBoardLog


class TrainingStage(Protocol):
    """One stage of training."""

    name: str
    iterations: int
    batch: int  # of all processes together
    modules: dict[str, nn.Module]
    is_shown: bool  # whether to write samples of the generator
    averaged: nn.Module  # its moving average is the result; has the attribute `generator`
    optimisers: dict[str, torch.optim.Optimizer]

    def setup(self, fabric: Fabric) -> None:
        """Set up modules and optimisers with Fabric."""
        ...

    def check(self, path: Path, content: dict[str, Any]) -> None:
        """Raise ValueError if this stage cannot resume from a checkpoint."""
        ...

    def prepare(self, clips: ClipSampler) -> None:
        """Read what the stage needs from the footage before its first iteration; not called for a resumed run."""
        ...

    def offsets(self, step: int) -> list[int]:
        """Return the frames that a step needs of each clip, counted from its first."""
        ...

    stop_reason: str  # one sentence if the stage must stop, else empty
    rewinds: int  # how often the stage may go back to the last checkpoint after divergence

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        """Do one iteration on this process's rows and return the metrics of all.

        Raises:
            DivergenceError: training has diverged.
        """
        ...

    def refresh(self, averaged: nn.Module) -> None:
        """Update what the averaged module reads from the footage, before it is saved or sampled."""
        ...

    def extra_state(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores besides weights, as plain data."""
        ...

    def load_extra_state(self, content: dict[str, Any]) -> None:
        """Restore what `extra_state` returned."""
        ...

    def slow_down(self) -> None:
        """Reduce the learning rate; called after a rewind."""
        ...


def train(
    stage: TrainingStage,
    config: Config,
    fabric: Fabric,
    clips: ClipSampler,
    held_out: ClipSampler,
    run: Path,
    facts: dict[str, Any],
    note: dict[str, Any],
    evaluate: Callable[[nn.Module, int, TensorBoardLog], None] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Run a stage to its end; resumes from its checkpoint in RUN if there is one.

    Writes `RUN/STAGE.pt`, `RUN/metrics.jsonl`, TensorBoard events and `RUN/samples/`. In a distributed run only the
    first process writes, but for checkpoints: all write `RUN/STAGE-ITERATION.dcp` together, and `RUN/STAGE.pt` comes at
    the end. Any number of processes resumes from either.

    Args:
        stage: the stage.
        config: its configuration.
        fabric: launched.
        clips: training clips.
        held_out: clips for samples.
        run: the run's folder.
        facts: entries for every checkpoint.
        note: content of `RUN/run.json`.
        evaluate: called with the averaged module, the iteration and the TensorBoard log; every `run.evaluate_every`
            iterations and at the end.
        clock: returns seconds, for throughput.
    """
    run.mkdir(parents=True, exist_ok=True)
    path = run / f"{stage.name}.pt"
    resumed = find_checkpoint(path) is not None
    if not resumed:
        stage.prepare(clips)
    stage.setup(fabric)
    ema = copy.deepcopy(stage.averaged).eval().requires_grad_(False)

    def load() -> int:
        found = find_checkpoint(path) or path
        content = load_checkpoint(found)
        stage.check(found, content)
        if "modules" not in content:
            raise ValueError(
                f"{found} holds averaged weights alone (it is from kept/): it can be exported, but not trained; "
                "name another --out"
            )
        every = (pair for module in stage.modules.values() for pair in module.named_parameters())
        fresh = [parameter for name, parameter in every if HINTS in name]
        for name, module in stage.modules.items():
            load_weights(module, content["modules"][name], found)
        for name, optimiser in stage.optimisers.items():
            load_optimiser(optimiser, content["optimisers"][name], fresh)
        load_weights(ema, content["ema"], found)
        stage.load_extra_state(content["extra"])
        iteration = int(content["iteration"])
        if fabric.is_global_zero:
            print(f"resuming {found} at iteration {iteration}", flush=True)
        return iteration

    start = load() if resumed else 0
    if fabric.is_global_zero:
        write_text(run / "run.json", json.dumps(note, indent=1))
    fabric.barrier()
    if stage.stop_reason:
        print(f"{stage.name} was stopped at iteration {start}: {stage.stop_reason}")
        return

    def save(iteration: int, is_last: bool) -> None:
        is_sharded = fabric.world_size > 1 and not is_last
        if not (is_sharded or fabric.is_global_zero):
            return
        content = {
            "stage": stage.name,
            "iteration": iteration,
            "config": config.to_dict(),
            "ema": ema.state_dict(),
            **facts,
        }
        if config.run.keep_every and iteration % config.run.keep_every == 0 and fabric.is_global_zero:
            kept = run / "kept" / f"{stage.name}-{iteration:06d}"
            kept.mkdir(parents=True, exist_ok=True)
            save_checkpoint(kept / f"{stage.name}.pt", content)
        content["modules"] = {name: module.state_dict() for name, module in stage.modules.items()}
        content["optimisers"] = {name: optimiser.state_dict() for name, optimiser in stage.optimisers.items()}
        content["extra"] = stage.extra_state()
        if is_sharded:
            save_sharded_checkpoint(path, content)
        else:
            save_checkpoint(path, content)

    rewinds = stage.rewinds
    while True:
        log = _Log(run, stage, start, config, enabled=fabric.is_global_zero)
        try:
            _iterate(stage, config, fabric, clips, held_out, run, ema, start, log, save, evaluate, clock)
            break
        except DivergenceError as error:
            if not find_checkpoint(path) or not rewinds:
                raise ValueError(
                    f"{error}; lower the learning rate and resume"
                    if find_checkpoint(path)
                    else f"{error}, before the first checkpoint: lower the learning rate and start again"
                ) from None
            rewinds -= 1
            start = load()
            stage.slow_down()
            if fabric.is_global_zero:
                print(
                    f"DIVERGED: {error}. Going back to iteration {start} with half the learning rate; "
                    f"{rewinds} rewinds are left",
                    flush=True,
                )
    fabric.barrier()


def _iterate(
    stage: TrainingStage,
    config: Config,
    fabric: Fabric,
    clips: ClipSampler,
    held_out: ClipSampler,
    run: Path,
    ema: nn.Module,
    start: int,
    log: _Log,
    save: Callable[[int, bool], None],
    evaluate: Callable[[nn.Module, int, TensorBoardLog], None] | None,
    clock: Callable[[], float],
) -> None:
    """Run iterations from `start` on, until the end or until the stage says stop."""
    loading = load_batches(
        clips, stage.offsets, stage.batch, start, stage.iterations, fabric.global_rank, fabric.world_size,
        config.run.workers,
    )  # fmt: skip
    with log, loading as batches:
        began, waited, logged = clock(), 0.0, start
        for iteration, batch in enumerate(batches, start):
            torch.manual_seed(config.run.seed * 1_000_003 + iteration)
            metrics = stage.update(batch, stage.offsets(iteration), iteration)
            _average(ema, stage.averaged, min(config.run.ema, (1 + iteration) / (10 + iteration)))
            done = iteration + 1
            log.add(metrics)
            if done == 1 or done % config.run.log_every == 0:
                seconds = max(clock() - began, 1e-9)
                log.write(
                    done,
                    clips_per_second=stage.batch * (done - logged) / seconds,
                    data_wait=(batches.waited - waited) / seconds,
                )
                began, waited, logged = clock(), batches.waited, done
            is_last = done == stage.iterations or bool(stage.stop_reason)
            paused = clock()
            is_shown = stage.is_shown and (done % config.run.sample_every == 0 or is_last)
            is_saved = done % config.run.checkpoint_every == 0 or is_last
            if config.run.keep_every:
                is_saved = is_saved or done % config.run.keep_every == 0
            if is_saved or is_shown:
                stage.refresh(ema)
            if is_saved:
                save(done, is_last)
            if evaluate is not None and fabric.is_global_zero and (done % config.run.evaluate_every == 0 or is_last):
                evaluate(ema, done, log.board)
            if is_shown and fabric.is_global_zero:
                write_samples(ema.generator, held_out, config, run / "samples" / f"{stage.name}-{done:06d}")
            began += clock() - paused  # throughput excludes saving and evaluating
            if stage.stop_reason:
                print(f"STOPPED at iteration {done}: {stage.stop_reason}", flush=True)
                break


class _Log:
    """Writes progress, metrics.jsonl and TensorBoard events; only checks for divergence if not enabled."""

    def __init__(self, run: Path, stage: TrainingStage, start: int, config: Config, enabled: bool) -> None:
        self.stage, self.config, self.enabled = stage, config, enabled
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}  # not every iteration has every metric
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console()
        self.is_bar = enabled and console.is_terminal
        self.progress = Progress(*columns, TextColumn("{task.fields[note]}"), console=console, disable=not self.is_bar)
        self.bar = self.progress.add_task(stage.name, total=stage.iterations, completed=start, note="")
        self.run, self.start = run, start

    def __enter__(self) -> _Log:
        if self.enabled:
            path = self.run / "metrics.jsonl"
            forget(path, self.stage.name, self.start)
            self.board = TensorBoardLog(self.run, self.stage.name, self.start)
            self.file = path.open("a", encoding="utf-8")
            self.progress.start()
            if not self.is_bar:
                self.lines = ProgressLines(self.stage.name, self.stage.iterations, self.start)
        return self

    def __exit__(self, *exc: object) -> None:
        if self.enabled:
            self.progress.stop()
            self.file.close()
            self.board.close()

    def add(self, metrics: dict[str, float]) -> None:
        for key, value in metrics.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
            self.counts[key] = self.counts.get(key, 0) + 1
        if self.is_bar:
            self.progress.update(self.bar, advance=1)
        elif self.enabled:
            self.lines.advance()

    def write(self, iteration: int, **more: float) -> None:
        means = {key: value / self.counts[key] for key, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        if not all(np.isfinite(value) for value in means.values()):
            raise DivergenceError(f"{self.stage.name} diverged at iteration {iteration}: {means}")
        if not self.enabled:
            return
        self.progress.update(self.bar, note="  ".join(f"{key} {value:.3f}" for key, value in list(means.items())[:4]))
        line: dict[str, Any] = {"stage": self.stage.name, "iteration": iteration, **means, **more}
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        self.board.add_scalars(iteration, means | more)


def forget(path: Path, stage: str, start: int) -> None:
    """Drop the lines of iterations that will be repeated, so that no iteration is logged twice."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):  # truncated by a full disk or a crash
            entry = json.loads(line)
            if entry["stage"] != stage or entry["iteration"] <= start:
                kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, current in zip(ema.parameters(), model.parameters(), strict=True):
        mean.lerp_(current, 1 - decay)
