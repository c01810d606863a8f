"""The command of training, without samples: what the tests start in several processes.

python -m torch.distributed.run --nproc-per-node=2 tests/training/quick_training.py pretrain ...

With KILL=RANK:ITERATION in the environment, the process of this rank kills itself (SIGKILL) in this iteration, counted
from 0.
"""

from __future__ import annotations

import os
import signal
import sys

from training import loop
from training.__main__ import main
from training.data.footage import Batch
from training.stages.pretrain import PretrainStage


def kill_at(rank: int, doomed: int) -> None:
    """Let the process of a rank kill itself in an iteration, after its gradients have been shared."""
    update = PretrainStage.update

    def deadly(self: PretrainStage, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        found = update(self, batch, offsets, iteration)
        if iteration == doomed and self.fabric.global_rank == rank:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    PretrainStage.update = deadly  # type: ignore[method-assign]


if __name__ == "__main__":
    loop.write_samples = lambda *_: None
    if "KILL" in os.environ:
        kill_at(*map(int, os.environ["KILL"].split(":")))
    sys.exit(main())
