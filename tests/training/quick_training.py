"""The command of training, without samples: what the tests start in several processes.

python -m torch.distributed.run --nproc-per-node=2 tests/training/quick_training.py pretrain ...

With KILL=RANK:ITERATION:FILE in the environment, the process of this rank writes the file and kills itself (SIGKILL) in
this iteration, counted from 0; not if the file exists.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from training import loop
from training.__main__ import main
from training.data.footage import Batch
from training.stages.pretrain import PretrainStage


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
    sys.exit(main())
