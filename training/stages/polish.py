"""The third stage: sharper generated scenes.

Scenes are generated from a mixture of codes that fine-tuning reads from footage with its recogniser; a code that is
read in one pass loses most of the detail. Here codes and painter are optimised together until each code reproduces its
own frame (GLO, Bojanowski et al. 2018, arXiv 1707.05776, eq. 2), on whole frames. Motion does not change.

Legend: B pictures of a batch, H height, W width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from lightning.fabric import Fabric
from torch import Tensor, nn

from training.checkpoint import load_checkpoint, load_weights, part_of, require_same_model
from training.config import Config
from training.data.captions import Captions
from training.data.footage import Batch, ClipSampler
from training.data.words import WordVectors
from training.model.generator import VideoGenerator
from training.model.perceptual import PerceptualDistance
from training.stages.finetune import MIXTURE, in_proportion
from training.stages.losses import require_finite
from training.tasks.reconstruction import draw_tubes
from training.tasks.task import Draw


class CodeTable(nn.Module):
    """The mixture's codes (components, num_codes) as a parameter."""

    def __init__(self, means: Tensor) -> None:
        super().__init__()
        self.means = nn.Parameter(means.clone())


class PolishStage:
    """Optimises the painter and the mixture of content codes; everything else is unchanged.

    Args:
        config: of the run.
        source: checkpoint of fine-tuning.
        perceptual: LPIPS, or None: without it pictures get closer, not sharper.
        whole: clips of whole frames, the very ones that fine-tuning read the mixture from.

    Raises:
        ValueError: the checkpoint is missing, damaged or of another model.
    """

    name = "polish"
    is_shown = True
    stop_reason = ""
    rewinds = 2

    def __init__(self, config: Config, source: Path, perceptual: PerceptualDistance | None, whole: ClipSampler) -> None:
        self.config, self.iterations = config, config.polish.iterations
        self.batch = max(1, config.polish.batch // 4)  # clips of the loader: pictures that are seen in parts
        content = load_checkpoint(source)
        require_same_model(source, content, config, played=True)
        if content["stage"] != "finetune":
            raise ValueError(f"{source} is of the stage {content['stage']}, expected finetune: run finetune first")
        self.source = f"{content['stage']} {content['iteration']}"
        self.facts: dict[str, Any] = {key: content[key] for key in ("words", "vocabulary", "start") if key in content}
        self.is_kept = not content["config"]["finetune"].get("painter", True)  # the mixture that was there before
        self.generator = VideoGenerator(config.model)
        load_weights(self.generator, part_of(content["ema"], "generator."), source)
        self.generator.requires_grad_(False)
        self.painter, self.prior = self.generator.condition.painter, self.generator.condition.prior
        self.painter.requires_grad_(True)
        self.painter.to(memory_format=torch.channels_last)
        self.table = CodeTable(self.prior.means)
        self.perceptual, self.whole = perceptual, whole
        self.pictures = torch.zeros(0)
        self.modules: dict[str, nn.Module] = {"painter": self.painter, "table": self.table}
        self.averaged: nn.Module = nn.ModuleDict({"generator": self.generator, "table": self.table})
        self.spreads = self.prior.spreads.clone() if self.is_kept else config.polish.jitter * self.prior.spreads
        self.captions = Captions(None, 0)
        if self.is_kept and config.model.text_dimensions:
            self.captions = Captions(WordVectors.open(Path(content["words"])), config.model.text_dimensions)
        self.rate = 1.0
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "painter": torch.optim.Adam(self.painter.parameters(), betas=(0.9, 0.99)),
            # No momentum: it would move a code while it is not sampled.
            "table": torch.optim.Adam(self.table.parameters(), betas=(0.0, 0.99)),
        }

    def setup(self, fabric: Fabric) -> None:
        """Move everything to the engine's device, and read the mixture's frames.

        Raises:
            ValueError: there is more than one process.
        """
        if fabric.world_size > 1:
            raise ValueError(
                f"polish was started in {fabric.world_size} processes; it runs in one: start it without torchrun"
            )
        self.fabric = fabric
        for module in (self.generator, self.table, self.perceptual):
            if module is not None:
                module.to(fabric.device)
        self.spreads = self.spreads.to(fabric.device)
        if self.is_kept:
            self._replace_some()
        else:
            self.pictures, _ = self._frames(len(self.table.means))

    def _frames(self, count: int) -> tuple[Tensor, list[str]]:
        """Return frames of the footage (count, 3, H, W) uint8 and their captions."""
        numbers = in_proportion(self.whole, count, MIXTURE)
        batches = [self.whole.collate(numbers[start : start + 8], [0])[0] for start in range(0, len(numbers), 8)]
        return torch.cat([batch.frames[:, 0] for batch in batches]), [text for b in batches for text in b.captions]

    @torch.no_grad()
    def _replace_some(self) -> None:
        """Keep what the painter paints from most of the mixture's codes; frames of the footage replace the others.

        A frame starts from the code whose picture is closest to it.
        """
        prior, count = self.prior, len(self.table.means)
        painted = []
        for start in range(0, count, 8):
            rows = slice(start, min(count, start + 8))
            nothing = torch.zeros(len(prior.means[rows]), 3, self.painter.height, self.painter.width)
            nothing = nothing.to(prior.means.device)
            texts = prior.texts[rows] if self.config.model.text_dimensions else None
            painted.append(self.painter(nothing, nothing[:, :1], prior.means[rows], texts).float().cpu())
        self.pictures = (torch.cat(painted) * 255).round().to(torch.uint8)
        replaced = round(self.config.polish.replaced * count)
        if not replaced:
            return
        rows = torch.linspace(0, count - 1, replaced).round().long()
        frames, captions = self._frames(replaced)
        ours, theirs = (F.adaptive_avg_pool2d(part.float(), 16).flatten(1) for part in (frames, self.pictures))
        nearest = torch.cdist(ours, theirs).argmin(dim=1)
        self.table.means[rows.to(self.table.means.device)] = prior.means[nearest.to(prior.means.device)]
        prior.texts[rows] = self.captions.encode(captions).to(prior.texts.device)
        self.pictures[rows] = frames

    def check(self, path: Path, content: dict[str, Any]) -> None:
        """Raise ValueError unless a checkpoint has the same model and started from the same fine-tuning."""
        require_same_model(path, content, self.config)
        if (theirs := content["extra"]["source"]) != self.source:
            raise ValueError(
                f"{path} started from {theirs}, the run's checkpoint is of {self.source}: delete it to polish again"
            )

    def prepare(self, clips: ClipSampler) -> None:
        """Do nothing: `setup` reads what is needed."""

    def offsets(self, step: int) -> list[int]:  # noqa: ARG002 - the loop's interface
        """Return which frames of a clip a step wants: the first alone."""
        return [0]

    def extra_state(self) -> dict[str, Any]:
        """Return the state that a checkpoint stores besides weights."""
        return {"source": self.source, "rate": self.rate}

    def load_extra_state(self, content: dict[str, Any]) -> None:
        """Restore what `extra_state` returned."""
        self.rate = min(self.rate, float(content["rate"]))

    def slow_down(self) -> None:
        """Halve the learning rates, after a rewind."""
        self.rate *= 0.5

    @torch.no_grad()
    def refresh(self, averaged: nn.Module) -> None:
        """Copy the averaged codes into the averaged generator's mixture."""
        assert isinstance(averaged, nn.ModuleDict)
        prior, table = averaged["generator"].condition.prior, averaged["table"]
        assert isinstance(table, CodeTable)
        prior.means.copy_(table.means)
        prior.spreads.copy_(self.spreads)

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:  # noqa: ARG002
        """Do one iteration: some of the mixture's pictures from their codes, some others from their parts."""
        settings, device = self.config.polish, self.fabric.device
        share = iteration / max(1, self.iterations)
        shape = min(1.0, (iteration + 1) / 20) * (1 - 0.95 * share) * self.rate
        for name, rate in (("painter", settings.learning_rate), ("table", settings.code_learning_rate)):
            for group in self.optimisers[name].param_groups:
                group["lr"] = rate * shape
        count, parts = settings.batch, len(batch.frames)
        rows = torch.randint(0, len(self.pictures), (count + parts,))
        wanted = torch.cat([self.pictures[rows[:count]], batch.frames[:, 0]]).to(device).float() / 255.0
        mask = torch.zeros_like(wanted[:, :1])
        draw = Draw((self.config.run.seed, "parts", iteration), parts, 0, parts, device)
        mask[count:] = draw_tubes(draw, wanted.shape[2], wanted.shape[3], 0.3, 0.9)
        rows = rows.to(device)
        jitter = torch.randn(len(rows), self.table.means.shape[1], device=device)
        codes = self.table.means[rows] + self.spreads * jitter
        texts = None
        if self.config.model.text_dimensions:
            texts = self.prior.texts[rows] * (torch.rand(len(rows), 1, device=device) < 0.5)
        with self.fabric.autocast():
            made = self.painter(wanted, mask, codes, texts).float()
            terms = {"l1": (1.0, (made - wanted).abs().mean())}
            if self.perceptual is not None:
                terms["look"] = settings.perceptual, self.perceptual(made, wanted).mean()
        loss = torch.stack([weight * term.float() for weight, term in terms.values()]).sum()
        require_finite(loss, self.name, iteration)
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        for optimiser in self.optimisers.values():
            optimiser.step()
        with torch.no_grad():
            error = (made - wanted).square().mean(dim=(1, 2, 3)).clamp(min=1e-8)
            psnr = -10 * error.log10()
        found = {name: float(term.detach()) for name, (_, term) in terms.items()}
        return {**found, "psnr": float(psnr[:count].mean()), "psnr_parts": float(psnr[count:].mean())}
