"""The command of training, without samples: what `test_runs` starts in several processes.

python -m torch.distributed.run --nproc-per-node=2 tests/training/quick_training.py pretrain ...
"""

from __future__ import annotations

import sys

from training import loop
from training.__main__ import main

if __name__ == "__main__":
    loop.write_samples = lambda *_: None
    sys.exit(main())
