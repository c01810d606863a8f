"""How many damaged files a test makes, and with which seed: the test's own numbers, or those of the environment.

DAMAGED_FILES=2000 DAMAGED_SEED=7 pytest tests/export/from_onnx/test_damaged_models.py
"""

from __future__ import annotations

import os


def damaged_count(usual: int) -> int:
    """Return the number of damaged files of each kind."""
    return int(os.environ.get("DAMAGED_FILES") or usual)


def damaged_seed(usual: int) -> int:
    """Return the seed of the damage."""
    return int(os.environ.get("DAMAGED_SEED") or usual)
