"""Checkpoints: atomic writing, strict reading, and loading a trained generator."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from training.atomic_file import written
from training.config import Config, config_from_dict
from training.model.generator import VideoGenerator
from training.sharded_checkpoint import (
    is_sharded,
    iteration_of,
    load_sharded,
    newest_folder,
    remove_folders,
    save_sharded,
)

VERSION = 4
HINTS = "condition.encoder.hints."  # in the names of weights that read motion hints
STAGES = ("pretrain", "finetune", "polish", "hints")


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write RUN/STAGE.pt atomically; it replaces the one from before, also if several processes have written that.

    Raises:
        OSError: it cannot be written; an earlier checkpoint of that name is kept.
    """
    # Through memory, because torch.save raises RuntimeError for a full disk.
    buffer = io.BytesIO()
    torch.save({"version": VERSION, **content}, buffer)
    try:
        with written(path) as partial:
            partial.write_bytes(buffer.getbuffer())
    except OSError as error:
        before = "the one from before is kept; " if path.exists() else ""
        raise OSError(
            f"the checkpoint {path} cannot be written ({error.strerror}): {before}make room and start the same command "
            "again"
        ) from None
    remove_folders(path)


def save_sharded_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write RUN/STAGE-ITERATION.dcp atomically, in all processes together; it replaces the one from before.

    Args:
        path: RUN/STAGE.pt.
        content: equal in all processes.

    Raises:
        OSError: it cannot be written; an earlier checkpoint is kept.
    """
    save_sharded(path, {"version": VERSION, **content})


def find_checkpoint(path: Path) -> Path | None:
    """Return what a stage has written last: RUN/STAGE.pt, or RUN/STAGE-ITERATION.dcp of several processes.

    Args:
        path: RUN/STAGE.pt, or one folder RUN/STAGE-ITERATION.dcp.

    Returns:
        The file or the folder; None if there is neither. Incomplete folders are ignored.
    """
    if is_sharded(path):
        return path
    folder = newest_folder(path)
    if folder is None or not path.is_file():
        return folder or (path if path.is_file() else None)
    # Both are there only if a process was killed between writing one and removing the other.
    return folder if iteration_of(folder) > int(_load_file(path)["iteration"]) else path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running code from it (no pickle).

    Args:
        path: RUN/STAGE.pt, also if several processes have written RUN/STAGE-ITERATION.dcp; or one such folder.

    Raises:
        ValueError: it is missing, damaged or of another version.
    """
    found = find_checkpoint(path)
    if found is None:
        raise ValueError(f"no checkpoint at {path}: train first")
    return _load_file(found) if found.is_file() else _checked(found, load_sharded(found))


