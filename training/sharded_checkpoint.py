"""Checkpoints of several processes: every process writes its share, with torch.distributed.checkpoint (DCP).

    RUN/pretrain-000050.dcp/
        content.pt     everything but the values of tensors
        __0_0.distcp   values; one file for each process
        .metadata      which values are in which file

The folder is written under another name and renamed, and only then is the one from before removed. Reading does not
depend on the number of processes, neither of those that wrote nor of those that read.
"""

from __future__ import annotations

import io
import pathlib
import pickle
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import _StorageInfo

SUFFIX = ".dcp"
PARTIAL = ".partial"
CONTENT, METADATA = "content.pt", ".metadata"


def folder_of(path: Path, iteration: int) -> Path:
    """Return the folder of an iteration, for the file RUN/STAGE.pt that one process would write."""
    return path.with_name(f"{path.stem}-{iteration:06d}{SUFFIX}")


def is_sharded(path: Path) -> bool:
    """Return whether a path is a complete folder of a checkpoint."""
    return (
        path.suffix == SUFFIX
        and not path.stem.endswith(PARTIAL)
        and (path / CONTENT).is_file()
        and (path / METADATA).is_file()
    )


def newest_folder(path: Path) -> Path | None:
    """Return the folder of the highest iteration beside RUN/STAGE.pt; None if none is complete."""
    found = [folder for folder in _folders(path) if is_sharded(folder)]
    return max(found, key=iteration_of, default=None)


def iteration_of(folder: Path) -> int:
    """Return the iteration that the name of a folder says."""
    return int(folder.stem.rpartition("-")[2])


def remove_folders(path: Path, but: Path | None = None) -> None:
    """Remove the folders beside RUN/STAGE.pt, also incomplete ones, but for one."""
    for folder in _folders(path):
        if folder != but:
            shutil.rmtree(folder, ignore_errors=True)


def _folders(path: Path) -> list[Path]:
    name = re.compile(rf"{re.escape(path.stem)}-\d+(\.partial)?{re.escape(SUFFIX)}")
    return [folder for folder in path.parent.glob(f"*{SUFFIX}") if name.fullmatch(folder.name)]


def save_sharded(path: Path, content: dict[str, Any]) -> None:
    """Write RUN/STAGE-ITERATION.dcp and remove what it replaces: older folders and RUN/STAGE.pt.

    Called by all processes, with equal content. Each writes about the same share of the tensors.

    Args:
        path: RUN/STAGE.pt, the file that one process would write.
        content: nested dictionaries, lists and tuples with tensors; "iteration" is in it.

    Raises:
        OSError: it cannot be written; the checkpoint from before is kept.
    """
    folder = folder_of(path, int(content["iteration"]))
    partial = folder.with_name(f"{folder.stem}{PARTIAL}{SUFFIX}")
    tensors: dict[str, Tensor] = {}
    outline = _mapped(content, lambda name, tensor: tensors.setdefault(name, tensor.detach()).to("meta"))

    def begin() -> None:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        partial.mkdir(parents=True)
        buffer = io.BytesIO()
        torch.save(outline, buffer)
        (partial / CONTENT).write_bytes(buffer.getbuffer())

    def finish() -> None:
        shutil.rmtree(folder, ignore_errors=True)  # an incomplete one of the same name
        partial.rename(folder)
        path.unlink(missing_ok=True)
        remove_folders(path, but=folder)

    try:
        _in_first_process(begin)
        with _without_notes():
            dcp.save(tensors, storage_writer=dcp.FileSystemWriter(partial), no_dist=not _is_distributed())
        _in_first_process(finish)
    except (OSError, CheckpointException) as error:
        shutil.rmtree(partial, ignore_errors=True)
        before = "the one from before is kept; " if path.exists() or newest_folder(path) else ""
        raise OSError(
            f"the checkpoint {folder} cannot be written ({_reason(error)}): {before}make room and start the same "
            "command again"
        ) from None


def load_sharded(folder: Path) -> dict[str, Any]:
    """Read the whole content of a folder, in any number of processes, without running code from it.

    Raises:
        ValueError: it is damaged.
    """
    try:
        outline = torch.load(folder / CONTENT, weights_only=True)
        tensors: dict[str, Tensor] = {}
        _mapped(outline, lambda name, tensor: tensors.setdefault(name, torch.empty_like(tensor, device="cpu")))
        with _without_notes():
            dcp.load(tensors, storage_reader=_Reader(folder), no_dist=True)
    except (Exception, CheckpointException) as error:  # noqa: BLE001 - torch raises many types for a damaged file
        raise ValueError(
            f"{folder} is not a checkpoint or is damaged ({_reason(error)}): delete it and train again"
        ) from None
    content = _mapped(outline, lambda name, _: tensors[name])
    assert isinstance(content, dict)
    return content


def _mapped(value: Any, change: Callable[[str, Tensor], Tensor], name: str = "") -> Any:
    """Return nested data with its tensors changed; `change` gets their names, which are unique, and the tensors."""
    if isinstance(value, Tensor):
        return change(name, value)
    if isinstance(value, dict):
        return {key: _mapped(part, change, f"{name}/{key}") for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(part, change, f"{name}/{number}") for number, part in enumerate(value))
    return value


class _Reader(dcp.FileSystemReader):
    """Reads DCP's metadata, which is a pickle, without anything in it that is not metadata of tensors."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
        del args, kwargs
        with (Path(self.path) / METADATA).open("rb") as file:
            metadata = _MetadataUnpickler(file).load()
        # DCP would unpickle other objects without a check.
        if not all(
            isinstance(entry, dcp_metadata.TensorStorageMetadata) for entry in metadata.state_dict_metadata.values()
        ):
            raise ValueError("it holds more than tensors")
        files = {Path(entry.relative_path) for entry in metadata.storage_data.values()}
        if any(len(file.parts) != 1 for file in files):
            raise ValueError("it names files of another folder")
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(found := getattr(torch, name, None), torch.dtype):
            return found
        if module.startswith("pathlib") and name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"):
            return getattr(pathlib, f"Pure{name.removeprefix('Pure')}")  # where it was written, maybe on another system
        if module == dcp_metadata.__name__:
            found = getattr(dcp_metadata, name, None)
            if isinstance(found, type) and found.__module__ == module:
                return found
        known = {"torch": {"Size": torch.Size}, _StorageInfo.__module__: {"_StorageInfo": _StorageInfo}}
        known["torch.serialization"] = {"_get_layout": torch.serialization._get_layout}
        try:
            return known[module][name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def _reason(error: BaseException) -> str:
    """Return what to say about an error, of which DCP may have collected one per process."""
    if isinstance(error, CheckpointException):
        first, _ = next(iter(error.failures.values()))
        return _reason(first)
    return error.strerror or str(error) if isinstance(error, OSError) else type(error).__name__


def _is_distributed() -> bool:
    return bool(torch.distributed.is_available() and torch.distributed.is_initialized())


def _in_first_process(step: Callable[[], None]) -> None:
    """Do a step in the first process while the others wait; if it fails, raise OSError in all."""
    reason = [""]
    if not _is_distributed() or torch.distributed.get_rank() == 0:
        try:
            step()
        except OSError as error:
            reason = [_reason(error)]
    if _is_distributed():
        torch.distributed.broadcast_object_list(reason)
    if reason[0]:
        raise OSError(reason[0])


class _without_notes(warnings.catch_warnings):  # noqa: N801 - used like a function
    """Ignore DCP's notes about running in a single process."""

    def __enter__(self) -> Any:
        found = super().__enter__()
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        return found
