"""Clips from prompts, named by a probe: part `text`."""

from __future__ import annotations

from collections import Counter
from typing import Any

from benchmarks.quality import text
from benchmarks.quality.context import QualityContext, training_footage
from benchmarks.quality.measures import Measured, measure, to_webp
from benchmarks.quality.sets import from_text


def measure_text(context: QualityContext) -> dict[str, Any]:
    """Let a probe name what was made from prompts."""
    prompts = list(context.plan.prompts)
    if not context.listens:
        raise ValueError(f"{context.name} does not listen to text: leave text out of --parts")
    features = training_footage(context, "text").features
    windows = context.footage.training
    labels = [window.label for window in windows]
    probe = text.fit_probe(features, labels, [window.scene for window in windows])
    real = context.real
    known = [i for i, label in enumerate(real.labels) if label in probe.classes]
    ceiling = None
    if known:
        named = probe.predict(context.sets["real"].features[known])
        ceiling = text.accuracy([real.labels[i] for i in known], named)
    asked = [prompt for prompt in prompts if prompt.label in probe.classes]
    if not asked:
        raise ValueError(
            f"no prompt has a class that the probe knows ({', '.join(probe.classes)}): name others with --prompts"
        )
    name = "from text"

    def make() -> Measured:
        with context.open_show() as show, context.progress(f"{name}: frames", len(asked)) as advance:
            texts = [prompt.text for prompt in asked]
            clips = from_text(show, texts, real.lengths, 20_000 + context.plan.seed, lambda: advance(1))
        with context.progress(f"{name}: I3D", len(clips)) as advance:
            return measure(
                name, clips, context.cache, groups=[], previews=[to_webp(clip, context.fps) for clip in clips],
                advance=lambda: advance(1),
            )  # fmt: skip

    found = context.measured(
        name, make, made=True, groups=[str(i) for i in range(len(asked))], prompts=[prompt.text for prompt in asked]
    )
    named = probe.predict(found.features)
    wanted = [prompt.label for prompt in asked]
    captions = [
        f"{prompt.text}{' (new)' if prompt.novel else ''}: "
        + (f"named {name}" if name == prompt.label else f"asked for {prompt.label}, named {name}")
        for prompt, name in zip(asked, named, strict=True)
    ]
    context.figures["From text"] = list(zip(captions, found.previews, strict=True))
    novel = [i for i, prompt in enumerate(asked) if prompt.novel]
    wrong = text.wrongly_marked(asked, context.footage.captions) if context.footage.captions else []
    return {
        **context.compared(name),
        "all": text.accuracy(wanted, named),
        "novel": text.accuracy([wanted[i] for i in novel], [named[i] for i in novel]) if novel else None,
        "not_new_after_all": [prompt.text for prompt in wrong],
        "left_out": sorted({prompt.label for prompt in prompts} - set(probe.classes)),
        "ceiling": ceiling,
        "chance": 1 / len(probe.classes),
        "probe": {
            "classes": list(probe.classes),
            "training_clips": dict(Counter(label for label in labels if label in probe.classes)),
            "penalty": probe.penalty,
        },
        "confusion": text.confusion(wanted, named, probe.classes),
        "per_prompt": [
            {"prompt": prompt.text, "class": prompt.label, "novel": prompt.novel, "named": name}
            for prompt, name in zip(asked, named, strict=True)
        ],
    }
