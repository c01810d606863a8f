"""What stages of single networks write beside their checkpoints: figures and pictures of held-out crops."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from training.atomic_file import written


def note_figures(file: Path, stage: str, iteration: int, values: Mapping[str, float]) -> None:
    """Add a line of JSON with the figures of an iteration to a file."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps({"stage": stage, "iteration": iteration, **values}) + "\n")


def write_sheet(out: Path, stage: str, iteration: int, rows: Sequence[Tensor]) -> None:
    """Write `OUT/samples/STAGE-ITERATION.png`: rows of pictures, each (B, 3, H, W) RGB in [0, 1], all of one size."""
    sheet = torch.cat([torch.cat(list(row), dim=2) for row in rows], dim=1)
    pixels = np.asarray((sheet.permute(1, 2, 0) * 255).round().byte())
    (out / "samples").mkdir(exist_ok=True)
    with written(out / "samples" / f"{stage}-{iteration:06d}.png") as partial:
        cv2.imwrite(str(partial), cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
