"""Files of exact optical flow: `FOLDER/flow/NAME.npz` beside `FOLDER/NAME.mp4`."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from training.atomic_file import written
from training.made.scene import Mask, Plane, Still

BLOCK = 4  # pixels of a side of the blocks that the flow is averaged over
_MIN_VALID = 0.75  # share of a block that has to be valid


def block_flow(still: Still) -> tuple[npt.NDArray[np.float16], Mask]:
    """Return the mean flow of the valid pixels of each block, and which blocks are valid.

    Args:
        still: a frame of H x W pixels, multiples of 4.

    Returns:
        (2, H / 4, W / 4) float16, x and y in pixels from this frame to the next, 0 where nothing is valid; and
        (H / 4, W / 4) bool, whether at least 3/4 of the block's pixels are valid.
    """
    size = (still.valid.shape[1] // BLOCK, still.valid.shape[0] // BLOCK)
    known = still.valid.astype(np.float32)
    share = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
    total = cv2.resize(np.where(still.valid[..., np.newaxis], still.flow, 0), size, interpolation=cv2.INTER_AREA)
    mean = total / np.maximum(share, 1e-6)[..., np.newaxis]
    return mean.transpose(2, 0, 1).astype(np.float16), share >= _MIN_VALID


def write_flow(path: Path, blocks: list[tuple[npt.NDArray[np.float16], Mask]]) -> None:
    """Write what `block_flow` returned for each frame that has a next one; atomically."""
    flow, valid = (np.stack(parts) for parts in zip(*blocks, strict=True))
    with written(path) as partial:
        np.savez_compressed(partial, flow=flow, valid=valid)


def read_flow(path: Path) -> tuple[Plane, Mask]:
    """Read a file of exact flow.

    Args:
        path: a file `flow/NAME.npz` of made footage with T frames of H x W pixels.

    Returns:
        flow: (T - 1, 2, H / 4, W / 4) float32, x (to the right) and y (down), pixels of the video from each frame to
            the next, the mean over blocks of 4 x 4 pixels.
        valid: (T - 1, H / 4, W / 4) bool, where the flow is defined.

    Raises:
        ValueError: there is no such file, or it is not one of exact flow.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            flow, valid = file["flow"], file["valid"]
    except FileNotFoundError:
        raise ValueError(f"no {path}: name a file that `python -m training footage` has made") from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read as exact flow: {error}; delete it and make it again") from None
    if flow.dtype != np.float16 or flow.ndim != 4 or valid.dtype != bool or flow[:, 0].shape != valid.shape:
        raise ValueError(
            f"{path} has a flow of {flow.dtype} {flow.shape} and a mask of {valid.dtype} {valid.shape}, expected "
            "float16 (T - 1, 2, H / 4, W / 4) and bool (T - 1, H / 4, W / 4)"
        )
    return flow.astype(np.float32), valid
