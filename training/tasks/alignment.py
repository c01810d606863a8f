"""Pretraining task: video-text alignment. Which caption belongs to which clip?

Symmetric InfoNCE between clips and captions (VideoCLIP, arXiv 2109.14084, eq. 1, with whole clips). Captions are
encoded by static token vectors distilled from a sentence encoder, so words that are not in the footage have a meaning,
too. Equal captions all count as right answers.

Legend: B clips of this process, G of the global batch, T = 4 frames, D size of the embedding.
"""

from __future__ import annotations

import hashlib
import math

import cv2
import numpy as np
import torch
import torch.distributed
import torch.distributed.nn.functional
import torch.nn.functional as F
from torch import Tensor, nn

from training.config import Config
from training.data.words import WordVectors
from training.model.generator import VideoGenerator
from training.model.perceptual import PerceptualDistance
from training.model.trunk import Levels, Trunk
from training.tasks.task import (
    Clips,
    Draw,
    PretrainingTask,
    TaskEvaluation,
    TaskMeasure,
    Views,
    jittered,
    mirrored,
    recoloured,
)

FRAMES = 4
EMBEDDING = 96
DROPPED_WORDS = 0.25
DROPPED_FEATURES = 0.2
JITTER = 2  # pixels
SIDES = {"left", "right"}


def gathered(x: Tensor) -> Tensor:
    """Return the rows (G, ...) of all processes, with gradients to each; of one process, x itself."""
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return x
    return torch.cat(torch.distributed.nn.functional.all_gather(x.contiguous()))


def shared_out(equal: Tensor) -> Tensor:
    """Return targets whose rows sum to 1 from which texts are equal (B, G) bool."""
    return equal.float() / equal.float().sum(dim=1, keepdim=True)


