"""The contact sheet of an imported bundle, preview.png: the golden frames, each beside what the model was given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from export.from_onnx.parity import OriginalRun, Pixels

PREVIEW = "preview.png"
_WIDTH = 480  # pixels of one picture at most
_GAP = 4  # pixels between pictures


def write_preview(folder: Path, run: OriginalRun, numbers: Sequence[int]) -> None:
    """Write preview.png: a row per frame with the prompt's image, the live input (each if there is one) and the frame.

    Args:
        folder: the bundle.
        run: frames and inputs of the original.
        numbers: the frames to show, from 1.
    """
    from PIL import Image

    height, width = run.frames[0].shape[:2]
    size = min(width, _WIDTH), max(1, round(height * min(1.0, _WIDTH / width)))
    rows = []
    for number in numbers:
        shown: list[Pixels] = [] if run.image is None else [run.image]
        if run.live is not None:
            shown.append(run.live[(number - 1) % len(run.live)])
        shown.append(run.frames[number - 1])
        cells = [np.asarray(Image.fromarray(picture).resize(size)) for picture in shown]
        rows.append(np.concatenate([np.pad(cell, ((0, _GAP), (0, _GAP), (0, 0))) for cell in cells], axis=1))
    sheet = np.concatenate(rows)[:-_GAP, :-_GAP]
    Image.fromarray(sheet).save(folder / PREVIEW, optimize=True)
