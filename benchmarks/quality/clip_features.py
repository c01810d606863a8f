"""What the jumps of a clip can be chosen by: descriptions of its small frames, to compare with that of the runtime.

Networks describe each frame by their features at several levels. Each cell of a level has the length 1, as in LPIPS
(Zhang et al. 1801.03924, equation 1), and each level counts the same.

Legend: N frames, C channels, h, w of a level.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from runtime.clips.endless import Describe, describe_by_colour

if TYPE_CHECKING:
    from torch import Tensor, nn

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
NAMES = {
    "colour": "mean colours of squares",
    "encoder": "pretrained encoder",
    "untrained": "the same, not trained",
    "imagenet": "ImageNet features",
    "pixels": "raw pixels",
}
_BATCH = 16  # frames at once
_SEED = 0  # of the weights of the encoder that is not trained


def describe_by_pixels(small: Frames) -> Floats:
    """Return every second pixel of every second row: uint8 (N, h, w, 3) -> float32 (N, D)."""
    return small[:, ::2, ::2].reshape(len(small), -1).astype(np.float32)


class NetworkFeatures:
    """Describes frames by a network.

    Args:
        levels: frames (N, 3, H, W) in [0, 1] -> tensors (N, C, h, w), from fine to coarse.
    """

    def __init__(self, levels: Callable[[Tensor], Sequence[Tensor]]) -> None:
        self._levels = levels

    def __call__(self, small: Frames) -> Floats:
        """Return the features of frames: uint8 (N, h, w, 3) -> float32 (N, D)."""
        import torch

        parts = []
        with torch.inference_mode():
            for start in range(0, len(small), _BATCH):
                frames = torch.from_numpy(small[start : start + _BATCH].copy()).permute(0, 3, 1, 2).float() / 255
                parts.append(torch.cat([_described(level) for level in self._levels(frames)], dim=1).numpy())
        found: Floats = np.concatenate(parts)
        return found


def make_features(names: Sequence[str], bundle: Path, imagenet: Path | None) -> dict[str, Describe]:
    """Return descriptions by name.

    Args:
        names: of `NAMES`.
        bundle: the bundle whose encoder is used.
        imagenet: weights of EfficientNet-Lite0, for "imagenet".

    Raises:
        ValueError: a name is unknown, or a file is missing or something else.
    """
    if unknown := [name for name in names if name not in NAMES]:
        raise ValueError(f"--features has {unknown[0]!r}; expected {', '.join(NAMES)}")
    if "imagenet" in names and imagenet is None:
        raise ValueError("--features imagenet needs the weights of EfficientNet-Lite0: give their file with --imagenet")
    makers: dict[str, Callable[[], Describe]] = {
        "colour": lambda: describe_by_colour,
        "encoder": lambda: NetworkFeatures(_encoder(bundle, is_trained=True)),
        "untrained": lambda: NetworkFeatures(_encoder(bundle, is_trained=False)),
        "imagenet": lambda: NetworkFeatures(_imagenet(imagenet or Path())),
        "pixels": lambda: describe_by_pixels,
    }
    return {name: makers[name]() for name in names}


def _described(level: Tensor) -> Tensor:
    """Return a level (N, C, h, w) as (N, C * h * w); the mean squared difference of two cells is what counts."""
    import torch.nn.functional as F

    cells = level.shape[2] * level.shape[3]
    unit = F.normalize(level, dim=1) / cells**0.5
    return unit.flatten(1)


def _encoder(bundle: Path, *, is_trained: bool) -> Callable[[Tensor], Sequence[Tensor]]:
    """Return the encoder of a bundle, without its finest level, which is the largest and hardly more than the pixels.

    Each frame is encoded alone: the order of frames should not matter to whether two look alike.
    """
    import torch

    from training.bundle import bundle_start
    from training.checkpoint import part_of
    from training.model.trunk import Trunk

    start = bundle_start(bundle)
    model: dict[str, Any] = start.settings["model"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        trunk: nn.Module = Trunk(model["encoder_scale"], model["encoder_depth"])
    if is_trained:
        trunk.load_state_dict(part_of(start.weights, "condition.encoder.trunk."))
    trunk.eval()
    return lambda frames: list(trunk(_padded(frames, 32)))[1:]


def _imagenet(path: Path) -> Callable[[Tensor], Sequence[Tensor]]:
    from training.model.areas import MULTIPLE, Backbone

    network = Backbone(is_whole=True)
    network.load(path)
    network.eval()
    return lambda frames: network(_padded(frames, MULTIPLE))[1:]


def _padded(frames: Tensor, multiple: int) -> Tensor:
    """Return frames whose sides are multiples of a number; their edges are repeated."""
    import torch.nn.functional as F

    down, right = (-side % multiple for side in frames.shape[2:])
    return F.pad(frames, (0, right, 0, down), mode="replicate") if down or right else frames
