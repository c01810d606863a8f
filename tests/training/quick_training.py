"""The command of training, without samples and the report: what `test_runs` starts in several processes.

python -m torch.distributed.run --nproc-per-node=2 tests/training/quick_training.py pretrain ...
"""

from __future__ import annotations

import sys
from pathlib import Path

from training import loop
from training.__main__ import main
from training.stages import command as stages

if __name__ == "__main__":
    loop.write_samples = lambda *_: None
    stages.write_report = lambda folder: Path(folder) / "report.html"
    sys.exit(main())
