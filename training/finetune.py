"""The second stage: adversarial fine-tuning with one critic on (anchor, three frames).

Render few, step many: a frame is displaced from the anchor, not from the frame before, so an iteration advances the
cheap low-resolution state over the whole horizon and renders only the three frames that the critic looks at.

Legend: B batch, T frames, C channels, H height, W width.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.checkpoint import load_checkpoint, part_of, require_same_model
from training.config import Config
from training.discriminator import Discriminator, augment
from training.footage import Batch, ClipSampler
from training.generator import Memory, Shape, State, VideoGenerator
from training.losses import (
    feature_distance,
    finite_difference_penalty,
    flow_error,
    motion_energy_mismatch,
    pooled_l1,
    relativistic_discriminator,
    relativistic_generator,
    require_finite,
)
from training.painter import COMPONENTS, CodeHead, num_codes
from training.perceptual import PerceptualDistance
from training.trunk import Trunk

GAP = 4  # frames between the first and the last frame that the critic sees of a clip


class Recogniser(nn.Module):
    """Picture -> posterior of its content code, as pretraining left it: the encoder and the head that reads codes.

    It keeps an encoder of its own, because the generator's goes on learning.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.trunk = Trunk(shape.encoder_scale, shape.encoder_depth)
        self.head = CodeHead(self.trunk.channels[2:])

    def load_from(self, weights: dict[str, Tensor]) -> None:
        """Take the weights out of a pretrained checkpoint; without the reconstruction task there is no head to take."""
        self.trunk.load_state_dict(part_of(weights, "generator.condition.encoder.trunk."))
        head = part_of(weights, "tasks.reconstruction.code_head.")
        if head:
            self.head.load_state_dict(head)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the code, each (B, num_codes), for images (B, 3, H, W) in [0, 1]."""
        levels = self.trunk(image)
        return self.head(levels.x16, levels.x32)


class FinetuneStage:
    """Trains generator and critic against each other, starting from the pretrained weights where there are some."""

    name = "finetune"
    is_shown = True

    def __init__(self, config: Config, pretrained: Path | None, perceptual: PerceptualDistance | None = None) -> None:
        settings = config.finetune
        if settings.batch < 4:
            raise ValueError(
                f"finetune.batch is {settings.batch}, expected 4 or more: a batch mixes pictures and codes"
            )
        self.config, self.iterations, self.batch = config, settings.iterations, settings.batch
        self.perceptual = perceptual
        self.generator = VideoGenerator(config.model)
        self.recogniser = Recogniser(config.model)
        self.critic = Discriminator(settings.critic_channels)
        if pretrained is not None:
            content = load_checkpoint(pretrained)
            require_same_model(pretrained, content, config)
            self.generator.load_state_dict(part_of(content["ema"], "generator."))
            self.recogniser.load_from(content["ema"])
        self.modules: dict[str, nn.Module] = {
            "generator": self.generator,
            "recogniser": self.recogniser,
            "critic": self.critic,
        }
        # Its codes become the mixture that the generator draws from, so it must not move any more.
        self.recogniser.eval().requires_grad_(False)
        # beta1 = 0: momentum makes the two players circle each other (R3GAN, arXiv 2501.05441, appendix).
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.Adam(self.generator.parameters(), settings.learning_rate, betas=(0.0, 0.99)),
            "critic": torch.optim.Adam(self.critic.parameters(), settings.critic_learning_rate, betas=(0.0, 0.99)),
        }
        self.averaged: nn.Module = nn.ModuleDict({"generator": self.generator})
        for module in self.modules.values():
            module.to(memory_format=torch.channels_last)

    def setup(self, fabric: Fabric) -> None:
        """Move everything to the engine's device.

        Raises:
            ValueError: there is more than one process.
        """
        if fabric.world_size > 1:
            raise ValueError(
                f"finetune was started in {fabric.world_size} processes; the adversarial stage runs in one: "
                "start it without torchrun"
            )
        self.fabric = fabric
        for module in self.modules.values():
            module.to(fabric.device)
        if self.perceptual is not None:
            self.perceptual.to(fabric.device)

    def check(self, path: Path, content: dict[str, Any]) -> None:
        """Raise ValueError unless a checkpoint has the same model."""
        require_same_model(path, content, self.config)

    @torch.no_grad()
    def prepare(self, clips: ClipSampler) -> None:
        """Read the content prior from the footage: the posteriors of as many first frames as it has components."""
        prior = self.generator.condition.prior
        for start in range(0, COMPONENTS, 32):
            first = clips.draw(2**30 + start, 32, [0]).frames[:, 0].float() / 255.0
            mean, logvar = self.recogniser(first)
            prior.means[start : start + 32] = mean
            prior.spreads[start : start + 32] = (0.5 * logvar).exp()

    def offsets(self, step: int) -> list[int]:
        """Return 0, t, t + 1 and t + GAP for a t within the horizon."""
        rng = np.random.default_rng((self.config.run.seed, 1, step))
        first = int(rng.integers(1, self.config.footage.horizon_frames - GAP + 1))
        return [0, first, first + 1, first + GAP]

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        """Do one iteration: make clips once, train the critic on them, then the generator against the new critic."""
        settings = self.config.finetune
        share = iteration / max(1, self.iterations)
        for name, rate in (("generator", settings.learning_rate), ("critic", settings.critic_learning_rate)):
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate * min(1.0, (iteration + 1) / 100) * (0.2 + 0.4 * (1 + math.cos(math.pi * share)))
        device = self.fabric.device
        everything = batch.frames.to(device).float() / 255.0
        first, frames, flow = everything[:, 0], everything[:, 1:], batch.flow.to(device)
        offsets = offsets[1:]
        count = len(first)
        num_given = max(1, min(count - 2, round(settings.given * count)))
        with self.fabric.autocast():
            mask = torch.zeros(count, 1, *first.shape[2:], device=device)
            mask[:num_given] = 1
            # Where the picture is given, the code is painted over: any will do.
            code = torch.zeros(count, num_codes(*first.shape[2:]), device=device)
            # The prior is a mixture of posteriors, so codes recognised from the footage are draws from it, too: the
            # generator is judged on what it will draw, and every picture has one that it should look like.
            mean, logvar = self.recogniser(first[num_given:])
            code[num_given:] = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
            memory = self.generator.condition.from_code(first, mask, code)
            made, aged = self._roll(memory, offsets)
        fake = torch.cat([memory.picture[:, None], made], dim=1)  # (B, 4, 3, H, W)
        real = torch.cat([first[:, None], frames], dim=1)
        metrics = self._update_critic(real, fake.detach())

        self.critic.requires_grad_(False)
        with self.fabric.autocast():
            both = augment(torch.cat([fake, real], dim=1))
            logits, features = self.critic(torch.cat([both[:, :4], both[:, 4:]]))
            fake_logits, real_logits = logits.chunk(2)
            adversarial = relativistic_generator(fake_logits, real_logits)
            pairs = [level.chunk(2) for level in features]
            matching = feature_distance([f for f, _ in pairs], [r for _, r in pairs])
            own = slice(num_given, count)  # these clips were made from the code of their own first frame
            perceptual = torch.stack([(f[own] - r[own].detach()).float().abs().mean() for f, r in pairs]).mean()
            young = ~aged[:num_given]
            continued = (made[:num_given] - frames[:num_given])[young].flatten(0, 1)
            continuation = (
                pooled_l1(continued, torch.zeros_like(continued), (2, 4, 8)) if len(continued) else 0 * adversarial
            )
            code_l1 = pooled_l1(memory.picture[own], first[own])
            look = clip_look = 0 * code_l1
            if self.perceptual is not None:
                look = self.perceptual(memory.picture[own], first[own])
                clip_look = self.perceptual(made[:, -1], frames[:, -1])
            flow_loss = flow_error((memory.flow[:, :2] * memory.flow[:, 2:])[:num_given], flow[:num_given])
            motion = motion_energy_mismatch(made[:, :2], frames[:, :2])
            loss = (
                settings.adversarial * adversarial
                + settings.feature_matching * (matching + perceptual)
                + settings.perceptual * look
                + settings.perceptual_clip * clip_look
                + settings.reconstruction * continuation
                + settings.code_reconstruction * code_l1
                + settings.flow * flow_loss
                + settings.motion * motion
            )
        require_finite(loss, self.name, iteration)
        self.optimisers["generator"].zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.generator.parameters(), 5.0)
        self.optimisers["generator"].step()
        self.critic.requires_grad_(True)
        speed = (made[:, 1] - made[:, 0]).detach().float().abs().mean() / (frames[:, 1] - frames[:, 0]).abs().mean()
        found = {
            "adversarial": adversarial, "motion_ratio": speed, "gap": (real_logits - fake_logits).mean(),
            "matching": matching, "perceptual": perceptual, "look": look, "clip_look": clip_look,
            "continuation": continuation, "code_l1": code_l1,
            "flow": flow_loss, "motion": motion, "gradient": norm,
        }  # fmt: skip
        return {**{key: float(value.detach()) for key, value in found.items()}, **metrics}

    def _roll(self, memory: Memory, offsets: list[int]) -> tuple[Tensor, Tensor]:
        """Return the frames at `offsets` (B, 3, C, H, W), and which clips started from an aged state (B,)."""
        step, shape = self.generator.step, self.generator.shape
        count = len(memory.picture)
        device = memory.picture.device
        control = torch.tensor([[1.0, 0.0, 0.0]], device=device).expand(count, -1)
        aged = torch.rand(count, device=device) < 0.5
        with torch.no_grad():
            # A show is at any moment of its life: the clock anywhere, the oscillators at their stationary variance.
            state = step.initial_state(count, device)
            state = State(torch.randn_like(state.oscillators), torch.rand_like(state.clock), state.hidden)
            past = Memory(*(part.detach() for part in memory))
            for _ in range(int(torch.randint(1, self.config.finetune.burn_in_frames + 1, ()))):
                state = step.advance(past, state, torch.randn(count, shape.num_noise, device=device), control)
            keep = aged.float()
            state = State(*(part * keep.reshape(-1, *([1] * (part.dim() - 1))) for part in state))
        made = []
        for number in range(1, max(offsets) + 1):
            state = step.advance(memory, state, torch.randn(count, shape.num_noise, device=device), control)
            if number in offsets:
                made.append(step.render(memory, state, control))
        return torch.stack(made, dim=1), aged

    def _update_critic(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        settings = self.config.finetune
        with torch.no_grad():
            clips = torch.cat([augment(real), augment(fake)])
            noisy = clips + settings.penalty_sigma * torch.randn_like(clips)
        with self.fabric.autocast():
            logits, _ = self.critic(torch.cat([clips, noisy]))
        clean, perturbed = logits.chunk(2)
        real_logits, fake_logits = clean.chunk(2)
        penalty = finite_difference_penalty(clean, perturbed)  # the mean over both halves: (R1 + R2) / 2
        adversarial = relativistic_discriminator(fake_logits, real_logits)
        loss = adversarial + 2 * settings.penalty * penalty
        self.optimisers["critic"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers["critic"].step()
        return {"critic": float(adversarial.detach()), "penalty": float(penalty.detach())}
