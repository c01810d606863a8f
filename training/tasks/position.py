"""Pretraining task: spatio-temporal position. Where does a place of the picture go?

Two questions. A walk through the clip and back has to end where it began (contrastive random walk, arXiv 2006.14613,
eq. 4 and 5: a chain of affinities, temperature 0.05, edges dropped at random). In a picture bent by a known smooth
displacement every place has to be found again (the answer is exact).

A convolutional encoder could answer both from its position, which padding reveals. So the walk ends in a view of the
first frame that is moved by a random number of cells, and every frame is encoded separately.

Legend: B batch, T = 4 frames, C channels, h x w cells of 8 pixels, P = h * w.
"""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Config
from training.model.generator import VideoGenerator
from training.model.layers import enlarge
from training.model.trunk import Levels, Trunk
from training.tasks.task import Clips, Draw, PretrainingTask, TaskEvaluation, TaskMeasure, Views, mirrored, recoloured

FRAMES = 4
CELL = 8  # pixels
TEMPERATURE = 0.05
DROPPED = 0.1  # share of the walk's edges
EMBEDDING = 64
TEMPLATE = 17  # side of the template matching's window, pixels
SOFT_RADIUS = 1.5  # cells around the best match over which the soft argmax averages


def cell_centres(rows: int, columns: int) -> Tensor:
    """Return the centres (P, 2) of cells in units of cells, x first."""
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    return torch.stack([x.reshape(-1), y.reshape(-1)], dim=1)


def affinity(one: Tensor, two: Tensor) -> Tensor:
    """Return the similarities (B, P, P) of unit embeddings (B, C, h, w), over the temperature."""
    return torch.einsum("bcp,bcq->bpq", one.flatten(2).float(), two.flatten(2).float()) / TEMPERATURE


def walk_probabilities(embeddings: Tensor, keep: Tensor | None = None) -> Tensor:
    """Return where a walk through the frames and back ends: probabilities (B, P, P), rows sum to 1.

    Args:
        embeddings: (B, T + 1, C, h, w), unit length: the T frames and the view of the first in which the walk ends.
        keep: (B, 2 * (T - 1), P, P) bool, False where an edge is dropped; None keeps all.
    """
    frames = embeddings.shape[1] - 1
    way = [*range(frames), *range(frames - 2, 0, -1), frames]  # 0 1 2 3 2 1 and the end
    walk = None
    for number, (here, there) in enumerate(pairwise(way)):
        logits = affinity(embeddings[:, here], embeddings[:, there])
        if keep is not None:
            logits = logits.masked_fill(~keep[:, number], -80.0)
        step = torch.softmax(logits, dim=2)
        walk = step if walk is None else torch.bmm(walk, step)
    assert walk is not None
    return walk


def cross_entropy_at(probabilities: Tensor, positions: Tensor, valid: Tensor, rows: int, columns: int) -> Tensor:
    """Return the mean over clips of the cross-entropy against positions between cells, shared out bilinearly.

    Args:
        probabilities: (B, P, P).
        positions: (B, P, 2) in cells, x first, 0 at the picture's left and top edge.
        valid: (B, P) bool, which positions lie inside; a clip with none counts 0.
        rows: h.
        columns: w.
    """
    corner = (positions - 0.5).floor()
    share = positions - 0.5 - corner
    loss = torch.zeros_like(positions[..., 0])
    for dx in (0, 1):
        for dy in (0, 1):
            x = (corner[..., 0] + dx).clamp(0, columns - 1)
            y = (corner[..., 1] + dy).clamp(0, rows - 1)
            weight = (share[..., 0] if dx else 1 - share[..., 0]) * (share[..., 1] if dy else 1 - share[..., 1])
            found = probabilities.gather(2, (y * columns + x).long()[..., None])[..., 0]
            loss = loss - weight * (found + 1e-8).log()
    return ((loss * valid).sum(dim=1) / valid.sum(dim=1).clamp(min=1)).mean()


def soft_argmax(probabilities: Tensor, rows: int, columns: int) -> Tensor:
    """Return expected positions (B, P, 2) in cells, x first, averaged near the likeliest cell."""
    centres = cell_centres(rows, columns).to(probabilities.device)
    best = centres[probabilities.argmax(dim=2)]  # (B, P, 2)
    near = (centres[None, None] - best[:, :, None]).abs().amax(dim=3) <= SOFT_RADIUS
    weights = probabilities * near
    return torch.matmul(weights / weights.sum(dim=2, keepdim=True), centres)


