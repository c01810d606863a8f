"""How well motion follows hints on held-out clips: flow errors and cosines with 0 to 8 vectors, beside baselines.

Vectors are exact here, without the noise of training. Baselines are a picture that stands still, the spread vectors
without a network (`training.model.hints.spread`), and the network without hints.

Legend: B clips, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from training.data.hints import MOVES, exact_hints
from training.model.generator import FrameEncoder
from training.model.hints import spread
from training.model.layers import resize
from training.tasks.task import Draw

COUNTS = (0, 1, 3, 5, 8)  # vectors of a clip
FLOOR = 0.1  # pixels per frame, added to the speed that an error is relative to
# Pictures (B, 3, H, W), the network's flow and freedom (B, 3, h, w) without hints, hints -> flow (B, 2, h, w).
OtherMethod = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class HintScore:
    """The scores of one way to predict flow from a number of vectors.

    Args:
        method: "network", "interpolation", or a name of another one.
        vectors: given per clip.
        error: mean end-point error over all places, relative to standing still.
        error_moving: the like over places that move.
        cosine: mean cosine between made and true flow over places that move.
        clips: measured; those without a place that moves count for `error` alone.
    """

    method: str
    vectors: int
    error: float
    error_moving: float
    cosine: float
    clips: int

    def to_dict(self) -> dict[str, float | str]:
        """Return plain data."""
        return asdict(self)


class _Sums(NamedTuple):
    """Sums over clips: errors and those of standing still, over all places and over those that move; cosines."""

    error: float = 0.0
    still: float = 0.0
    error_moving: float = 0.0
    still_moving: float = 0.0
    cosine: float = 0.0
    moving_clips: float = 0.0
    clips: float = 0.0

    @classmethod
    def of(cls, made: Tensor, real: Tensor) -> _Sums:
        """Return the sums of a batch of flows (B, 2, h, w) in pixels per frame."""
        made, real = made.float(), real.float()
        speed = torch.sqrt(real.square().sum(dim=1))  # (B, h, w)
        distance = torch.sqrt((made - real).square().sum(dim=1))
        mean = speed.mean(dim=(1, 2), keepdim=True)
        moves = (speed > (0.5 * mean).clamp(min=MOVES)).float()
        count = moves.sum(dim=(1, 2))
        has_motion = count > 0
        scale = 1 / (mean[:, 0, 0] + FLOOR)
        length = speed * torch.sqrt(made.square().sum(dim=1))
        cosine = (made * real).sum(dim=1) / length.clamp(min=1e-6)

        def over_moving(values: Tensor) -> Tensor:
            return (values * moves).sum(dim=(1, 2)) / count.clamp(min=1)

        sums = (
            distance.mean(dim=(1, 2)) * scale,
            speed.mean(dim=(1, 2)) * scale,
            over_moving(distance) * scale,
            over_moving(speed) * scale,
            over_moving(cosine),
            has_motion.float(),
            torch.ones_like(scale),
        )
        return cls(*(float(values.sum()) for values in sums))

    def plus(self, other: _Sums) -> _Sums:
        """Return the sum of both."""
        return _Sums(*(a + b for a, b in zip(self, other, strict=True)))

    def score(self, method: str, vectors: int) -> HintScore:
        """Return the means; errors relative to standing still."""
        return HintScore(
            method,
            vectors,
            self.error / max(self.still, 1e-9),
            self.error_moving / max(self.still_moving, 1e-9),
            self.cosine / max(self.moving_clips, 1.0),
            int(self.clips),
        )


@torch.no_grad()
def hint_scores(
    encoder: FrameEncoder,
    batches: Iterable[tuple[Tensor, Tensor]],
    seed: int,
    counts: Sequence[int] = COUNTS,
    others: Mapping[str, OtherMethod] | None = None,
) -> list[HintScore]:
    """Return the scores of the network, and of the spread vectors alone, for every number of vectors.

    Args:
        encoder: of the generator.
        batches: pictures (B, 3, H, W) in [0, 1] and their mean flow (B, 2, H/4, W/4), pixels per frame.
        seed: of the vectors' places; equal seeds give equal places.
        counts: numbers of vectors; 0: no hints.
        others: more ways to predict flow from vectors, by name.
    """
    sums: dict[tuple[str, int], _Sums] = {}
    for number, (pictures, flow) in enumerate(batches):
        levels = encoder.trunk(pictures)
        alone = encoder.read(pictures, levels).flow
        for vectors in counts:
            draw = Draw((seed, "hint scores", number), len(pictures), 0, len(pictures), pictures.device)
            hints = exact_hints(flow, vectors, draw)
            memory = encoder.read(pictures, levels, hints=hints)
            made = {"network": memory.flow[:, :2] * memory.flow[:, 2:]}
            if vectors:
                made["interpolation"] = resize(spread(hints)[0], *flow.shape[2:])
                made |= {name: predict(pictures, alone, hints) for name, predict in (others or {}).items()}
            for method, steady in made.items():
                before = sums.get((method, vectors), _Sums())
                sums[method, vectors] = before.plus(_Sums.of(steady, flow))
    return [found.score(*key) for key, found in sums.items()]
