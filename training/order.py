"""Pretraining task: temporal order. Four shuffled frames: in which order were they taken? And: which way does time run?

The order is one of 12 classes, an order and its reverse being one (Sorting Sequences, arXiv 1708.01246, whose pairwise
features the head keeps); the direction is a logit of its own on unshuffled clips (Learning and Using the Arrow of Time,
Wei et al. 2018). Every frame is moved a little on its own, so that borders and sub-pixel drift give nothing away.

Legend: B batch, T = 4 frames, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Config
from training.generator import VideoGenerator
from training.tasks import Clips, Draw, Evaluation, Measure, Task, Views, jittered, mirrored, recoloured
from training.trunk import Levels, Trunk

FRAMES = 4
ORDERS = torch.tensor([order for order in permutations(range(FRAMES)) if order[0] < order[-1]])  # (12, 4)
PAIRS = tuple(combinations(range(FRAMES), 2))
JITTER = 1  # pixels
RADIUS = 2  # cells of 2 pixels over which two frames are compared
MATCH = 16  # channels of the comparison
TEMPERATURE = 0.05  # of the comparison, where it becomes a motion


def order_class(order: Tensor) -> Tensor:
    """Return the class (B,) in [0, 12) of orders (B, 4); an order and its reverse have the same."""
    canonical = torch.where(order[:, :1] < order[:, -1:], order, order.flip(1))
    return (canonical[:, None] == ORDERS.to(order.device)[None]).all(dim=2).float().argmax(dim=1)


def shortest_path_class(frames: Tensor) -> Tensor:
    """Return the class in which neighbours in time differ least: the trivial baseline.

    Args:
        frames: (B, 4, 3, H, W) as the encoder sees them.
    """
    small = F.avg_pool2d(frames.flatten(0, 1), 4).unflatten(0, frames.shape[:2]).flatten(2)
    distance = torch.cdist(small, small, p=1)  # (B, 4, 4)
    place = ORDERS.argsort(dim=1).to(frames.device)  # where the frame of each time stands
    steps = distance[:, place[:, :-1], place[:, 1:]]  # (B, 12, 3)
    return steps.sum(dim=2).argmin(dim=1)


def local_correlation(one: Tensor, two: Tensor) -> Tensor:
    """Return how like each place of one map is to the places around it in another (FlowNet, arXiv 1504.06852, eq. 1).

    Args:
        one: (N, C, h, w) unit embeddings.
        two: the like.

    Returns:
        (N, (2 * RADIUS + 1)^2, h, w) in [-1, 1]; beyond the edge there is nothing alike.
    """
    height, width = one.shape[-2:]
    padded = F.pad(two, (RADIUS,) * 4)
    side = range(2 * RADIUS + 1)
    return torch.stack([(one * padded[:, :, y : y + height, x : x + width]).sum(dim=1) for y in side for x in side], 1)


class Order(Task):
    """Its own modules compare frames place by place, and two small heads judge the comparisons."""

    name = "order"
    shifts: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = Trunk(config.model.encoder_scale, 0).channels
        shifts = (2 * RADIUS + 1) ** 2
        side = torch.arange(-RADIUS, RADIUS + 1.0)
        grid = torch.stack(torch.meshgrid(side, side, indexing="ij"), dim=2).flatten(0, 1)
        self.register_buffer("shifts", grid, persistent=False)  # (shifts, 2): y, x of each
        self.to_match = nn.Conv2d(channels[0], 4 * MATCH, 1)
        self.to_place = nn.Conv2d(channels[1], MATCH, 1)
        self.classify = nn.Sequential(
            nn.Linear((2 + 2 * MATCH) * len(PAIRS), 128), nn.LeakyReLU(0.2), nn.Linear(128, len(ORDERS))
        )
        self.motion = nn.Sequential(
            nn.Conv2d((FRAMES - 1) * (shifts + 2) + MATCH, 64, 3, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(64, 64, 3, 2, 1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.arrow = nn.Sequential(nn.Linear(64 + FRAMES * sum(channels[1:]), 96), nn.LeakyReLU(0.2), nn.Linear(96, 1))

    def views(self, clips: Clips, draw: Draw) -> Views:
        """Return every clip twice: shuffled, and straight but run backwards at the toss of a coin."""
        return self.shown(clips, draw, JITTER)

    def shown(self, clips: Clips, draw: Draw, jitter: int) -> Views:
        """Return the views with frames moved by up to `jitter` pixels each, in one clip of four."""
        frames = recoloured(mirrored(clips.frames[:, :FRAMES], draw), draw)
        is_moved = draw.uniform().reshape(-1, 1, 1, 1, 1) < 0.25
        frames = torch.where(is_moved, jittered(frames, jitter, draw), frames)
        order = draw.permutations(FRAMES)
        shuffled = frames[torch.arange(len(frames), device=frames.device)[:, None], order]
        backwards = draw.integers(0, 2)
        straight = torch.where(backwards.bool()[:, None, None, None, None], frames.flip(1), frames)
        return Views.clips(torch.cat([shuffled, straight]), order=order_class(order), backwards=backwards.float())

    def logits(self, levels: Levels) -> tuple[Tensor, Tensor]:
        """Return the logits of the order (B, 12) and of running backwards (B,), for levels of `views`."""
        maps = F.pixel_shuffle(self.to_match(levels.x4).float(), 2)
        fine = F.normalize(maps, dim=1).unflatten(0, (-1, FRAMES))
        maps = maps.unflatten(0, (-1, FRAMES)).chunk(2)[0]
        shuffled, straight = fine.chunk(2)
        place = self.to_place(levels.x8).float().unflatten(0, (-1, FRAMES)).chunk(2)[0]
        one, two = (torch.tensor([pair[side] for pair in PAIRS], device=fine.device) for side in (0, 1))
        alike = local_correlation(shuffled[:, one].flatten(0, 1), shuffled[:, two].flatten(0, 1))
        best = alike.amax(dim=1).mean(dim=(1, 2)).unflatten(0, (-1, len(PAIRS)))
        here = alike[:, alike.shape[1] // 2].mean(dim=(1, 2)).unflatten(0, (-1, len(PAIRS)))
        fine_apart = (maps[:, one] - maps[:, two]).abs().mean(dim=(3, 4))
        apart = (place[:, one] - place[:, two]).abs().mean(dim=(3, 4))
        pairs = torch.cat([best[..., None], here[..., None], fine_apart, apart], dim=2)  # (B, 6, K)
        # Which pair is nearer than which others is what tells the order; how near depends on the footage.
        pairs = (pairs - pairs.mean(dim=1, keepdim=True)) / (pairs.std(dim=1, keepdim=True) + 1e-4)
        steps = local_correlation(straight[:, :-1].flatten(0, 1), straight[:, 1:].flatten(0, 1))
        moves = torch.softmax(steps / TEMPERATURE, dim=1)
        flow = torch.einsum("nshw,sd->ndhw", moves, self.shifts)  # (3B, 2, h, w), cells per step
        seen = torch.cat([flow, moves], dim=1).unflatten(0, (-1, FRAMES - 1)).flatten(1, 2)
        motion = self.motion(torch.cat([seen, straight[:, 0]], dim=1)).mean(dim=(2, 3))
        pooled = [level.unflatten(0, (-1, FRAMES)).chunk(2)[1].mean(dim=(3, 4)).flatten(1) for level in levels[1:]]
        arrow = self.arrow(torch.cat([motion, *pooled], dim=1))
        return self.classify(pairs.flatten(1)).float(), arrow.float()[:, 0]

    def loss(
        self, generator: VideoGenerator, levels: Levels, views: Views, clips: Clips, draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return cross-entropy of the order plus binary cross-entropy of the direction."""
        del generator, clips, draw
        order, arrow = self.logits(levels)
        order_loss = F.cross_entropy(order, views.truth["order"])
        arrow_loss = F.binary_cross_entropy_with_logits(arrow, views.truth["backwards"])
        return order_loss + arrow_loss, {
            "loss": order_loss,
            "arrow_loss": arrow_loss,
            "accuracy": (order.argmax(dim=1) == views.truth["order"]).float().mean(),
            "arrow_accuracy": ((arrow > 0) == views.truth["backwards"].bool()).float().mean(),
        }

    def unmoved(self, held: Evaluation) -> Iterator[tuple[Clips, Views, Levels]]:
        """Yield the held-out batches without jitter: the trivial baseline's best case."""
        for number, clips in enumerate(held.batches):
            count = len(clips.frames)
            views = self.shown(clips, Draw((held.seed, "unmoved", number), count, 0, count, clips.frames.device), 0)
            yield clips, views, held.generator.condition.encoder.trunk(views.frames, views.previous)

    @torch.no_grad()
    def measure(self, held: Evaluation) -> list[Measure]:
        """Return the accuracy of both questions."""
        right, path, arrow, brighter = [], [], [], []
        for clips, views, levels in self.unmoved(held):
            order, backwards = self.logits(levels)
            count = len(clips.frames)
            shown = views.frames.unflatten(0, (-1, FRAMES))
            right.append(order.argmax(dim=1) == views.truth["order"])
            path.append(shortest_path_class(shown[:count]) == views.truth["order"])
            truth = views.truth["backwards"].bool()
            arrow.append((backwards > 0) == truth)
            light = shown[count:].mean(dim=(2, 3, 4))
            brighter.append((light[:, -1] > light[:, 0]) == truth)
        rate = float(torch.cat(brighter).float().mean())
        return [
            Measure(
                self.name, "order accuracy", float(torch.cat(right).float().mean()), "higher", 1 / len(ORDERS),
                float(torch.cat(path).float().mean()), "shortest path of pixel differences",
            ),
            Measure(
                self.name, "arrow accuracy", float(torch.cat(arrow).float().mean()), "higher", 0.5,
                max(rate, 1 - rate), "whether it grows brighter, the better way round",
            ),
        ]  # fmt: skip
