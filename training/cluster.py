"""Trains in the workers of a Ray cluster: `python -m training pretrain ... --cluster ADDRESS --workers N`.

Ray Train starts the workers, connects their processes, and starts all of them again if one fails. They run the same
command as a single process and resume from the checkpoint in RUN. Imported only for --cluster.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would send statistics to its makers
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")  # the default since Ray 2.51
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # else a local cluster shows every line of progress twice

import ray
from ray.train import (
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
    UserCallback,
    WorkerGroupError,
)
from ray.train.torch import TorchTrainer

from training.data.loading import require_shareable
from training.stages import command

KINDS = {True: "GPU", False: "CPU"}


def run(arguments: argparse.Namespace) -> None:
    """Train a stage in a cluster to its end.

    Args:
        arguments: of `python -m training`; `cluster` is an address, "auto" or "local", `workers` a number or None.

    Raises:
        ValueError: there is no such cluster, a worker found a mistake of the user, or workers failed too often.
    """
    config, _ = command.configuration(arguments)  # its mistakes are found before anything starts
    _connect(arguments.cluster, arguments.workers or 1)
    try:
        workers = arguments.workers or _default_workers(arguments.use_gpu)
        require_shareable(config.pretrain.batch, workers)
        _tell_shortage(workers, arguments.use_gpu)
        settings = {key: _absolute(value) for key, value in vars(arguments).items()}
        trainer = TorchTrainer(
            work,
            train_loop_config=settings,
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=arguments.use_gpu),
            run_config=RunConfig(
                storage_path=str(settings["out"] / "ray"),
                failure_config=FailureConfig(max_failures=arguments.retries),
                callbacks=[_Mistakes()],
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise ValueError(_sentence(error, arguments.retries)) from None
    finally:
        ray.shutdown()


def work(settings: dict[str, Any]) -> None:
    """Train in one worker of the cluster; called by Ray Train."""
    from ray.train.lightning import RayLightningEnvironment

    command.run(argparse.Namespace(**settings, environment=RayLightningEnvironment()))


class _Mistakes(UserCallback):
    """Ends the training when a worker has found a mistake of the user: trying again would find the same one."""

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        del run_context
        for error in worker_exceptions.values():
            if isinstance(_original(error), ValueError):
                raise _original(error)


def _original(error: Exception) -> Exception:
    """Return what the worker raised, without Ray's wrapping."""
    found: Exception = getattr(error, "_base_exc", error)
    return found


def _sentence(error: Exception, retries: int) -> str:
    if isinstance(error, ControllerError):
        return str(error.controller_failure)
    if isinstance(error, WorkerGroupError):
        rank, first = min(error.worker_failures.items())
        last = str(_original(first)).strip().splitlines() or [""]
        return (
            f"workers failed {retries + 1} times, at last worker {rank} with {type(_original(first)).__name__}: "
            f"{last[0]}; the same command resumes from the last checkpoint"
        )
    return str(error)


def _connect(address: str, workers: int) -> None:
    if address.startswith("ray://"):
        raise ValueError(
            f"--cluster {address} is the address of a Ray client: start the command on a machine of the cluster with "
            "--cluster auto, or with `ray job submit`"
        )
    options: dict[str, Any] = {"address": address}
    if address == "local":
        options["num_cpus"] = max(workers, os.cpu_count() or 1)
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no Ray cluster at {address} ({reason}): start one with `ray start --head`, or write --cluster local to "
            "train on this machine alone"
        ) from None


def _default_workers(use_gpu: bool) -> int:
    """Return one worker for each GPU, or for each machine if the training does not use GPUs."""
    if use_gpu:
        return max(1, int(ray.cluster_resources().get("GPU", 0)))
    return max(1, sum(bool(node["Alive"]) for node in ray.nodes()))


def _tell_shortage(workers: int, use_gpu: bool) -> None:
    """Say that Ray will wait if the cluster is too small now; it may grow."""
    kind = KINDS[use_gpu]
    there = int(ray.cluster_resources().get(kind, 0))
    if there < workers:
        print(
            f"the cluster has {there} {kind}s, {workers} workers need {workers}: waiting for more machines", flush=True
        )


def _absolute(value: Any) -> Any:
    return value.resolve() if isinstance(value, Path) else value
