"""A run that takes all that can be given, and its export: several folders of tests share them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export import bundle_writer as assembly
from export.bundle_writer import ExportOptions, export_run
from tests.export.wordpiece import make_wordpieces
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import Config, FootageConfig
from training.data.words import WordVectors
from training.model.enlarger import Enlarger
from training.model.generator import Shape, VideoGenerator

WORDS = ["a", "the", "waterfall", "in", "mountains", "sea", "burning", "candle"]
CAPTIONS = ["the sea", "a burning candle", "a waterfall", "the mountains"]


def write_run(out: Path, tiny_run: Path) -> Path:
    """Write a run as training leaves it, but for a generator that nobody has trained; return its folder."""
    out.mkdir()
    words = [word for word in WORDS if word != "a"]  # which is a letter, too
    place = make_wordpieces(out.parent / "words", words)
    config = Config(
        name="tiny",
        model=Shape(64, 64, 4, 16, text_dimensions=16, components=4, encoder_scale=0.25),
        footage=FootageConfig(fps=25.0, short_side=72, crop_min=64, crop_max=72),
    )
    torch.manual_seed(0)
    generator = VideoGenerator(config.model)
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            if "modulation" in name:  # they start at zero, and text would go unheard
                weight.normal_(0, 0.1)
            if name.endswith(("painter.to_rgb.weight", "painter.merge8.weight")):
                weight.mul_(3)
    prior = generator.condition.prior
    prior.means.normal_(0, 1.5)
    prior.spreads.fill_(0.3)
    prior.texts.copy_(torch.from_numpy(WordVectors.open(place).encode(CAPTIONS)))
    ema = {f"generator.{key}": value for key, value in generator.state_dict().items()}
    facts = {"config": config.to_dict(), "ema": ema, "words": str(place), "vocabulary": ["sea", "candle"]}
    save_checkpoint(out / "finetune.pt", {**load_checkpoint(tiny_run / "finetune.pt"), **facts})
    enlarger, settings = Enlarger(4, 1), {"enlarge": {"channels": 4, "layers": 1}}
    picture = ("photo.png", "CC0-1.0", "made by the tests")
    content = {"stage": "enlarge", "iteration": 1, "config": settings, "ema": enlarger.state_dict()}
    save_checkpoint(out / "enlarge.pt", {**content, "footage": [picture]})
    return out


def export(run: Path, out: Path) -> Path:
    """Export it, compared in short closed loops and not in bf16, which few processors have; return the folder."""
    available_engines = assembly.available_engines
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "GOLDEN_FRAMES", (1, 10, 30))
        patch.setattr(assembly, "FEW_FRAMES", (20,))
        patch.setattr(
            assembly,
            "available_engines",
            lambda without: [pair for pair in available_engines(without) if pair[1] != "bf16"],
        )
        export_run(run, out, options=ExportOptions(frames=30, frame=(128, 64), sizes=((64, 64),)))
    return out