def _load_file(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - torch raises many types for a damaged file
        raise ValueError(
            f"{path} is not a checkpoint or is damaged ({type(error).__name__}): delete it and train again"
        ) from None
    return _checked(path, content)


def _checked(path: Path, content: Any) -> dict[str, Any]:
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise ValueError(f"{path} is not a checkpoint of version {VERSION}: it was written by another release")
    if not {"stage", "iteration", "config", "ema"} <= set(content):
        raise ValueError(f"{path} is damaged: entries are missing; delete it and train again")
    return content


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load a state dictionary of a checkpoint into a module.

    A checkpoint from before motion hints has no weights that read them: those keep their initial values, with which
    the generator moves as it did.

    Raises:
        ValueError: names or shapes do not match the module.
    """
    own = module.state_dict()
    hints = [name for name in own if HINTS in name]
    if hints and not any(HINTS in name for name in weights):
        weights = weights | {name: own[name] for name in hints}
        _note_without_hints(path)
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:  # its text is a long list of names
        raise ValueError(
            f"the weights in {path} are not those of the model that it describes: it is damaged; delete it and train "
            "again"
        ) from error


@functools.cache
def _note_without_hints(path: Path) -> None:
    print(f"{path} was trained without motion hints: the layers that read them start untrained", flush=True)


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any], fresh: Collection[nn.Parameter]) -> None:
    """Load the state of an optimiser; one that did not have the parameters `fresh` yet starts without theirs."""
    ours, theirs = optimiser.state_dict()["param_groups"], state["param_groups"]
    if sum(len(group["params"]) for group in ours) == sum(len(group["params"]) for group in theirs):
        optimiser.load_state_dict(state)
        return
    known = {id(parameter) for parameter in fresh}
    numbers: dict[int, int] = {}  # number in the checkpoint -> number now
    groups = []
    for group, now, before in zip(optimiser.param_groups, ours, theirs, strict=True):
        kept = [number for part, number in zip(group["params"], now["params"], strict=True) if id(part) not in known]
        numbers |= dict(zip(before["params"], kept, strict=True))
        groups.append({**before, "params": now["params"]})
    moved = {numbers[number]: values for number, values in state["state"].items()}
    optimiser.load_state_dict({"state": moved, "param_groups": groups})


def part_of(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names start with a prefix, without it."""
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


PLAYED = (
    "mixing",
    "pace",
    "period_frames",
    "sharpness",
)  # keys of [model] that change how a generator plays, but no tensor
WEIGHTLESS = (*PLAYED, "components", "height", "width")  # keys of [model] that no weight depends on
OPTIONAL = (HINTS,)  # prefixes of the generator's weights that older ones lack: they start anew


def is_optional(name: str) -> bool:
    """Return whether a weight of the generator may be missing; it then keeps its initial value."""
    return name.startswith(OPTIONAL)


def require_same_model(
    path: Path, content: dict[str, Any], config: Config, *, weights_only: bool = False, played: bool = False
) -> None:
    """Raise ValueError unless the checkpoint was trained with the same [model] section.

    Args:
        path: of the checkpoint.
        content: of the checkpoint.
        config: of the run that loads it.
        weights_only: ignore keys that no weight depends on.
        played: ignore keys that change how a generator plays, but no tensor.
    """
    theirs, ours = content["config"]["model"], dataclasses.asdict(config.model)
    ignored = WEIGHTLESS if weights_only else PLAYED if played else ()
    differing = [key for key in ours if key not in ignored and theirs.get(key) != ours[key]]
    if differing:
        key = differing[0]
        raise ValueError(
            f"{path} was trained with model.{key} = {theirs.get(key)}, the configuration says {ours[key]}: "
            "use the configuration of that run, or another --out"
        )


def require_same_encoder(path: Path, content: dict[str, Any], config: Config) -> None:
    """Raise ValueError unless the checkpoint's encoder has the same size."""
    theirs = content["config"]["model"]
    for key in ("encoder_scale", "encoder_depth"):
        if theirs.get(key) != getattr(config.model, key):
            raise ValueError(
                f"{path} was trained with model.{key} = {theirs.get(key)}, the configuration says "
                f"{getattr(config.model, key)}: an encoder of another size cannot be loaded"
            )


def newest_checkpoint(run: Path, stages: Sequence[str] = STAGES) -> Path:
    """Return the checkpoint of the latest of some stages in a run folder."""
    for stage in reversed(stages):
        if path := find_checkpoint(run / f"{stage}.pt"):
            return path
    *names, last = [f"{stage}.pt" for stage in reversed(stages)]
    raise ValueError(f"no checkpoint in {run}: expected {', '.join(names)} or {last}; train first")


def load_generator(run: Path) -> tuple[VideoGenerator, Config, dict[str, Any]]:
    """Return the averaged (EMA) generator of a run, its configuration and other facts of the checkpoint.

    Args:
        run: a run's folder, of which the newest checkpoint is read, or a checkpoint.

    Raises:
        ValueError: there is no checkpoint in it.
    """
    path = run if run.is_file() or is_sharded(run) else newest_checkpoint(run)
    content = load_checkpoint(path)
    config = config_from_dict(content["config"], str(path))
    generator = VideoGenerator(config.model)
    load_weights(generator, part_of(content["ema"], "generator."), path)
    facts = {key: content[key] for key in ("stage", "iteration", "footage", "data", "words")}
    facts["vocabulary"] = content.get("vocabulary", [])  # of captions, if there are any
    facts["start"] = content.get("start")  # what the training started from, if that was a trained generator
    return generator.eval(), config, facts
