"""The second stage: adversarial fine-tuning against a discriminator of pictures and a discriminator of clips.

An iteration renders few frames and steps many: a frame is displaced from the anchor, not from the frame before. So an
iteration advances the low-resolution state over any number of frames and renders only the three that the clip
discriminator sees. The states reached go into a replay buffer and are continued later.

Legend: B clips of a batch, T frames, C channels, H height, W width.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.checkpoint import load_checkpoint, load_weights, part_of, require_same_encoder, require_same_model
from training.config import Config
from training.data.captions import Captions
from training.data.footage import Batch, ClipSampler
from training.data.hints import sample_hints, tells_direction
from training.data.words import WordVectors
from training.model.discriminators import Discriminator, DiscriminatorOutput, augment
from training.model.generator import CLIP, ConditionMemory, StepState, VideoGenerator
from training.model.painter import LOCAL_CODES, SEAM, CodeHead, put_together, seam
from training.model.perceptual import PerceptualDistance
from training.model.teacher import Teacher
from training.model.trunk import Trunk
from training.stages.losses import (
    DivergenceError,
    code_divergence,
    feature_distance,
    finite_difference_penalty,
    flow_error,
    motion_energy_mismatch,
    pooled_l1,
    relativistic_discriminator,
    relativistic_generator,
    require_finite,
    sway_error,
)
from training.stages.replay import AgedStates, ReplayedRollout, ReplayEntry
from training.start import Start
from training.tasks.reconstruction import draw_tubes
from training.tasks.task import Draw

SEEN = 3  # frames of a clip that the clip discriminator sees, at equal distances
GAPS = (1, 2, 3, 4)  # frames between them
MIXTURE = 2**40  # the mixture's frames are those of clips from this number on
MAX_GRADIENT = 1e4  # a norm beyond it is divergence


class Recogniser(nn.Module):
    """Picture -> posterior of its content code. It has an encoder of its own: the generator's learns other things."""

    def __init__(self, scale: float, depth: int) -> None:
        super().__init__()
        self.trunk = Trunk(scale, depth)
        self.head = CodeHead(self.trunk.channels[1:])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the code, each (B, num_codes), for images (B, 3, H, W) in [0, 1]."""
        levels = self.trunk(image)
        mean, logvar = self.head(*levels[1:])
        return mean, logvar


class Rows(NamedTuple):
    """Which rows of a batch are what, by number: whole pictures given, parts, own codes, codes of two clips mixed."""

    given: int
    parts: int
    own: int
    mixed: int

    @classmethod
    def of(cls, config: Config, count: int) -> Rows:
        """Share out a batch of `count` clips; the shares of the configuration, at least one given and one own.

        All are given if the painter is not trained.
        """
        settings = config.finetune
        if not settings.painter:
            return cls(count, 0, 0, 0)
        mixed = min(count - 2, round(settings.mixed * count))
        parts = min(count - 2 - mixed, round(settings.parts * count))
        given = max(1, min(count - mixed - parts - 1, round(settings.given * count)))
        return cls(given, parts, count - given - parts - mixed, mixed)


class FinetuneStage:
    """Trains generator and discriminators against each other.

    Args:
        config: of the run.
        pretrained: checkpoint of the first stage, or None to start from nothing.
        perceptual: LPIPS, or None.
        words: vectors of captions, for a generator that takes text.
        whole: clips of whole frames, from which the mixture of content codes is read.
        held: held-out clips of the size that is trained on, to measure overfitting; None if there are none.
        start: a trained generator to start from, in the place of `pretrained`; None for none.

    Raises:
        ValueError: an input that the configuration needs is missing.
    """

    name = "finetune"
    is_shown = True

    def __init__(
        self,
        config: Config,
        pretrained: Path | None,
        perceptual: PerceptualDistance | None,
        words: WordVectors | None,
        whole: ClipSampler,
        held: ClipSampler | None,
        start: Start | None = None,
    ) -> None:
        settings, shape = config.finetune, config.model
        self.config, self.iterations, self.batch = config, settings.iterations, settings.batch
        self.rewinds = settings.rewinds
        self.perceptual, self.whole, self.held, self.start = perceptual, whole, held, start
        self.captions = Captions(words, shape.text_dimensions)
        self.generator = VideoGenerator(shape, settings.crop or None)
        scale, depth = shape.encoder_scale, shape.encoder_depth
        self.recogniser = Recogniser(scale, depth)
        self.clip_discriminator = Discriminator(SEEN, scale, depth)
        self.picture_discriminator = Discriminator(1, scale, depth, shape.text_dimensions)
        self.teacher: Teacher | None = None
        # Without a painter the footage's own motion is enough of a target.
        judgement = settings.adversarial, settings.adversarial_picture, settings.feature_matching
        self.is_judged = settings.painter or max(judgement) > 0
        if start is not None:
            self._begin(start)
        elif pretrained is not None and settings.pretrained != "none":
            self._load(pretrained, words)
        if not settings.painter:
            self.generator.condition.painter.requires_grad_(False)
            self.recogniser.requires_grad_(False)
        self.modules: dict[str, nn.Module] = {
            "generator": self.generator,
            "recogniser": self.recogniser,
            "clip_critic": self.clip_discriminator,  # as checkpoints have always named them
            "picture_critic": self.picture_discriminator,
        }
        self.generator.condition.encoder.hints.requires_grad_(settings.hints)
        made: list[Any] = [*self.generator.parameters(), *self.recogniser.parameters()]
        made = [part for part in made if part.requires_grad]
        if settings.encoder_rate != 1:
            trunk = list(self.generator.condition.encoder.trunk.parameters())
            apart = {id(part) for part in trunk}
            rest = [part for part in made if id(part) not in apart]
            made = [{"params": rest, "share": 1.0}, {"params": trunk, "share": settings.encoder_rate}]
        judged = [*self.clip_discriminator.parameters(), *self.picture_discriminator.parameters()]
        # beta1 = 0: momentum makes the two players circle each other (R3GAN, arXiv 2501.05441, appendix).
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": torch.optim.Adam(made, settings.learning_rate, betas=(0.0, 0.99)),
            "critic": torch.optim.Adam(judged, settings.critic_learning_rate, betas=(0.0, 0.99)),
        }
        self.averaged: nn.Module = nn.ModuleDict({"generator": self.generator, "recogniser": self.recogniser})
        for module in self.modules.values():
            module.to(memory_format=torch.channels_last)
        self.aged = AgedStates(settings.replay, settings.max_age_frames)
        self.rate = 1.0  # halved by every rewind
        self.gap = 0.0  # overfitting of the clip discriminator, see `_watch`; a moving average
        self.stop_reason = ""

    def _begin(self, start: Start) -> None:
        """Load a start; what it lacks begins with its encoder, and heads begin with random weights."""
        load_weights(self.generator, start.weights, start.path)
        trunk = part_of(start.weights, "condition.encoder.trunk.")
        for module in (self.recogniser, self.clip_discriminator, self.picture_discriminator):
            module.trunk.load_state_dict(trunk)
        if start.recogniser:
            load_weights(self.recogniser, start.recogniser, start.path)

    def _load(self, path: Path, words: WordVectors | None) -> None:
        settings, content = self.config.finetune, load_checkpoint(path)
        weights = content["ema"]
        trunk = part_of(weights, "generator.condition.encoder.trunk.")
        if settings.pretrained == "encoder":
            require_same_encoder(path, content, self.config)
        else:
            require_same_model(path, content, self.config, weights_only=True)
            prior = "generator.condition.prior."  # read from the footage anew, in whatever size it has now
            own = {key: value for key, value in weights.items() if not key.startswith(prior)}
            kept = {
                f"condition.prior.{key}": value for key, value in self.generator.condition.prior.state_dict().items()
            }
            load_weights(self.generator, part_of(own, "generator.") | kept, path)
            if head := part_of(weights, "tasks.reconstruction.code_head."):
                self.recogniser.head.load_state_dict(head)
            if settings.correspondence or settings.alignment:
                self.teacher = Teacher.from_checkpoint(self.config.cropped(settings.crop), weights, words)
        for module in (
            self.generator.condition.encoder,
            self.recogniser,
            self.clip_discriminator,
            self.picture_discriminator,
        ):
            module.trunk.load_state_dict(trunk)

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
        for module in (*self.modules.values(), self.perceptual, self.teacher):
            if module is not None:
                module.to(fabric.device)

    def check(self, path: Path, content: dict[str, Any]) -> None:
        """Raise ValueError unless a checkpoint has the same model and the same start."""
        require_same_model(path, content, self.config)
        theirs = (content.get("start") or {}).get("sha256")
        if self.start is not None and theirs != self.start.sha256:
            raise ValueError(f"{path} did not start from {self.start.path}: name another --out, or its own start")

    def prepare(self, clips: ClipSampler) -> None:
        """Do nothing: nothing is read from the footage before the first iteration."""

    def extra_state(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores besides weights."""
        return {"aged": self.aged.state_dict(), "rate": self.rate, "gap": self.gap, "stop_reason": self.stop_reason}

    def load_extra_state(self, content: dict[str, Any]) -> None:
        """Restore what `extra_state` returned; drop a stop that the configuration no longer asks for."""
        self.aged.load_state_dict(content["aged"])
        # A rewind keeps the reduced learning rate.
        self.rate, self.gap = min(self.rate, float(content["rate"])), float(content["gap"])
        self.stop_reason = content["stop_reason"] if 0 < self.config.finetune.stop_gap < self.gap else ""

    def slow_down(self) -> None:
        """Halve the learning rates."""
        self.rate *= 0.5

    @torch.no_grad()
    def refresh(self, averaged: nn.Module) -> None:
        """Read the mixture of content codes, and their captions, from whole frames of the footage.

        It stays as it is if the painter is not trained.
        """
        assert isinstance(averaged, nn.ModuleDict)
        if not self.config.finetune.painter:
            return
        prior, recogniser = averaged["generator"].condition.prior, averaged["recogniser"]
        assert isinstance(recogniser, Recogniser)
        spreads = torch.zeros_like(prior.spreads)
        components = len(prior.means)
        numbers = in_proportion(self.whole, components, MIXTURE)
        for start in range(0, components, 8):
            stop = min(components, start + 8)
            batch, _ = self.whole.collate(numbers[start:stop], [0])
            with self.fabric.autocast():
                mean, logvar = recogniser(batch.frames[:, 0].to(self.fabric.device).float() / 255.0)
            prior.means[start:stop] = mean
            prior.texts[start:stop] = self.captions.encode(batch.captions).to(self.fabric.device)
            spreads += (0.5 * logvar).exp().sum(dim=0)
        # One spread per channel of the code: what differs from place to place is noise of the estimate.
        height, width = self.whole.height // 8, self.whole.width // 8
        local = spreads[-LOCAL_CODES * height * width :].reshape(LOCAL_CODES, -1)
        local[:] = local.mean(dim=1, keepdim=True)
        prior.spreads.copy_(spreads / components)

    def offsets(self, step: int) -> list[int]:
        """Return the frames of a step's clips: at times three before the first, then it, and three that are judged.

        None are judged if no frames are made.
        """
        rng = np.random.default_rng((self.config.run.seed, 1, step))
        horizon = self.config.footage.horizon_frames
        gap = int(rng.choice([gap for gap in GAPS if (SEEN - 1) * gap < horizon]))
        fits = CLIP - 1 + (SEEN - 1) * gap < horizon
        before = CLIP - 1 if rng.random() < self.config.finetune.past and fits else 0
        if not self.config.finetune.played:
            return [*range(before + 1)]
        first = before + int(rng.integers(1, horizon - before - (SEEN - 1) * gap + 1))
        return [*range(before + 1), *(first + gap * number for number in range(SEEN))]

    def _rates(self, iteration: int) -> None:
        settings = self.config.finetune
        share = iteration / max(1, self.iterations)
        shape = min(1.0, (iteration + 1) / 100) * (0.2 + 0.4 * (1 + math.cos(math.pi * share)))
        for name, rate in (("generator", settings.learning_rate), ("critic", settings.critic_learning_rate)):
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate * shape * self.rate * group.get("share", 1.0)

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        """Do one iteration: generate clips, train the discriminators on them, then the generator against those.

        If no frames are made (`finetune.played`), only the flow and the sway of the generator's memories are compared.
        """
        settings, device = self.config.finetune, self.fabric.device
        self._rates(iteration)
        judged = offsets[-SEEN:] if settings.played else []
        before, gap = len(offsets) - len(judged) - 1, judged[-1] - judged[-2] if judged else 1
        rows = Rows.of(self.config, len(batch.frames))
        batch, drawn = self._with_aged(batch, rows, gap)
        everything = batch.frames.to(device).float() / 255.0
        past, first, frames = everything[:, :before], everything[:, before], everything[:, before + 1 :]
        flow, sway = batch.flow.to(device), batch.sway.to(device)
        texts = self.captions.encode(batch.captions, dropping=True).to(device)
        with self.fabric.autocast():
            count = len(first)
            mask = torch.zeros(count, 1, *first.shape[2:], device=device)
            mask[: rows.given] = 1
            whole = slice(0, rows.given)
            partly = slice(rows.given, rows.given + rows.parts)
            if rows.parts:
                draw = Draw((self.config.run.seed, "parts", iteration), rows.parts, 0, rows.parts, device)
                mask[partly] = draw_tubes(draw, first.shape[2], first.shape[3], 0.3, 0.9)
            has_past = torch.zeros(count, 1, device=device)
            has_past[: rows.given] = (torch.rand(rows.given, 1, device=device) < 0.75).float()
            hints = None
            if settings.hints:
                hints = sample_hints(flow, Draw((self.config.run.seed, "hints", iteration), count, 0, count, device))
                hints[count - rows.mixed :] = 0  # put together from two clips: neither's flow is theirs
            known_past = past if before else None
            if settings.painter:
                codes = self._codes(first, rows)
                memory = self.generator.condition.from_code(first, mask, codes.code, texts, known_past, has_past, hints)
            else:  # all pictures are given
                memory = self.generator.condition.encoder(first, known_past, has_past, hints)
            if not settings.played:
                is_told = self._is_told(has_past, before, hints)
                return self._descend(self._motion_terms(memory, flow, sway, is_told, slice(0, count)), iteration)
            made, young, reached, ages = self._roll(memory, [offset - before for offset in judged], drawn)
        self._age(batch, reached, ages, rows, gap)
        # Rows whose picture was given are judged by what became of it, the others by the picture that was made up.
        is_made = torch.arange(count, device=device).reshape(-1, 1, 1, 1) >= rows.given
        fake_pictures = torch.where(is_made, memory.picture, made[:, -1])[:, None]
        real_pictures = torch.where(is_made, first, frames[:, -1])[:, None]
        discriminator_metrics: dict[str, float] = {}
        if self.is_judged:
            discriminator_metrics = self._update_discriminators(
                frames, made.detach(), real_pictures, fake_pictures.detach(), texts, gap, iteration
            )

        for discriminator in (self.clip_discriminator, self.picture_discriminator):
            discriminator.requires_grad_(False)
        terms: dict[str, tuple[float, Tensor]] = {}
        with self.fabric.autocast():
            own = slice(rows.given, count - rows.mixed)  # made from their own parts or code: they have a right answer
            if self.is_judged:
                terms |= self._judged(frames, made, real_pictures, fake_pictures, texts, gap, own)
            if settings.painter:
                terms["code_l1"] = settings.code_reconstruction, pooled_l1(memory.picture[own], first[own])
                terms["kl"] = settings.kl, code_divergence(codes.mean, codes.logvar)
            continued = (made[whole] - frames[whole])[young[whole]].flatten(0, 1)
            if len(continued):
                zero = torch.zeros_like(continued)
                terms["continuation"] = settings.reconstruction, pooled_l1(continued, zero, (2, 4, 8))
            if self.perceptual is not None:
                if settings.painter:
                    terms["look"] = settings.perceptual, self.perceptual(memory.picture[own], first[own])
                terms["clip_look"] = settings.perceptual_clip, self.perceptual(made[whole, -1], frames[whole, -1])
            known = slice(0, count - rows.mixed)
            terms |= self._motion_terms(memory, flow, sway, self._is_told(has_past, before, hints), known)
            near_frames = made[:, :2] if gap == 1 else made[:, [0, 2]]
            near_real = frames[:, :2] if gap == 1 else frames[:, [0, 2]]
            terms["motion"] = settings.motion, motion_energy_mismatch(near_frames[known], near_real[known])
            if self.teacher is not None:
                terms |= self._taught(memory, made, first, frames, batch.captions, rows)
        found = self._descend(terms, iteration)
        if self.is_judged and self.held is not None and iteration % settings.gap_every == 0:
            self._watch(frames, made.detach(), offsets, before, gap, iteration)
        real_speed = (frames[:, -1] - frames[:, 0]).abs().mean().clamp(min=1e-6)
        speed = (made[:, -1] - made[:, 0]).detach().float().abs().mean() / real_speed
        more = {
            "motion_ratio": float(speed),
            "overfitting": self.gap,
            "age": self.aged.mean_age(),
        }
        return {**found, **more, **discriminator_metrics}

    def _is_told(self, has_past: Tensor, before: int, hints: Tensor | None) -> Tensor:
        """Return (B,) bool: which clips have only one way to go on, as their past or an arrow was seen."""
        is_told = (has_past[:, 0] > 0) & (before > 0) | (not self.config.footage.either_way)
        return is_told if hints is None else is_told | tells_direction(hints)

    def _motion_terms(
        self, memory: ConditionMemory, flow: Tensor, sway: Tensor, is_told: Tensor, known: slice
    ) -> dict[str, tuple[float, Tensor]]:
        """Return the terms that compare a memory's motion with the footage's, for the rows `known`."""
        settings, horizon = self.config.finetune, self.config.footage.horizon_frames
        steady = memory.flow[:, :2] * memory.flow[:, 2:]
        free = F.avg_pool2d(memory.flow[:, 2:].float(), 2)
        swings = self.generator.step.expected_sway(memory, horizon) * free
        return {
            "flow": (settings.flow, flow_error(steady[known], flow[known], is_told[known])),
            "sway": (settings.sway, sway_error(swings[known], F.avg_pool2d(sway, 2)[known])),
        }

    def _descend(self, terms: dict[str, tuple[float, Tensor]], iteration: int) -> dict[str, float]:
        """Train the generator on weighted terms; return their values, and the gradient's norm."""
        loss = torch.stack([weight * term.float() for weight, term in terms.values()]).sum()
        require_finite(loss, self.name, iteration)
        self.optimisers["generator"].zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_([*self.generator.parameters(), *self.recogniser.parameters()], 5.0)
        if not float(norm) < MAX_GRADIENT:
            raise DivergenceError(
                f"{self.name} diverged at iteration {iteration}: its gradient has the norm {float(norm):.3g}"
            )
        self.optimisers["generator"].step()
        return {name: float(term.detach()) for name, (_, term) in terms.items()} | {"gradient": float(norm)}

    class Codes(NamedTuple):
        """Content codes of a batch (B, num_codes): what is painted from, and the posterior of what was recognised."""

        code: Tensor
        mean: Tensor
        logvar: Tensor

    def _codes(self, first: Tensor, rows: Rows) -> Codes:
        """Recognise the codes of all rows that are painted; mix those of the last ones."""
        mean, logvar = self.recogniser(first[rows.given :])
        drawn = mean + torch.randn_like(mean) * (0.5 * logvar).exp()
        if rows.mixed:
            # Put together from two rows, as the prior does it: nobody knows the right answer.
            order = torch.randperm(len(drawn), device=first.device)[: rows.mixed]
            height, width = first.shape[2] // 8, first.shape[3] // 8
            noise = torch.randn(rows.mixed, SEAM * SEAM + 1, device=first.device)
            share = seam(noise, height, width, 1.0 if self.config.model.mixing > 0 else 0.0)
            mixed = put_together(drawn[-rows.mixed :], drawn[order], share)
            drawn = torch.cat([drawn[: -rows.mixed], mixed])
        # Where the picture is given, the code is painted over: any will do.
        nothing = torch.zeros(rows.given, mean.shape[1], device=first.device, dtype=drawn.dtype)
        return self.Codes(torch.cat([nothing, drawn]), mean, logvar)

    def _with_aged(self, batch: Batch, rows: Rows, gap: int) -> tuple[Batch, list[ReplayEntry]]:
        """Put rollouts from the buffer in the place of the first given clips."""
        wanted = round(self.config.finetune.replay_share * rows.given)
        drawn = self.aged.draw(wanted, (*batch.frames.shape[1:], gap)) if wanted else []
        if not drawn:
            return batch, []
        count = len(drawn)
        rollouts = [entry.rollout for entry in drawn]
        return batch._replace(
            frames=torch.cat([torch.stack([rollout.frames for rollout in rollouts]), batch.frames[count:]]),
            flow=torch.cat([torch.stack([rollout.flow for rollout in rollouts]), batch.flow[count:]]),
            sway=torch.cat([torch.stack([rollout.sway for rollout in rollouts]), batch.sway[count:]]),
            captions=[*(rollout.caption for rollout in rollouts), *batch.captions[count:]],
        ), drawn

    def _roll(
        self, memory: ConditionMemory, offsets: list[int], drawn: list[ReplayEntry]
    ) -> tuple[Tensor, Tensor, StepState, Tensor]:
        """Play memories.

        Args:
            memory: of the batch.
            offsets: the frames that are rendered, counted from the memory's first.
            drawn: replay entries, from whose states the first rows continue.

        Returns:
            The frames (B, SEEN, C, H, W); which clips started from the very first frame (B,); the states that were
            reached; their ages in frames (B,).
        """
        step, shape = self.generator.step, self.generator.shape
        count, device = len(memory.picture), memory.picture.device
        control = torch.tensor([[1.0, 0.0, 0.0]], device=device).expand(count, -1)
        young = torch.rand(count, device=device) < 0.5
        ages = torch.zeros(count, dtype=torch.long)
        with torch.no_grad():
            # Any moment of a rollout: a random clock, and oscillators at their stationary variance.
            state = step.initial_state(count, device)
            clock = torch.cat([torch.rand(count, 1, device=device), torch.ones(count, 1, device=device)], dim=1)
            state = StepState(torch.randn_like(state.oscillators), clock, state.hidden)
            for row, entry in enumerate(drawn):
                young[row] = False
                ages[row] = entry.age
                for part, known in zip(state, entry.state, strict=True):
                    part[row] = known[0].to(device)
            past = ConditionMemory(*(part.detach() for part in memory))
            burnt = int(torch.randint(1, self.config.finetune.burn_in_frames + 1, ()))
            for _ in range(burnt):
                state = step.advance(past, state, torch.randn(count, shape.num_noise, device=device), control)
            keep = (~young).float()
            state = StepState(*(part * keep.reshape(-1, *([1] * (part.dim() - 1))) for part in state))
        made = []
        for number in range(1, max(offsets) + 1):
            state = step.advance(memory, state, torch.randn(count, shape.num_noise, device=device), control)
            if number in offsets:
                made.append(step.render(memory, state, control))
        reached = StepState(*(part.detach() for part in state))
        return torch.stack(made, dim=1), young, reached, ages + max(offsets) + burnt * (~young).long().cpu()

    def _age(self, batch: Batch, state: StepState, ages: Tensor, rows: Rows, gap: int) -> None:
        """Put the given rows into the buffer, with the states that they have reached."""
        if not self.config.finetune.replay:
            return
        count = max(1, round(self.config.finetune.replay_share * rows.given))
        for row in range(min(2 * count, rows.given)):  # what was drawn goes back, and as many new ones come
            # Copies: a view would keep (and write into every checkpoint) the whole batch.
            frames, flow, sway = (part[row].clone() for part in (batch.frames, batch.flow, batch.sway))
            reached = StepState(*(part[row : row + 1].cpu().clone() for part in state))
            self.aged.put(
                ReplayEntry(ReplayedRollout(frames, flow, sway, batch.captions[row], gap), reached, int(ages[row]))
            )

    def _update_discriminators(
        self, real: Tensor, fake: Tensor, real_pictures: Tensor, fake_pictures: Tensor, texts: Tensor, gap: int,
        iteration: int,
    ) -> dict[str, float]:  # fmt: skip
        settings, count = self.config.finetune, len(real)
        for discriminator in (self.clip_discriminator, self.picture_discriminator):
            discriminator.requires_grad_(True)  # here, so that it holds after a rewind, too
        is_penalised = iteration % settings.penalty_every == 0
        weight = 2 * settings.penalty * settings.penalty_every
        with torch.no_grad():
            clips = torch.cat([augment(real), augment(fake)])
            pictures = torch.cat([augment(real_pictures), augment(fake_pictures)])
            some = max(1, count // 4)
            unreal = torch.cat([clips[:some, :1].expand(-1, SEEN, -1, -1, -1), clips[some : 2 * some].flip(1)])
            noisy = [part + settings.penalty_sigma * torch.randn_like(part) for part in (clips, pictures)]
        with self.fabric.autocast():
            seen = torch.cat([clips, unreal, *([noisy[0]] if is_penalised else [])])
            verdict = self.clip_discriminator(seen, gap)
            true, made = verdict.take(0, count), verdict.take(count, 2 * count)
            clip_loss = against(made, true, relativistic_discriminator)
            pretended = verdict.take(2 * count, 2 * count + 2 * some)
            unreal_loss = against(pretended, true.take(0, 2 * some), relativistic_discriminator)
            penalty = real.new_zeros(())
            if is_penalised:
                penalty = penalty + penalty_of(
                    verdict.take(0, 2 * count), verdict.take(2 * count + 2 * some, len(seen))
                )
            seen = torch.cat([pictures, *([noisy[1]] if is_penalised else [])])
            verdict = self.picture_discriminator(seen)
            bare = verdict.take(0, 2 * count)
            judged = self.picture_discriminator.with_captions(bare, torch.cat([texts, texts]))
            picture_loss = against(judged.take(count, 2 * count), judged.take(0, count), relativistic_discriminator)
            if is_penalised:
                penalty = penalty + penalty_of(bare, verdict.take(2 * count, 4 * count))
            if self.picture_discriminator.from_text is not None:
                others = texts.roll(1, dims=0)
                differs = ((others - texts).abs().sum(dim=1, keepdim=True) > 1e-3).float()
                wrong = self.picture_discriminator.with_captions(bare.take(0, count), others)
                right = judged.take(0, count)
                unreal_loss = unreal_loss + (F.softplus(wrong.logits[-1] - right.logits[-1]) * differs).mean()
            loss = clip_loss + picture_loss + settings.unreal * unreal_loss + weight * penalty
        require_finite(loss, self.name, iteration)
        self.optimisers["critic"].zero_grad(set_to_none=True)
        loss.backward()
        self.optimisers["critic"].step()
        found = {"discriminator": clip_loss, "discriminator_picture": picture_loss, "unreal": unreal_loss}
        if is_penalised:
            found["penalty"] = penalty
        return {key: float(value.detach()) for key, value in found.items()}

    def _judged(
        self, frames: Tensor, made: Tensor, real_pictures: Tensor, fake_pictures: Tensor, texts: Tensor, gap: int,
        own: slice,
    ) -> dict[str, tuple[float, Tensor]]:  # fmt: skip
        """Return the terms of both discriminators; `own` are the rows that have a right answer."""
        settings, count = self.config.finetune, len(frames)
        terms: dict[str, tuple[float, Tensor]] = {}
        both = augment(torch.cat([made, frames], dim=1))
        verdict = self.clip_discriminator(torch.cat([both[:, :SEEN], both[:, SEEN:]]), gap)
        fake, real = verdict.take(0, count), verdict.take(count, 2 * count)
        terms["adversarial"] = settings.adversarial, against(fake, real, relativistic_generator)
        terms["matching"] = settings.feature_matching, feature_distance(fake.features, real.features)
        both = augment(torch.cat([fake_pictures, real_pictures], dim=1))
        verdict = self.picture_discriminator(torch.cat([both[:, :1], both[:, 1:]]))
        verdict = self.picture_discriminator.with_captions(verdict, torch.cat([texts, texts]))
        fake, real = verdict.take(0, count), verdict.take(count, 2 * count)
        terms["adversarial_picture"] = settings.adversarial_picture, against(fake, real, relativistic_generator)
        if settings.painter:
            levels = zip(fake.features, real.features, strict=True)
            near = [(f[own] - r[own].detach()).float().abs().mean() for f, r in levels]
            terms["own_features"] = settings.feature_matching, torch.stack(near).mean()
        return terms

    def _taught(
        self, memory: ConditionMemory, made: Tensor, first: Tensor, frames: Tensor, captions: list[str], rows: Rows
    ) -> dict[str, tuple[float, Tensor]]:
        """Return the terms of the pretrained tasks' heads: where things move, and what the caption says."""
        settings = self.config.finetune
        assert self.teacher is not None
        given = rows.given
        terms = {}
        if settings.correspondence and self.teacher.position is not None:
            ours = self.teacher(torch.cat([memory.picture[:given, None], made[:given]], dim=1), alone=True)
            with torch.no_grad():
                theirs = self.teacher(torch.cat([first[:given, None], frames[:given]], dim=1), alone=True)
            moved = self.teacher.tracks(ours, given, 1, SEEN), self.teacher.tracks(theirs, given, 1, SEEN)
            terms["correspondence"] = settings.correspondence, F.smooth_l1_loss(*moved)
        if settings.alignment and self.teacher.alignment is not None:
            whole = self.teacher(torch.cat([memory.picture[:, None], made], dim=1))
            terms["alignment"] = settings.alignment, self.teacher.misfit(whole, captions)
        return terms

    @torch.no_grad()
    def _watch(self, real: Tensor, fake: Tensor, offsets: list[int], before: int, gap: int, iteration: int) -> None:
        """Measure overfitting: the train/held-out gap of the clip discriminator as a share of its real/fake gap."""
        assert self.held is not None
        settings = self.config.finetune
        batch = self.held.draw(2**21 + iteration // settings.gap_every, len(real), offsets)
        held = batch.frames[:, before + 1 :].to(self.fabric.device).float() / 255.0
        with self.fabric.autocast():
            verdict = self.clip_discriminator(torch.cat([augment(real), augment(fake), augment(held)]), gap)
        scores = torch.stack([part.float().mean(dim=1) for part in verdict.logits]).mean(dim=0)
        known, made, unknown = (float(part.mean()) for part in scores.chunk(3))
        share = (known - unknown) / max(known - made, 0.2)
        self.gap += 0.1 * (max(-1.0, min(2.0, share)) - self.gap)
        if 0 < settings.stop_gap < self.gap:
            self.stop_reason = (
                f"the discriminators overfit: the train/held-out gap is {self.gap:.0%} of the real/fake gap "
                f"(finetune.stop_gap is {settings.stop_gap:g})"
            )

    @torch.no_grad()
    def held_out_figures(self, averaged: nn.Module, count: int) -> dict[str, float]:
        """Return how well the averaged generator reads motion from held-out pictures and gives them back from codes."""
        assert isinstance(averaged, nn.ModuleDict)
        if self.held is None:
            return {}
        generator, recogniser = averaged["generator"], averaged["recogniser"]
        horizon = self.config.footage.horizon_frames
        sums: dict[str, list[Tensor]] = {"flow error": [], "standing still": [], "sway error": []}
        if self.config.finetune.painter:
            sums["code PSNR"] = []
        for number in range(max(1, count // 8)):
            batch = self.held.draw(2**22 + number, 8, [0])
            first = batch.frames[:, 0].to(self.fabric.device).float() / 255.0
            flow, sway = batch.flow.to(self.fabric.device), batch.sway.to(self.fabric.device)
            with self.fabric.autocast():
                if self.config.finetune.painter:
                    mean, _ = recogniser(first)
                    mask = torch.zeros_like(first[:, :1])
                    texts = self.captions.encode(batch.captions).to(first.device)
                    painted = generator.condition.painter(first, mask, mean, texts)
                    mse = (painted.float() - first).square().mean(dim=(1, 2, 3)).clamp(min=1e-8)
                    sums["code PSNR"].append((-10 * mse.log10()).mean())
                memory = generator.condition.encoder(first)
                swings = generator.step.expected_sway(memory, horizon) * F.avg_pool2d(memory.flow[:, 2:].float(), 2)
            steady = memory.flow[:, :2] * memory.flow[:, 2:]
            sums["flow error"].append(flow_error(steady, flow))
            sums["standing still"].append(flow_error(torch.zeros_like(flow), flow))
            sums["sway error"].append(sway_error(swings, F.avg_pool2d(sway, 2)))
        return {name: float(torch.stack(values).mean()) for name, values in sums.items()} | {"overfitting": self.gap}


def in_proportion(clips: ClipSampler, count: int, first: int) -> list[int]:
    """Return the numbers of `count` samples, from `first` on, in which every scene has its share of the footage.

    Training shows all scenes equally often; what is made up should come from a short one as rarely as it is short.
    """
    scenes = clips.spans.library.scenes()
    length: dict[str, int] = {}
    for span in clips.spans:
        length[scenes[span.take]] = length.get(scenes[span.take], 0) + span.last - span.first
    total = sum(length.values())
    # The largest remainders get what rounding down leaves over.
    exact = {scene: count * frames / total for scene, frames in length.items()}
    left = {scene: int(share) for scene, share in exact.items()}
    for scene in sorted(exact, key=lambda scene: (left[scene] - exact[scene], scene))[: count - sum(left.values())]:
        left[scene] += 1
    numbers: list[int] = []
    number = first
    while len(numbers) < count:
        scene = scenes[clips.span(number).take]
        if left[scene] > 0:
            left[scene] -= 1
            numbers.append(number)
        number += 1
    return numbers


def against(fake: DiscriminatorOutput, real: DiscriminatorOutput, loss: Any) -> Tensor:
    """Return the mean of a relativistic loss (fake logits, real logits) over a discriminator's levels."""
    return torch.stack([loss(f, r) for f, r in zip(fake.logits, real.logits, strict=True)]).mean()


def penalty_of(clean: DiscriminatorOutput, perturbed: DiscriminatorOutput) -> Tensor:
    """Return the finite-difference penalty, the mean over a discriminator's levels."""
    pairs = zip(clean.logits, perturbed.logits, strict=True)
    return torch.stack([finite_difference_penalty(a, b) for a, b in pairs]).mean()
