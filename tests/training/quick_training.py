"""The command of training, without samples: what the tests start in several processes.

python -m torch.distributed.run --nproc-per-node=2 tests/training/quick_training.py pretrain ...

With KILL=RANK:ITERATION:FILE in the environment, the process of this rank writes the file and kills itself (SIGKILL) in
this iteration, counted from 0; not if the file exists. With READ=FOLDER every process writes the digest of the
checkpoint that it has loaded to FOLDER/RANK.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from training import loop
from training.__main__ import main
from training.data.footage import Batch
from training.stages.pretrain import PretrainStage


def digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a checkpoint's tensors and other values."""
    found = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.update(
                repr((value.shape, value.dtype)).encode() + value.flatten().view(torch.uint8).numpy().tobytes()
            )
        elif isinstance(value, dict):
            for key, part in value.items():
                found.update(repr(key).encode())
                add(part)
        elif isinstance(value, list | tuple):
            for part in value:
                add(part)
        else:
            found.update(repr(value).encode())

    add(content)
    return found.hexdigest()


def note_loaded(folder: Path) -> None:
    """Write the digest of what this process loads."""
    load = loop.load_checkpoint

    def noted(path: Path) -> dict[str, Any]:
        content = load(path)
        (folder / os.environ["RANK"]).write_text(digest(content))
        return content

    loop.load_checkpoint = noted


def prepare(kill: str) -> None:
    """Leave out the samples; let the process that `kill` names kill itself after its gradients have been shared."""
    loop.write_samples = lambda *_: None
    if not kill:
        return
    rank, doomed, name = kill.split(":", 2)
    update, file = PretrainStage.update, Path(name)

    def deadly(self: PretrainStage, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        found = update(self, batch, offsets, iteration)
        if iteration == int(doomed) and self.fabric.global_rank == int(rank) and not file.exists():
            file.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    PretrainStage.update = deadly  # type: ignore[method-assign]


def prepare_workers(kill: str) -> None:
    """Do the same in the workers of a cluster."""
    from training import cluster

    work = cluster.work

    def prepared(settings: dict[str, Any]) -> None:
        prepare(kill)
        work(settings)

    cluster.work = prepared


if __name__ == "__main__":
    prepare(os.environ.get("KILL", ""))
    if "--cluster" in sys.argv:
        prepare_workers(os.environ.get("KILL", ""))
    if "READ" in os.environ:
        note_loaded(Path(os.environ["READ"]))
    sys.exit(main())
