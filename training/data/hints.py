"""Motion hints for training, sampled from the true flow of clips: what a user would have drawn on their first frames.

Legend: B clips, h, w height and width of the frames / 8, N vectors of a clip.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from training.tasks.task import Draw

MAX_VECTORS = 8  # of a clip
NONE = 0.4  # share of clips without any hint
BRUSHED = 0.35  # share of the other clips with strokes, of each brush
FEW = 1.5  # exponent: above 1, few vectors come more often than many
MOVING = 0.75  # share of vectors that are drawn in proportion to speed; the others may be anywhere
NOISE = 0.1  # standard deviation of a vector's error as a share of its length,
LEAST_NOISE = 0.02  # and what is added to it in pixels per frame
STILL = 0.03  # pixels per frame below which a place is still,
STILL_SHARE = 0.15  # or this share of the clip's mean speed
MOVES = 0.1  # pixels per frame above which a place moves, and at least half of the clip's mean speed
TELLS = 0.05  # pixels per frame from which a vector says in which direction a clip moves
SPEEDS = (0.3, 4.0)  # pixels per frame of the fastest vector of a clip that is played faster or slower
FACTORS = (0.25, 16.0)  # by which a clip may be played faster or slower


def sample_hints(flow: Tensor, draw: Draw, none: float = NONE) -> Tensor:
    """Return hints for clips.

    Args:
        flow: (B, 2, 2h, 2w), the clips' mean optical flow, pixels per frame.
        draw: random numbers of these clips.
        none: share of clips without any hint.

    Returns:
        (B, 5, h, w) float32, the channels of `training.model.hints`.
    """
    small = F.avg_pool2d(flow.float(), 2)
    is_told = draw.uniform() >= none
    count = ((MAX_VECTORS + 1) * draw.uniform() ** FEW).long().clamp(max=MAX_VECTORS) * is_told
    vectors = vectors_at(small, *places(small, draw), count, draw)
    still, moving = still_and_moving(small)
    strokes = []
    for region in (still, moving):
        stroke = stroke_over(region, draw)
        strokes.append(stroke * ((draw.uniform() < BRUSHED) & is_told)[:, None, None].float())
    return torch.cat([vectors, torch.stack(strokes, dim=1)], dim=1)


def exact_hints(flow: Tensor, count: int, draw: Draw) -> Tensor:
    """Return hints with `count` vectors per clip, without noise and strokes, to measure with; shapes as above."""
    small = F.avg_pool2d(flow.float(), 2)
    rows, columns = places(small, draw, max(1, count))
    vectors = vectors_at(small, rows, columns, torch.full((len(small),), count, device=small.device))
    return torch.cat([vectors, torch.zeros_like(small)], dim=1)


def tells_direction(hints: Tensor) -> Tensor:
    """Return for which clips a vector says in which direction they move, (B,) bool."""
    return fastest(hints) > TELLS


def fastest(hints: Tensor) -> Tensor:
    """Return the speed of the fastest vector of each clip, (B,) pixels per frame; 0 without vectors."""
    return (torch.sqrt(hints[:, :2].square().sum(dim=1)) * hints[:, 2]).amax(dim=(1, 2))


def repaced(flow: Tensor, hints: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Return flow and hints of clips as if they were played faster or slower.

    A picture does not say how fast its water flows, vectors do. Footage is often slow (a median of 0.04 pixels per
    frame over clips of landscapes at 256 pixels), and users draw faster motion. Clips whose direction no vector tells
    stay as they are.

    Args:
        flow: (B, 2, 2h, 2w) pixels per frame.
        hints: (B, 5, h, w), sampled from it.
        draw: random numbers of these clips.
    """
    low, high = (math.log(speed) for speed in SPEEDS)
    wanted = draw.uniform(low=low, high=high).exp()
    factor = (wanted / fastest(hints).clamp(min=1e-3)).clamp(*FACTORS)
    factor = torch.where(tells_direction(hints), factor, 1.0)[:, None, None, None]
    return flow * factor, torch.cat([hints[:, :2] * factor, hints[:, 2:]], dim=1)


