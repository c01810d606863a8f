"""What pretraining learned, frozen, as a judge of the generator: where things move, and what the caption says.

The encoder of pretraining with the heads of its position and alignment tasks. Nothing of it learns any more, so the
generator cannot talk it into anything but what video taught it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.checkpoint import part_of
from training.config import Config
from training.data.words import WordVectors
from training.model.trunk import Levels, Trunk, previous_rows
from training.tasks.alignment import AlignmentTask
from training.tasks.position import PositionTask, affinity, soft_argmax

FRAMES = 4  # of a clip: the first one, and three


class Teacher(nn.Module):
    """Encoder and heads; a head that pretraining did not train is None.

    Args:
        config: with the size that clips have.
        position: whether there is a position head.
        words: vectors of captions if there is an alignment head, else None.
    """

    def __init__(self, config: Config, position: bool, words: WordVectors | None) -> None:
        super().__init__()
        self.trunk = Trunk(config.model.encoder_scale, config.model.encoder_depth)
        self.position = PositionTask(config) if position else None
        self.alignment = AlignmentTask(config, words) if words is not None else None

    @classmethod
    def from_checkpoint(cls, config: Config, weights: dict[str, Tensor], words: WordVectors | None) -> Teacher:
        """Return the teacher that a pretrained checkpoint's averaged weights hold, frozen."""
        position, alignment = (part_of(weights, f"tasks.{name}.") for name in ("position", "alignment"))
        size = alignment["of_text.weight"].shape[1] if alignment else 0
        if words is not None and size not in (0, words.dimensions):
            raise ValueError(
                f"the alignment task was trained with word vectors of {size} values and these have {words.dimensions}: "
                "pass the --words of the pretraining, or set finetune.alignment to 0"
            )
        teacher = cls(config, bool(position), words if alignment else None)
        teacher.trunk.load_state_dict(part_of(weights, "generator.condition.encoder.trunk."))
        if teacher.position is not None:
            teacher.position.load_state_dict(position)
        if teacher.alignment is not None:
            teacher.alignment.load_state_dict(alignment)
        teacher.to(memory_format=torch.channels_last)
        return teacher.eval().requires_grad_(False)

    def forward(self, clips: Tensor, alone: bool = False) -> Levels:
        """Return the levels of all frames of clips (B, FRAMES, 3, H, W) in [0, 1].

        Args:
            clips: what is judged.
            alone: encode every frame by itself, as the position task does; a frame that sees the one before it is
                found again less well (3.5 pixels off instead of 2.2, landscape after 600 iterations).
        """
        chain = None if alone else previous_rows(*clips.shape[:2]).to(clips.device)
        levels: Levels = self.trunk(clips.flatten(0, 1), chain)
        return levels

    def tracks(self, levels: Levels, clips: int, start: int, stop: int) -> Tensor:
        """Return where every cell of one frame is found in a later one: (clips, P, 2) cells, x first.

        Args:
            levels: what `forward` gave for frames alone.
            clips: how many of the first clips.
            start: number of the frame that cells are taken from.
            stop: number of the frame that they are looked for in.
        """
        assert self.position is not None
        embedded = self.position.embed(levels.rows(0, clips * FRAMES)).unflatten(0, (clips, FRAMES))
        found = torch.softmax(affinity(embedded[:, start], embedded[:, stop]), dim=2)
        return soft_argmax(found, *embedded.shape[-2:])

    def misfit(self, levels: Levels, captions: list[str]) -> Tensor:
        """Return how ill clips fit their captions: InfoNCE of clips over the batch's captions, equal ones all right."""
        assert self.alignment is not None
        clips, texts = self.alignment.embed_clips(levels), self.alignment.embed_texts(captions)
        equal = torch.tensor([[a == b for b in captions] for a in captions], device=clips.device).float()
        scores = self.alignment.log_scale.exp() * clips @ texts.T
        return F.cross_entropy(scores, equal / equal.sum(dim=1, keepdim=True))