def info_nce(clips: Tensor, texts: Tensor, keys: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric InfoNCE of this process's rows against those of all.

    Args:
        clips: (B, D) unit embeddings.
        texts: (B, D) unit embeddings.
        keys: (B,) int64, equal where captions are.
        scale: () inverse temperature.
    """
    all_clips, all_texts, all_keys = gathered(clips), gathered(texts), gathered(keys)
    target = shared_out(keys[:, None] == all_keys[None])
    to_text = F.cross_entropy(scale * clips @ all_texts.T, target)
    to_clip = F.cross_entropy(scale * texts @ all_clips.T, target)
    return 0.5 * (to_text + to_clip)


def recall(scores: Tensor, right: Tensor, k: int) -> float:
    """Return how often a right answer is among the k best: scores (N, M), right (N, M) bool."""
    best = scores.topk(min(k, scores.shape[1]), dim=1).indices
    return float(right.gather(1, best).any(dim=1).float().mean())


class AlignmentTask(PretrainingTask):
    """Matches clips and captions with one projection each.

    Raises:
        ValueError: no words were given.
    """

    name = "alignment"
    weight = 0.0  # needs captions and --words

    def __init__(self, config: Config, words: WordVectors | None) -> None:
        super().__init__()
        if words is None:
            raise ValueError(
                "the alignment task needs word vectors: create them with `python -m training words MODEL --out WORDS` "
                "and pass --words WORDS, or set pretrain.alignment to 0"
            )
        self.words = words
        channels = Trunk(config.model.encoder_scale, 0).channels
        self.of_clip = nn.Sequential(
            nn.Linear(channels[2] + 2 * channels[3], 192), nn.LeakyReLU(0.2), nn.Linear(192, EMBEDDING)
        )
        self.pooled = channels[2] + 2 * channels[3]
        self.of_text = nn.Linear(words.dimensions, EMBEDDING)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))

    @classmethod
    def create(cls, config: Config, perceptual: PerceptualDistance | None, words: WordVectors | None) -> AlignmentTask:
        """Return the task of a run."""
        del perceptual
        return cls(config, words)

    def views(self, clips: Clips, draw: Draw) -> Views:
        """Return the clips, mirrored unless their captions say left or right."""
        frames = clips.frames[:, :FRAMES]
        sided = torch.tensor([bool(SIDES & set(caption.lower().split())) for caption in clips.captions])
        frames = torch.where(sided.to(frames.device).reshape(-1, 1, 1, 1, 1), frames, mirrored(frames, draw))
        frames = jittered(recoloured(frames, draw), JITTER, draw)
        return Views.clips(frames)

    def embed_clips(self, levels: Levels, kept: Tensor | None = None) -> Tensor:
        """Return unit embeddings (B, D) of clips; features where `kept` (B, F) is False are dropped."""
        x16, x32 = (level.unflatten(0, (-1, FRAMES)) for level in (levels.x16, levels.x32))
        pooled = torch.cat([x16.mean(dim=(1, 3, 4)), x32.mean(dim=(1, 3, 4)), x32.amax(dim=(1, 3, 4))], dim=1)
        if kept is not None:
            pooled = pooled * kept / (1 - DROPPED_FEATURES)
        return F.normalize(self.of_clip(pooled).float(), dim=1)

    def embed_texts(self, texts: list[str]) -> Tensor:
        """Return unit embeddings (N, D) of captions."""
        vectors = torch.from_numpy(self.words.encode(texts)).to(self.log_scale.device)
        return F.normalize(self.of_text(vectors).float(), dim=1)

    def loss(
        self, generator: VideoGenerator, levels: Levels, views: Views, clips: Clips, draw: Draw
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return InfoNCE over the global batch; some words of each caption are dropped."""
        del generator, views
        kept = draw.uniform(64) >= DROPPED_WORDS
        texts = [
            " ".join(word for word, keep in zip(words[:64], row, strict=False) if keep) or caption
            for caption, row in zip(clips.captions, kept.tolist(), strict=True)
            for words in [caption.split()]
        ]
        keys = torch.tensor([hash_of(caption) for caption in clips.captions], device=levels.x32.device)
        kept_features = draw.uniform(self.pooled) >= DROPPED_FEATURES
        ours, theirs = self.embed_clips(levels, kept_features), self.embed_texts(texts)
        loss = info_nce(ours, theirs, keys, self.log_scale.exp().clamp(max=100.0))
        same = keys[:, None] == keys[None]
        hit = same.gather(1, (ours @ theirs.T).argmax(dim=1, keepdim=True)).float().mean()
        return loss, {"loss": loss, "accuracy": hit}

    @torch.no_grad()
    def measure(self, held: TaskEvaluation) -> list[TaskMeasure]:
        """Return how often a held-out clip finds its caption among all held-out captions."""
        ours, colours, captions = [], [], []
        for clips, _, levels, _ in held.batches_of(self):
            ours.append(self.embed_clips(levels))
            colours.append(colour_statistics(clips.frames))
            captions += clips.captions
        unique = sorted(set(captions))
        right = torch.tensor([[text == caption for text in unique] for caption in captions])
        embedding, colour = torch.cat(ours).cpu(), torch.cat(colours).cpu()
        scores = embedding @ self.embed_texts(unique).cpu().T
        # Trivial baseline: ridge regression from colours to words, fitted without the clip's own caption.
        words = torch.from_numpy(self.words.encode(captions))
        simple = (
            F.normalize(left_out_regression(colour, words, captions), dim=1)
            @ torch.from_numpy(self.words.encode(unique)).T
        )
        name = "ridge regression from mean colours"
        return [
            TaskMeasure(
                self.name, f"retrieval R@{k}", recall(scores, right, k), "higher", min(1.0, k / len(unique)),
                recall(simple, right, k), name,
            )
            for k in (1, 5)
        ]  # fmt: skip

    @torch.no_grad()
    def pictures(self, held: TaskEvaluation) -> dict[str, tuple[np.ndarray, str]]:
        """Return held-out clips beside their nearest neighbours of another scene."""
        embeddings, firsts, captions = [], [], []
        for clips, _, levels, _ in held.batches_of(self):
            embeddings.append(self.embed_clips(levels))
            firsts += [(frame * 255).round().byte().permute(1, 2, 0).cpu().numpy() for frame in clips.frames[:, 0]]
            captions += clips.captions
        near = torch.cat(embeddings).cpu()
        near = near @ near.T
        same = torch.tensor([[one == two for two in captions] for one in captions])
        near = near.masked_fill(same, -2.0)
        asked = [captions.index(caption) for caption in sorted(set(captions))][:10]
        rows = []
        for index in asked:
            answers, seen = [], set()
            for other in near[index].argsort(descending=True).tolist():
                if captions[other] not in seen and not same[index, other]:
                    seen.add(captions[other])
                    answers.append(firsts[other])
            answers = (answers + [np.zeros_like(firsts[0])] * 5)[:5]
            gap = np.full((firsts[0].shape[0], 8, 3), 255, np.uint8)
            rows.append(np.concatenate([firsts[index], gap, *answers], axis=1))
        sheet = np.concatenate(rows, axis=0)
        zoom = max(1, round(130 / firsts[0].shape[0]))
        return {
            "neighbours": (
                cv2.resize(sheet, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC),
                "Held-out clips (left) and the five nearest clips with another caption, by the clip embedding.",
            )
        }


def hash_of(text: str) -> int:
    """Return a number that is the same for equal texts in every process."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little")


def colour_statistics(frames: Tensor) -> Tensor:
    """Return mean and spread of each colour in the upper and lower half (B, 12) of clips (B, T, 3, H, W)."""
    halves = frames.mean(dim=1).unflatten(2, (2, -1))  # (B, 3, 2, H/2, W)
    return torch.cat([halves.mean(dim=(3, 4)).flatten(1), halves.std(dim=(3, 4)).flatten(1)], dim=1)


def left_out_regression(inputs: Tensor, targets: Tensor, groups: list[str], ridge: float = 1.0) -> Tensor:
    """Return predictions (N, D) of targets from inputs (N, F), each row fitted on other groups; 0 if there are none."""
    out = torch.zeros_like(targets)
    for group in set(groups):
        inside = torch.tensor([one == group for one in groups])
        if int((~inside).sum()) < 2:
            continue  # nothing to learn from
        mean, spread = inputs[~inside].mean(dim=0), inputs[~inside].std(dim=0) + 1e-6
        x, y = (inputs - mean) / spread, targets[~inside]
        offset = y.mean(dim=0)
        known = x[~inside]
        weights = torch.linalg.solve(known.T @ known + ridge * torch.eye(known.shape[1]), known.T @ (y - offset))
        out[inside] = x[inside] @ weights + offset
    return out