def random_displacement(draw: Draw, height: int, width: int) -> Tensor:
    """Draw smooth displacements (B, 2, H, W) in pixels: rotation, scale, shift and bending.

    A place y of the bent picture shows what was at y - displacement(y) in the picture.
    """
    count = draw.count
    angle = draw.uniform(low=-0.35, high=0.35)  # 20 degrees
    scale = torch.exp(draw.uniform(low=-0.25, high=0.25))
    move = draw.uniform(2, low=-0.2, high=0.2) * torch.tensor([width, height], device=draw.device)
    bend = draw.normal(2, 4, 4) * (0.03 * height)
    y, x = torch.meshgrid(
        torch.arange(height, device=draw.device) - (height - 1) / 2,
        torch.arange(width, device=draw.device) - (width - 1) / 2,
        indexing="ij",
    )
    cos, sin = (scale * angle.cos())[:, None, None], (scale * angle.sin())[:, None, None]
    affine = torch.stack([x - (cos * x - sin * y), y - (sin * x + cos * y)], dim=1)  # (B, 2, H, W)
    smooth = F.interpolate(bend, size=(height, width), mode="bicubic", align_corners=False)
    return affine + smooth + move.reshape(count, 2, 1, 1)


def bent(picture: Tensor, displacement: Tensor) -> Tensor:
    """Return the picture (B, 3, H, W) moved by the displacement (B, 2, H, W) pixels; the border mirrors the edge."""
    _, _, height, width = picture.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=picture.device) + 0.5,
        torch.arange(width, device=picture.device) + 0.5,
        indexing="ij",
    )
    source = torch.stack([x, y], dim=2)[None] - displacement.permute(0, 2, 3, 1)
    grid = 2 * source / torch.tensor([width, height], device=picture.device) - 1
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