def places(small: Tensor, draw: Draw, count: int = MAX_VECTORS) -> tuple[Tensor, Tensor]:
    """Return rows and columns (B, count) of different cells, with a preference for cells that move."""
    height, width = small.shape[2:]
    speed = torch.sqrt(small.square().sum(dim=1)).flatten(1)
    mean = speed.mean(dim=1, keepdim=True)
    share = torch.where(mean > 1e-3, speed / mean.clamp(min=1e-3), torch.ones_like(speed))
    weight = MOVING * share.clamp(max=4.0) + (1 - MOVING)
    # Without replacement: the largest of log weight + Gumbel noise (Efraimidis and Spirakis 2006).
    noise = -torch.log(-torch.log(draw.uniform(height * width).clamp(1e-7, 1 - 1e-6)))
    chosen = (weight.log() + noise).topk(min(count, height * width), dim=1).indices
    return chosen // width, chosen % width


def vectors_at(small: Tensor, rows: Tensor, columns: Tensor, count: Tensor, draw: Draw | None = None) -> Tensor:
    """Return the first three channels of hints, (B, 3, h, w).

    Args:
        small: (B, 2, h, w), the flow.
        rows, columns: (B, N), cells of the vectors.
        count: (B,), how many of them are given.
        draw: adds noise; None for exact vectors.
    """
    batch, _, height, width = small.shape
    cells = (rows * width + columns)[:, None].expand(-1, 2, -1)  # (B, 2, N)
    values = small.flatten(2).gather(2, cells)
    if draw is not None:
        noise = draw.normal(2, rows.shape[1])
        length = torch.sqrt(values.square().sum(dim=1, keepdim=True))
        values = values + (LEAST_NOISE + NOISE * length) * noise
    is_given = (torch.arange(rows.shape[1], device=small.device)[None] < count[:, None]).float()[:, None]
    values = torch.cat([values * is_given, is_given], dim=1)  # (B, 3, N)
    empty = values.new_zeros(batch, 3, height * width)
    return empty.scatter(2, cells[:, :1].expand(-1, 3, -1), values).reshape(batch, 3, height, width)


def still_and_moving(small: Tensor) -> tuple[Tensor, Tensor]:
    """Return which cells are still and which move, (B, h, w) float32 each; a cell may be neither."""
    speed = torch.sqrt(small.square().sum(dim=1))
    mean = speed.mean(dim=(1, 2), keepdim=True)
    still = speed < (STILL_SHARE * mean).clamp(min=STILL)
    moving = speed > (0.5 * mean).clamp(min=MOVES)
    return still.float(), moving.float()


def stroke_over(region: Tensor, draw: Draw) -> Tensor:
    """Return a stroke of a brush: a thick line from a cell of the region, cut to the region, (B, h, w) of 0 and 1."""
    _, height, width = region.shape
    side = max(height, width)
    noise = draw.uniform(height * width).clamp(min=1e-6)
    start = (region.flatten(1) * noise).argmax(dim=1)
    begin = torch.stack([start // width, start % width], dim=1).float()
    along = draw.uniform(2, low=-0.5, high=0.5) * side
    radius = (0.7 + 0.3 * side * draw.uniform() ** 2)[:, None, None]
    y = torch.arange(height, device=region.device, dtype=torch.float32).reshape(1, -1, 1) - begin[:, 0, None, None]
    x = torch.arange(width, device=region.device, dtype=torch.float32).reshape(1, 1, -1) - begin[:, 1, None, None]
    along_y, along_x = along[:, 0, None, None], along[:, 1, None, None]
    share = ((y * along_y + x * along_x) / (along_y**2 + along_x**2).clamp(min=1e-6)).clamp(0.0, 1.0)
    distance = torch.sqrt((y - share * along_y) ** 2 + (x - share * along_x) ** 2)
    return (distance <= radius).float() * region
