"""Parts of the manifest that our own export and the ONNX import both write: controls and golden files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Entry = dict[str, Any]
Pixels = npt.NDArray[np.uint8]
MAX_SEED = 2**32 - 1


def control_entry(
    name: str, description: str, unit: str, minimum: float, maximum: float, default: float, **binding: str | int
) -> Entry:
    """Return the manifest entry of a control; `binding` is `index=` of the control tensor, or `target=`."""
    return {
        "name": name,
        "description": description,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "default": default,
        **binding,
    }


def drift_control(source: str) -> Entry:
    """Return the control of the renewal speed; `source` names what scenes are made from."""
    description = f"how fast a scene made from {source} renews itself; 0 keeps it"
    return control_entry("drift", description, "times the bundle's renewal", 0.0, 4.0, 1.0, target="renewal")


def seed_control(description: str, default: int) -> Entry:
    """Return the control of the seed."""
    return control_entry("seed", description, "number", 0.0, float(MAX_SEED), float(default), target="seed")


def write_golden(
    folder: Path,
    name: str,
    frames: Sequence[Pixels],
    numbers: Sequence[int],
    *,
    seed: int,
    image: Pixels | None = None,
    clip: Pixels | None = None,
    live: Pixels | None = None,
    text: str | None = None,
    is_masked: bool = False,
) -> Entry:
    """Write golden/NAME.npz.

    Args:
        folder: the bundle.
        name: of the file, without its suffix.
        frames: uint8 (H, W, 3) each, from frame 1 on.
        numbers: the frames to keep, counted from 1.
        seed: the seed of the frames.
        image: the prompt's image, uint8 (H, W, 3).
        clip: the prompt's clip, uint8 (T, H, W, 3).
        live: the live input, uint8 (T, h, w, 3), repeated.
        text: the prompt's text.
        is_masked: whether a part of the live input was hidden, as `runtime.golden.golden_mask` says.

    Returns:
        The manifest entry.
    """
    inputs = {"image": image, "clip": clip, "live": live}
    arrays: dict[str, Any] = {
        "frames": np.stack([frames[number - 1] for number in numbers]),
        "indices": np.array(numbers, np.int32),
        **{key: value for key, value in inputs.items() if value is not None},
    }
    entry: Entry = {
        "file": f"golden/{name}.npz",
        "seed": seed,
        "image": image is not None,
        "frames": list(numbers),
        **{key: True for key in ("clip", "live") if key in arrays},
        **({"mask": True} if is_masked else {}),
    }
    if text is not None:
        entry["text"] = text
    (folder / "golden").mkdir(exist_ok=True)
    np.savez_compressed(folder / "golden" / f"{name}.npz", **arrays)
    return entry