class PositionTask(PretrainingTask):
    """Embeds every cell with layers of its own."""

    name = "position"
    weight = 0.2

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = Trunk(config.model.encoder_scale, 0).channels
        self.rows, self.columns = config.model.height // CELL, config.model.width // CELL
        self.fine = nn.Conv2d(channels[0], EMBEDDING, 2, 2)
        self.near = nn.Conv2d(channels[1], EMBEDDING, 1)
        self.wide = nn.Conv2d(channels[2], EMBEDDING, 1)
        self.whole = nn.Conv2d(channels[3], EMBEDDING, 1)

    def embed(self, levels: Levels) -> Tensor:
        """Return unit embeddings (N, C, h, w) of every cell."""
        wide = self.wide(levels.x16) + enlarge(self.whole(levels.x32))
        x = self.fine(levels.x4) + self.near(levels.x8) + enlarge(wide)
        return F.normalize(x.float(), dim=1)

    def views(self, clips: Clips, draw: Draw) -> Views:
        """Return the clip's frames, its first frame moved by whole cells, and its first frame bent: B * (T + 2)."""
        plain = mirrored(clips.frames[:, :FRAMES], draw)
        batch, _, _, height, width = plain.shape
        reach = max(1, min(self.rows, self.columns) // 4)
        move = draw.integers(-reach, reach + 1, 2)  # (B, 2) cells, x first
        displacement = random_displacement(draw, height, width)
        first = plain[:, 0]
        frames = [
            recoloured(plain, draw),
            recoloured(moved(first, CELL * move)[:, None], draw),
            recoloured(bent(first, displacement)[:, None], draw),
        ]
        centres = cell_centres(self.rows, self.columns).to(first.device)
        target = centres + move[:, None]  # of the walk, in the moved view
        at_centres = F.avg_pool2d(displacement, CELL).flatten(2).transpose(1, 2) / CELL
        return Views.pictures(
            torch.cat(frames, dim=1).flatten(0, 1), target=target, source=centres - at_centres,
            still=centres.expand(batch, -1, -1),
        )  # fmt: skip

    def inside(self, positions: Tensor) -> Tensor:
        """Return which positions (B, P, 2) in cells lie in the picture, (B, P) bool."""
        size = torch.tensor([self.columns, self.rows], device=positions.device)
        return ((positions >= 0) & (positions < size)).all(dim=2)

    def answers(self, levels: Levels, keep: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return where each cell's walk ends and where each cell of the bent picture comes from, each (B, P, P)."""
        embeddings = self.embed(levels).unflatten(0, (-1, FRAMES + 2))
        walk = walk_probabilities(embeddings[:, : FRAMES + 1], keep)
        return walk, torch.softmax(affinity(embeddings[:, FRAMES + 1], embeddings[:, 0]), dim=2)

    def loss(
        self, generator: VideoGenerator, levels: Levels, views: Views, clips: Clips, draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross-entropies of both questions, plus the distance of the tracks in cells."""
        del generator, clips
        cells = self.rows * self.columns
        keep = draw.uniform(2 * (FRAMES - 1), cells, cells) >= DROPPED
        walk, tracks = self.answers(levels, keep)
        target, source = views.truth["target"], views.truth["source"]
        walk_inside, track_inside = self.inside(target), self.inside(source)
        walk_loss = cross_entropy_at(walk, target, walk_inside, self.rows, self.columns)
        track_loss = cross_entropy_at(tracks, source, track_inside, self.rows, self.columns)
        expected = torch.matmul(tracks, cell_centres(self.rows, self.columns).to(tracks.device))
        off = F.smooth_l1_loss(expected, source, reduction="none").sum(dim=2)
        off = ((off * track_inside).sum(dim=1) / track_inside.sum(dim=1).clamp(min=1)).mean()
        error = self.errors(tracks, source)[track_inside]
        return walk_loss + track_loss + 0.2 * off, {
            "loss": walk_loss,
            "track_loss": track_loss,
            "track_error": error.mean() if len(error) else error.sum(),
        }

    def errors(self, tracks: Tensor, source: Tensor) -> Tensor:
        """Return the distance (B, P) in pixels between soft-argmax tracks and the truth."""
        return CELL * (soft_argmax(tracks.detach(), self.rows, self.columns) - source).norm(dim=2)

    @torch.no_grad()
    def measure(self, held: TaskEvaluation) -> list[TaskMeasure]:
        """Return the error of tracks through synthetic displacements and how often the walk comes home."""
        ours, still, template, random, home, patches = [], [], [], [], [], []
        for clips, views, levels, draw in held.batches_of(self):
            walk, tracks = self.answers(levels)
            target, source = views.truth["target"], views.truth["source"]
            seen = self.inside(source)
            ours.append(self.errors(tracks, source)[seen])
            still.append(CELL * (views.truth["still"] - source).norm(dim=2)[seen])
            anywhere = draw.uniform(*source.shape[1:]) * torch.tensor([self.columns, self.rows], device=source.device)
            random.append(CELL * (anywhere - source).norm(dim=2)[seen])
            frames = views.frames.unflatten(0, (-1, FRAMES + 2))
            matched = torch.stack([self.match_templates(f[FRAMES + 1], f[0]) for f in frames.cpu()])
            template.append(CELL * (matched.to(source.device) - source).norm(dim=2)[seen])
            inside = self.inside(target)
            home.append(self.arrived(walk, target)[inside])
            cells = F.pixel_unshuffle(frames[:, : FRAMES + 1].flatten(0, 1), CELL)
            cells = F.normalize(cells - cells.mean(dim=1, keepdim=True), dim=1).unflatten(0, (len(clips.frames), -1))
            patches.append(self.arrived(walk_probabilities(cells), target)[inside])
        error, chance = float(torch.cat(ours).mean()), float(torch.cat(random).mean())
        return [
            TaskMeasure(
                self.name, "track error", error, "lower", chance, float(torch.cat(template).mean()),
                f"template matching, {TEMPLATE} px", "px",
            ),
            TaskMeasure(
                self.name, "track error beside standing still", error, "lower", chance,
                float(torch.cat(still).mean()), "nothing moves", "px",
            ),
            TaskMeasure(
                self.name, "walks that come home", float(torch.cat(home).float().mean()), "higher",
                1 / (self.rows * self.columns), float(torch.cat(patches).float().mean()), "walk over raw pixels",
            ),
        ]  # fmt: skip

    def arrived(self, walk: Tensor, target: Tensor) -> Tensor:
        """Return which walks end in the right cell, (B, P) bool."""
        centres = cell_centres(self.rows, self.columns).to(walk.device)
        return ((centres[walk.argmax(dim=2)] - target).abs() < 0.5).all(dim=2)

    def match_templates(self, picture: Tensor, reference: Tensor) -> Tensor:
        """Return where each cell of a picture (3, H, W) is found in another by normalised cross-correlation: (P, 2)."""
        one, two = (np.ascontiguousarray(x.permute(1, 2, 0).numpy()) for x in (picture, reference))
        half = TEMPLATE // 2
        padded, searched = (cv2.copyMakeBorder(x, half, half, half, half, cv2.BORDER_REFLECT) for x in (one, two))
        found = []
        for x, y in (cell_centres(self.rows, self.columns) * CELL).int().tolist():
            score = cv2.matchTemplate(searched, padded[y : y + TEMPLATE, x : x + TEMPLATE], cv2.TM_CCOEFF_NORMED)
            score[~np.isfinite(score)] = -1.0  # a flat template has no correlation
            _, _, _, best = cv2.minMaxLoc(score)
            found.append(best)  # a window is centred on a pixel, a cell between pixels: the halves cancel
        return torch.tensor(found, dtype=torch.float32) / CELL

    @torch.no_grad()
    def pictures(self, held: TaskEvaluation) -> dict[str, tuple[np.ndarray, str]]:
        """Return clips with tracked points drawn on them."""
        clips, views, levels, _ = next(held.batches_of(self))
        embeddings = self.embed(levels).unflatten(0, (-1, FRAMES + 2))
        frames = views.frames.unflatten(0, (-1, FRAMES + 2))
        zoom, rows = max(1, round(200 / frames.shape[-2])), []
        for clip in range(min(4, len(clips.frames))):
            chosen = self.most_textured(frames[clip, 0])
            shown = [self.drawn(frames[clip, 0], cell_centres(self.rows, self.columns)[chosen], zoom)]
            for time in range(1, FRAMES):
                steps = torch.softmax(
                    affinity(embeddings[clip : clip + 1, 0], embeddings[clip : clip + 1, time]), dim=2
                )
                shown.append(
                    self.drawn(frames[clip, time], soft_argmax(steps, self.rows, self.columns)[0, chosen], zoom)
                )
            rows.append(np.concatenate(shown, axis=1))
        return {
            "tracks": (
                np.concatenate(rows, axis=0),
                "Points of the first frame (left) found again in the next three by their embedding; held-out clips.",
            )
        }

    def most_textured(self, picture: Tensor) -> list[int]:
        """Return twelve cells of a picture (3, H, W) with much contrast, spread out."""
        contrast = F.pixel_unshuffle(picture.mean(dim=0)[None, None], CELL).std(dim=1)[0]
        blocks = F.max_pool2d(contrast[None], max(1, self.rows // 4), return_indices=True)[1].flatten().tolist()
        return sorted(blocks, key=lambda cell: -float(contrast.flatten()[cell]))[:12]

    @staticmethod
    def drawn(picture: Tensor, positions: Tensor, zoom: int) -> np.ndarray:
        """Return the picture (3, H, W) as uint8 (zoom * H, zoom * W, 3) with a mark at each position (n, 2)."""
        canvas = np.ascontiguousarray((picture * 255).round().byte().permute(1, 2, 0).cpu().numpy())
        canvas = cv2.resize(canvas, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        hues = cv2.applyColorMap(np.linspace(0, 230, len(positions)).astype(np.uint8), cv2.COLORMAP_HSV).reshape(-1, 3)
        for (x, y), colour in zip((positions * CELL * zoom).round().int().tolist(), hues.tolist(), strict=True):
            cv2.circle(canvas, (x, y), 5, (0, 0, 0), -1, cv2.LINE_AA)
            cv2.circle(canvas, (x, y), 4, colour, -1, cv2.LINE_AA)
        return canvas


def moved(picture: Tensor, move: Tensor) -> Tensor:
    """Return the picture (B, 3, H, W) moved right and down by whole pixels (B, 2); what comes in repeats the edge."""
    batch, _, height, width = picture.shape
    x = (torch.arange(width, device=picture.device) - move[:, :1]).clamp(0, width - 1)  # (B, W)
    y = (torch.arange(height, device=picture.device) - move[:, 1:]).clamp(0, height - 1)
    rows = torch.arange(batch, device=picture.device)[:, None, None]
    return picture[rows, :, y[:, :, None], x[:, None, :]].permute(0, 3, 1, 2).contiguous()
