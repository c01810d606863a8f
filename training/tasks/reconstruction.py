"""Pretraining task: clip reconstruction from parts (after VideoMAE, arXiv 2203.12602).

In some clips the same blocks of every frame are hidden (tube masks) and the encoder sees the rest; in others it sees
the first frame. The content code is read from what it saw, the generator's painter completes the first frame, and its
decoder has to restore the clip.

Legend: B clips, M of them seen in parts, T frames, H height, W width.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import Config
from training.data.words import WordVectors
from training.model.generator import ConditionMemory, VideoGenerator
from training.model.painter import CodeHead
from training.model.perceptual import PerceptualDistance
from training.model.trunk import Levels, Trunk, previous_rows
from training.stages.losses import code_divergence, flow_error, pooled_l1, sway_error
from training.tasks.task import Clips, Draw, PretrainingTask, TaskEvaluation, TaskMeasure, Views, recoloured

BLOCK = 16  # side of one tube of the mask, pixels
FRAMES = 4
HELD_OUT_HIDDEN = 0.75  # share of the tubes hidden when the task is measured


def draw_tubes(draw: Draw, height: int, width: int, low: float, high: float) -> Tensor:
    """Draw which parts of clips are seen: (B, 1, H, W), 1 where seen; `low` to `high` of the tubes are hidden."""
    rows, columns = height // BLOCK, width // BLOCK
    hidden = draw.uniform(1, low=low, high=high) * (rows * columns)
    # By rank, so that the share is exact and never all.
    rank = draw.uniform(rows * columns).argsort(dim=1).argsort(dim=1)
    seen = (rank >= hidden.round().clamp(max=rows * columns - 1)).float().reshape(-1, 1, rows, columns)
    return seen.repeat_interleave(BLOCK, dim=2).repeat_interleave(BLOCK, dim=3)


class ReconstructionTask(PretrainingTask):
    """Reads content codes with a head of its own; everything else is the generator's."""

    name = "reconstruction"
    weight = 1.0
    needs_generator = True

    def __init__(self, config: Config, perceptual: PerceptualDistance | None = None) -> None:
        super().__init__()
        self.config = config
        # A function and not a submodule, so that checkpoints do not contain the user's LPIPS weights.
        self.perceptual = None if perceptual is None else perceptual.forward
        self.code_head = CodeHead(Trunk(config.model.encoder_scale, 0).channels[1:])

    @classmethod
    def create(
        cls, config: Config, perceptual: PerceptualDistance | None, words: WordVectors | None
    ) -> ReconstructionTask:
        """Return the task of a run, with an LPIPS term if `perceptual` is given."""
        del words
        return cls(config, perceptual)

    def views(self, clips: Clips, draw: Draw) -> Views:
        """Return all frames of the masked clips, and the first frame of the others.

        The place in the global batch decides whether a clip is given to the painter whole, in parts, or not at all.
        """
        settings = self.config.pretrain
        place = torch.arange(draw.rows.start, draw.rows.stop, device=draw.device) / draw.total
        given = place < settings.given
        parts = ~given & (place < settings.given + settings.masked)
        height, width = clips.frames.shape[-2:]
        tubes = draw_tubes(draw, height, width, settings.mask_min, settings.mask_max)
        # Only masked clips are augmented, so that the painter learns the colours of the footage.
        is_mirrored = (draw.uniform() < 0.5) & parts
        frames = torch.where(parts.reshape(-1, 1, 1, 1, 1), recoloured(clips.frames, draw), clips.frames)
        frames = torch.where(is_mirrored.reshape(-1, 1, 1, 1, 1), frames.flip(-1), frames)
        opposite = clips.flow.flip(-1) * torch.tensor([-1.0, 1.0], device=clips.flow.device).reshape(1, 2, 1, 1)
        flow = torch.where(is_mirrored.reshape(-1, 1, 1, 1), opposite, clips.flow)
        views = self.seen(clips._replace(frames=frames), given, parts, tubes)
        sway = torch.where(is_mirrored.reshape(-1, 1, 1, 1), clips.sway.flip(-1), clips.sway)
        views.truth |= {"frames": frames, "flow": flow, "sway": sway}
        return views

    @staticmethod
    def seen(clips: Clips, given: Tensor, parts: Tensor, tubes: Tensor) -> Views:
        """Return the views for clips given whole (B,), in parts (B,) or not at all; tubes are (B, 1, H, W)."""
        masked = clips.frames[parts][:, :FRAMES] * tubes[parts][:, None] + 0.5 * (1 - tubes[parts][:, None])
        whole = clips.frames[~parts][:, 0]
        chains = previous_rows(*masked.shape[:2]).to(whole.device)
        alone = len(chains) + torch.arange(len(whole), device=whole.device)
        mask = torch.where(parts.reshape(-1, 1, 1, 1), tubes, given.reshape(-1, 1, 1, 1).float())
        frames = torch.cat([masked.flatten(0, 1), whole])
        return Views(frames, torch.cat([chains, alone]), {"mask": mask, "parts": parts})

    def codes(self, levels: Levels, parts: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the clips' codes, each (B, num_codes), for levels of `seen`."""
        num_parts = int(parts.sum())

        def per_clip(level: Tensor) -> Tensor:
            out = level.new_zeros(len(parts), *level.shape[1:])
            out[parts] = level[: num_parts * FRAMES].unflatten(0, (num_parts, FRAMES)).mean(dim=1) if num_parts else 0
            out[~parts] = level[num_parts * FRAMES :]
            return out

        return self.code_head(*(per_clip(level) for level in levels[1:]))

    def rolled(self, generator: VideoGenerator, memory: ConditionMemory, offsets: list[int]) -> Tensor:
        """Return the frames (B, len(offsets), 3, H, W) that the generator makes of a memory, without noise.

        An L1 term would teach the oscillators to stand still: their motion is the adversary's.
        """
        count, device = len(memory.picture), memory.picture.device
        control = torch.tensor([[1.0, 0.0, 0.0]], device=device).expand(count, -1)
        still = torch.zeros(count, generator.shape.num_noise, device=device)
        state = generator.step.initial_state(count, device)
        made = []
        for number in range(1, max(offsets) + 1):
            state = generator.step.advance(memory, state, still, control)
            if number in offsets:
                made.append(generator.step.render(memory, state, control))
        return torch.stack(made, dim=1)

    def loss(
        self, generator: VideoGenerator, levels: Levels, views: Views, clips: Clips, draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of clip, picture, look, flow and code terms."""
        settings = self.config.pretrain
        frames = views.truth["frames"]
        first = frames[:, 0]
        mean, logvar = self.codes(levels, views.truth["parts"])
        code = mean + draw.normal(mean.shape[1]) * (0.5 * logvar).exp()
        # No caption yet, but what will read it must have a gradient: a distributed engine waits for every one.
        untold = code.new_zeros(len(first), generator.shape.text_dimensions)
        memory = generator.condition.from_code(first, views.truth["mask"], code, untold)
        later = [1, len(clips.offsets) - 1]  # one near frame, one far
        made = self.rolled(generator, memory, [clips.offsets[index] for index in later])
        clip_loss = pooled_l1(made.flatten(0, 1), frames[:, later].flatten(0, 1))
        picture_loss = pooled_l1(memory.picture, first)
        is_known = torch.full((len(first),), not self.config.footage.either_way, device=first.device)
        flow_loss = flow_error(memory.flow[:, :2] * memory.flow[:, 2:], views.truth["flow"], is_known)
        free = F.avg_pool2d(memory.flow[:, 2:].float(), 2)
        swings = generator.step.expected_sway(memory, self.config.footage.horizon_frames) * free
        sway_loss = sway_error(swings, F.avg_pool2d(views.truth["sway"], 2))
        kl = code_divergence(mean, logvar)
        look = first.new_zeros(()) if self.perceptual is None else self.perceptual(memory.picture, first)
        loss = clip_loss + picture_loss + settings.perceptual * look + settings.flow * flow_loss
        loss = loss + settings.sway * sway_loss + settings.kl * kl
        terms = {
            "clip": clip_loss,
            "picture": picture_loss,
            "look": look,
            "flow": flow_loss,
            "sway": sway_loss,
            "kl": kl,
        }
        return loss, terms

    def completed(self, generator: VideoGenerator, levels: Levels, views: Views, clips: Clips) -> Tensor:
        """Return the clips (B, T, 3, H, W) as the generator completes them from the mean of their codes."""
        mean, _ = self.codes(levels, views.truth["parts"])
        memory = generator.condition.from_code(clips.frames[:, 0], views.truth["mask"], mean)
        return torch.cat([memory.picture[:, None], self.rolled(generator, memory, clips.offsets[1:FRAMES])], dim=1)

    def in_parts(self, held: TaskEvaluation) -> list[tuple[Clips, Views, Levels]]:
        """Return the held-out batches with three quarters of every clip hidden."""
        out = []
        for number, clips in enumerate(held.batches):
            count = len(clips.frames)
            draw = Draw((held.seed, "parts", number), count, 0, count, clips.frames.device)
            tubes = draw_tubes(draw, clips.frames.shape[-2], clips.frames.shape[-1], HELD_OUT_HIDDEN, HELD_OUT_HIDDEN)
            parts = torch.ones(count, dtype=torch.bool, device=tubes.device)
            views = self.seen(clips, ~parts, parts, tubes)
            out.append((clips, views, held.generator.condition.encoder.trunk(views.frames, views.previous)))
        return out

    @torch.no_grad()
    def measure(self, held: TaskEvaluation) -> list[TaskMeasure]:
        """Return the PSNR of what was hidden: of the first frame, and of the frames after it."""
        ours, copied, filled = [tuple[list[float], list[float]](([], [])) for _ in range(3)]
        for clips, views, levels in self.in_parts(held):
            made = self.completed(held.generator, levels, views, clips)
            mask = views.truth["mask"]
            for index in range(len(made)):
                visible = mask[index, 0].cpu().numpy() > 0.5
                hidden = torch.from_numpy(~visible)
                for time in range(FRAMES):
                    real = clips.frames[index, time].cpu()
                    pixels = to_uint8(real)
                    later = int(time > 0)
                    ours[later].append((made[index, time].cpu() - real)[:, hidden].square().mean())
                    near = to_float(nearest_visible(pixels, visible))
                    copied[later].append((near - real)[:, hidden].square().mean())
                    smooth = to_float(cv2.inpaint(pixels, (~visible).astype(np.uint8), 3, cv2.INPAINT_TELEA))
                    filled[later].append((smooth - real)[:, hidden].square().mean())
        names = ("hidden parts, first frame", "hidden parts, later frames")
        measures = []
        for later, name in enumerate(names):
            psnr, copy, fill = (mean_psnr(errors[later]) for errors in (ours, copied, filled))
            measures.append(
                TaskMeasure(self.name, name, psnr, "higher", None, copy, "nearest visible pixel copied", "dB")
            )
            measures.append(
                TaskMeasure(
                    self.name, name + " beside inpainting", psnr, "higher", None, fill, "Telea's inpainting", "dB"
                )
            )
        return measures

    @torch.no_grad()
    def pictures(self, held: TaskEvaluation) -> dict[str, tuple[np.ndarray, str]]:
        """Return clips, what was seen of them and what was made of it."""
        clips, views, levels = self.in_parts(held)[0]
        made = self.completed(held.generator, levels, views, clips)
        rows = []
        for index in range(min(5, len(made))):
            mask = views.truth["mask"][index]
            seen = clips.frames[index, 0] * mask + 0.5 * (1 - mask)
            parts = [clips.frames[index, 0], seen, made[index, 0], clips.frames[index, FRAMES - 1], made[index, -1]]
            rows.append(np.concatenate([to_uint8(part.cpu()) for part in parts], axis=1))
        zoom = max(1, round(160 / clips.frames.shape[-2]))
        sheet = cv2.resize(np.concatenate(rows, axis=0), None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
        sentence = (
            "Held-out clips: first frame, the quarter of it that was seen, as completed; last frame, as the generator "
            "made it."
        )
        return {"reconstruction": (sheet, sentence)}


def to_uint8(picture: Tensor) -> np.ndarray:
    """Return (3, H, W) in [0, 1] as uint8 (H, W, 3)."""
    return np.ascontiguousarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def to_float(pixels: np.ndarray) -> Tensor:
    """Return uint8 (H, W, 3) as (3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255.0


def nearest_visible(pixels: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Return the picture (H, W, 3) with every hidden pixel replaced by the nearest visible one; visible (H, W) bool."""
    _, labels = cv2.distanceTransformWithLabels(
        (~visible).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros((labels.max() + 1, 3), pixels.dtype)
    table[labels[visible]] = pixels[visible]
    return table[labels]


def mean_psnr(errors: list[Tensor]) -> float:
    """Return the mean PSNR in dB of mean squared errors of pictures in [0, 1]."""
    return float((-10 * torch.stack(errors).clamp(min=1e-8).log10()).mean())
