"""Pretraining task: temporal order of four shuffled frames, and the direction of time of unshuffled clips.

The order is one of 12 classes; an order and its reverse are the same class (Sorting Sequences, arXiv 1708.01246, with
its pairwise comparison, here per place). The direction is a logit of its own (Learning and Using the Arrow of Time, Wei
et al. 2018). In half of the clips each frame is shown in one of its three colours ("channel splitting" of the former),
so that comparing pixels is not enough.

Legend: B batch, T = 4 frames, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Config
from training.model.generator import VideoGenerator
from training.model.trunk import Levels, Trunk
from training.tasks.task import (
    Clips,
    Draw,
    HeldOutClips,
    PretrainingTask,
    TaskEvaluation,
    TaskMeasure,
    Views,
    mirrored,
    recoloured,
)

FRAMES = 4
# Which frame is shown when; one of each order and its reverse.
ORDERS = torch.tensor([order for order in permutations(range(FRAMES)) if order[0] < FRAMES / 2])  # (12, 4)
PAIRS = tuple(combinations(range(FRAMES), 2))
RADIUS = 2  # cells of 2 pixels over which two frames are compared
MATCH = 16  # channels of the comparison
SPLIT = 0.5  # share of the clips whose frames have one colour each
TEMPERATURE = 0.05  # of the comparison, where it becomes a motion


def order_class(order: Tensor) -> Tensor:
    """Return the class (B,) in [0, 12) of orders (B, 4); an order and the same with time reversed share it."""
    canonical = torch.where(order[:, :1] < FRAMES / 2, order, FRAMES - 1 - order)
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


class OrderTask(PretrainingTask):
    """Compares frames place by place; two small heads read the comparisons."""

    name = "order"
    weight = 0.2
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
        kinds = 2 + 2 * MATCH
        self.compare = nn.Sequential(
            nn.Conv2d(kinds * (2 * len(PAIRS) + 1), 96, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(96, 96, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(96, len(ORDERS) + 1, 1),
        )  # fmt: skip
        self.motion = nn.Sequential(
            nn.Conv2d((FRAMES - 1) * (shifts + 2) + MATCH, 64, 3, 2, 1), nn.LeakyReLU(0.2),
            nn.Conv2d(64, 64, 3, 2, 1), nn.LeakyReLU(0.2),
        )  # fmt: skip
        self.arrow = nn.Sequential(nn.Linear(64 + FRAMES * sum(channels[1:]), 96), nn.LeakyReLU(0.2), nn.Linear(96, 1))

    def views(self, clips: Clips, draw: Draw) -> Views:
        """Return every clip twice: shuffled, and in order, at random forwards or backwards."""
        return self.shown(clips, draw, SPLIT)

    def shown(self, clips: Clips, draw: Draw, share: float) -> Views:
        """Return the views; in a share of the clips each frame has one of its colours alone."""
        frames = recoloured(mirrored(clips.frames[:, :FRAMES], draw), draw)
        channel = draw.integers(0, 3, FRAMES).reshape(-1, FRAMES, 1, 1, 1).expand(-1, -1, 3, *frames.shape[3:])
        is_split = draw.uniform().reshape(-1, 1, 1, 1, 1) < share
        frames = torch.where(is_split, frames.gather(2, channel), frames)
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
        alike_here = torch.stack([alike.amax(dim=1), alike[:, alike.shape[1] // 2]], dim=1)
        apart = (maps[:, one] - maps[:, two]).abs().flatten(0, 1)
        fine_pairs = F.avg_pool2d(torch.cat([alike_here, apart], dim=1), 4).unflatten(0, (-1, len(PAIRS)))
        pairs = torch.cat([fine_pairs, (place[:, one] - place[:, two]).abs()], dim=2)  # (B, 6, K, H/8, W/8)
        # Which pair is nearer than which others is what tells the order, here and on the whole; how near depends on the
        # footage and says how much a place is worth.
        spread = pairs.std(dim=1, keepdim=True) + 1e-4
        local = (pairs - pairs.mean(dim=1, keepdim=True)) / spread
        whole = pairs.mean(dim=(3, 4), keepdim=True)
        whole = (whole - whole.mean(dim=1, keepdim=True)) / (whole.std(dim=1, keepdim=True) + 1e-4)
        compared = torch.cat([local, whole.expand_as(local), spread.log()], dim=1).flatten(1, 2)
        answers = self.compare(compared).float().flatten(2)  # (B, 13, cells)
        order = (answers[:, :-1] * torch.softmax(answers[:, -1:], dim=2)).sum(dim=2)
        steps = local_correlation(straight[:, :-1].flatten(0, 1), straight[:, 1:].flatten(0, 1))
        moves = torch.softmax(steps / TEMPERATURE, dim=1)
        flow = torch.einsum("nshw,sd->ndhw", moves, self.shifts)  # (3B, 2, h, w), cells per step
        seen = torch.cat([flow, moves], dim=1).unflatten(0, (-1, FRAMES - 1)).flatten(1, 2)
        motion = self.motion(torch.cat([seen, straight[:, 0]], dim=1)).mean(dim=(2, 3))
        pooled = [level.unflatten(0, (-1, FRAMES)).chunk(2)[1].mean(dim=(3, 4)).flatten(1) for level in levels[1:]]
        arrow = self.arrow(torch.cat([motion, *pooled], dim=1))
        return order, arrow.float()[:, 0]

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

    def seen(self, held: TaskEvaluation, share: float) -> Iterator[HeldOutClips]:
        """Yield the held-out batches with a share of the clips split; 0 is the trivial baseline's best case."""
        for number, clips in enumerate(held.batches):
            count = len(clips.frames)
            draw = Draw((held.seed, "order", number), count, 0, count, clips.frames.device)
            views = self.shown(clips, draw, share)
            yield HeldOutClips(clips, views, held.generator.condition.encoder.trunk(views.frames, views.previous), draw)

    def accuracies(self, batches: Iterator[HeldOutClips]) -> tuple[float, float, float, float]:
        """Return the accuracy of the order and of the shortest path, of the arrow and of the light."""
        right, path, arrow, brighter = [], [], [], []
        for clips, views, levels, _ in batches:
            order, backwards = self.logits(levels)
            count = len(clips.frames)
            shown = views.frames.unflatten(0, (-1, FRAMES))
            right.append(order.argmax(dim=1) == views.truth["order"])
            path.append(shortest_path_class(shown[:count]) == views.truth["order"])
            truth = views.truth["backwards"].bool()
            arrow.append((backwards > 0) == truth)
            light = shown[count:].mean(dim=(2, 3, 4))
            brighter.append((light[:, -1] > light[:, 0]) == truth)
        rates = [float(torch.cat(rows).float().mean()) for rows in (right, path, arrow, brighter)]
        return rates[0], rates[1], rates[2], max(rates[3], 1 - rates[3])

    @torch.no_grad()
    def measure(self, held: TaskEvaluation) -> list[TaskMeasure]:
        """Return the accuracy of both questions, the order's with colours split and whole."""
        order, path, _, _ = self.accuracies(self.seen(held, 1.0))
        plain, plain_path, arrow, light = self.accuracies(self.seen(held, 0.0))
        chance, name = 1 / len(ORDERS), "shortest path of pixel differences"
        return [
            TaskMeasure(self.name, "order accuracy, split colours", order, "higher", chance, path, name),
            TaskMeasure(self.name, "order accuracy, all colours", plain, "higher", chance, plain_path, name),
            TaskMeasure(
                self.name,
                "arrow accuracy",
                arrow,
                "higher",
                0.5,
                light,
                "whether it grows brighter, the better way round",
            ),
        ]
