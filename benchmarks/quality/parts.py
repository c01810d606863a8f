"""The parts of an evaluation. A new one is a function and a line in `PARTS`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.metrics import confusion_matrix

from benchmarks.quality import text
from benchmarks.quality.clips import (
    Clip,
    from_seeds,
    from_text,
    image_to_video,
    repeated,
    reversed_time,
    shuffled,
    side_by_side,
    to_webp,
)
from benchmarks.quality.context import QualityContext, training_footage
from benchmarks.quality.distances import bootstrap_mmd2_difference, half_against_half, paired_test
from benchmarks.quality.endless import measure_endless
from benchmarks.quality.measures import STILL, Measured
from benchmarks.quality.memory import distances, nearness, nearness_ratios

PREVIEWS = 8  # clips of a set that the page shows
FLOORS = ("other moments", "reversed", "shuffled", "first frame repeated")


def measure_real(context: QualityContext) -> dict[str, Any]:
    """Measure the real clips and the floors that need no generator; every other part builds on it."""
    real = context.real
    windows = context.data_key([*context.footage.others, *context.footage.training])

    def floor(name: str, clips: Callable[[], list[Clip]], given: int = 0, has_lpips: bool = False) -> None:
        context.measure_set(name, clips, given=given, has_lpips=has_lpips, others=windows)

    floor("real", lambda: real.clips, given=1)
    floor("other moments", lambda: context.others.clips)
    floor("reversed", lambda: reversed_time(real.clips), has_lpips=True)
    floor("shuffled", lambda: shuffled(real.clips, context.plan.seed), has_lpips=True)
    floor("first frame repeated", lambda: repeated(real.clips), given=1, has_lpips=True)
    result = {name: context.compared(name) for name in FLOORS}
    videos = [window.video for window in real.windows]
    halves = half_against_half(context.sets["real"].features, videos, context.plan.seed)
    result["half against half"] = {"clips": len(videos) // 2, "mmd2": halves.to_json()}
    if context.footage.training:
        training = training_footage(context, "the floor").features
        nearest = distances(context.sets["real"].features, training).argmin(1).tolist()

        def nearest_clips() -> list[Clip]:
            return [context.training.clips[i][: len(clip)] for i, clip in zip(nearest, real.clips, strict=True)]

        floor("nearest training clip", nearest_clips)
        chosen = [context.footage.training[number] for number in nearest]
        result["nearest training clip"] = {
            **context.compared("nearest training clip"),
            "different": len({(window.take, window.first, window.top, window.left) for window in chosen}),
        }
    return result


def measure_i2v(context: QualityContext) -> dict[str, Any]:
    """Continue every real clip from its first frame."""
    real, seed, name = context.real, context.plan.seed, "image to video"
    shown = _spread(len(real.clips), PREVIEWS)
    found = context.measure_made(
        name,
        len(real.clips),
        lambda show, advance: image_to_video(show, real.clips, seed, advance),
        given=1,
        has_lpips=True,
        previews=lambda clips: [to_webp(side_by_side([real.clips[i], clips[i]]), context.fps) for i in shown],
    )
    still, truth = context.sets["first frame repeated"], context.sets["real"]
    captions = [f"{real.windows[i].video}: real, made" for i in shown]
    heading = "Image to video: the real clip, and what was made from its first frame"
    context.figures[heading] = list(zip(captions, found.previews, strict=True))
    difference = bootstrap_mmd2_difference(truth.features, found.features, still.features, real.scenes, seed)
    distance, still_distance = (np.linalg.norm(made.features - truth.features, axis=1) for made in (found, still))
    return {
        **context.compared(name),
        "closer_than_first_frame_repeated": paired_test(found.features, still.features, truth.features).to_json(),
        "mmd2_less_first_frame_repeated": difference.to_json(),
        "closer_by_logits": paired_test(found.logits, still.logits, truth.logits).to_json(),
        "by_class": by_class(real.labels, distance < still_distance, found.flow, truth.flow),
        "per_clip": [
            {
                "video": window.video, "class": window.label, "first": window.first, "frames": window.frames,
                "flow": round(float(found.flow[i]), 4), "real_flow": round(float(truth.flow[i]), 4),
                "flicker": round(float(found.flicker[i]), 4), "real_flicker": round(float(truth.flicker[i]), 4),
                "distance": round(float(distance[i]), 5), "still_distance": round(float(still_distance[i]), 5),
            }
            for i, window in enumerate(real.windows)
        ],
    }  # fmt: skip


def by_class(labels: Sequence[str], closer: npt.ArrayLike, made: npt.ArrayLike, real: npt.ArrayLike) -> dict[str, Any]:
    """Return the figures of every class of clips, the largest class first.

    Args:
        labels: the class of each clip; "" where none is known.
        closer: (n,) whether what was made is closer to the real clip than its first frame repeated.
        made, real: (n,) mean optical flow in pixels per frame.

    Returns:
        For each class: clips; how many are closer; the median of made / real over those that move, None if none does.
    """
    is_closer, one, two = np.asarray(closer, bool), np.asarray(made, np.float64), np.asarray(real, np.float64)
    kinds = np.array([label or "no class" for label in labels])
    result = {}
    for kind, count in sorted(Counter(kinds.tolist()).items(), key=lambda item: (-item[1], item[0])):
        moving = (kinds == kind) & (two >= STILL)
        ratio = float(np.median(one[moving] / two[moving])) if moving.any() else None
        result[kind] = {"clips": count, "closer": int(is_closer[kinds == kind].sum()), "motion": ratio}
    return result


def measure_seeds(context: QualityContext) -> dict[str, Any]:
    """Make as many clips from seeds alone as there are real ones."""
    name, lengths = "from seeds", context.real.lengths
    found = context.measure_made(
        name,
        len(lengths),
        lambda show, advance: from_seeds(show, lengths, 10_000 + context.plan.seed, advance),
        groups=[str(number) for number in range(len(lengths))],
        previews=lambda clips: [to_webp(side_by_side(clips[:8], columns=4), context.fps)],
    )
    context.figures["From seeds alone"] = [("made from a seed each", found.previews[0])]
    return context.compared(name)


def measure_text(context: QualityContext) -> dict[str, Any]:
    """Make clips from prompts, and have a probe name them."""
    if not context.takes_text:
        raise ValueError(f"{context.name} does not take text: leave text out of --parts")
    windows = context.footage.training
    labels = [window.label for window in windows]
    probe = text.fit_probe(training_footage(context, "text").features, labels, [window.scene for window in windows])
    real, name = context.real, "from text"
    known = [i for i, label in enumerate(real.labels) if label in probe.classes]
    ceiling = None
    if known:
        named = probe.predict(context.sets["real"].features[known])
        ceiling = text.accuracy([real.labels[i] for i in known], named)
    asked = [prompt for prompt in context.plan.prompts if prompt.label in probe.classes]
    if not asked:
        raise ValueError(f"no prompt has a class of the probe ({', '.join(probe.classes)}): name others with --prompts")
    texts = [prompt.text for prompt in asked]
    found = context.measure_made(
        name,
        len(asked),
        lambda show, advance: from_text(show, texts, real.lengths, 20_000 + context.plan.seed, advance),
        groups=[str(number) for number in range(len(asked))],
        previews=lambda clips: [to_webp(clip, context.fps) for clip in clips],
        prompts=texts,
    )
    named, wanted = probe.predict(found.features), [prompt.label for prompt in asked]
    captions = []
    for prompt, shown in zip(asked, named, strict=True):
        verdict = f"named {shown}" if shown == prompt.label else f"asked for {prompt.label}, named {shown}"
        captions.append(f"{prompt.text}{' (new)' if prompt.novel else ''}: {verdict}")
    context.figures["From text"] = list(zip(captions, found.previews, strict=True))
    novel = [i for i, prompt in enumerate(asked) if prompt.novel]
    wrong = text.wrongly_marked(asked, context.footage.captions) if context.footage.captions else []
    return {
        **context.compared(name),
        "all": text.accuracy(wanted, named),
        "novel": text.accuracy([wanted[i] for i in novel], [named[i] for i in novel]) if novel else None,
        "not_new_after_all": [prompt.text for prompt in wrong],
        "left_out": sorted({prompt.label for prompt in context.plan.prompts} - set(probe.classes)),
        "ceiling": ceiling,
        "chance": 1 / len(probe.classes),
        "probe": {
            "classes": list(probe.classes),
            "training_clips": dict(Counter(label for label in labels if label in probe.classes)),
            "penalty": probe.penalty,
        },
        "confusion": confusion_matrix(wanted, named, labels=probe.classes).tolist(),
        "per_prompt": [
            {"prompt": prompt.text, "class": prompt.label, "novel": prompt.novel, "named": shown}
            for prompt, shown in zip(asked, named, strict=True)
        ],
    }


def measure_memory(context: QualityContext) -> dict[str, Any]:
    """Compare the distance to the training footage with that of held-out footage, in features and in small pictures."""
    training, _, pictures = training_footage(context, "memory")
    measure_seeds(context)
    real, seeds, scenes = context.sets["real"], context.sets["from seeds"], context.real.scenes
    result: dict[str, Any] = {"training_clips": len(training), "small_pictures": "16 x 16, contrast normalised"}

    def near(made: Measured, groups: list[str] | None) -> dict[str, Any]:
        return nearness(made.features, training, real.features, made_groups=groups, heldout_groups=scenes)

    if "image to video" in context.sets:
        result["image to video"] = near(context.sets["image to video"], scenes)
    result["from seeds"] = near(seeds, None)
    made_near, real_near = seeds.nearest_pictures(pictures), real.nearest_pictures(pictures)
    result["from seeds, pictures"] = {
        "to_training": float(np.median(made_near)),
        "to_heldout": float(np.median(seeds.nearest_pictures(real.pictures))),
        "heldout_to_training": float(np.median(real_near)),
        "closest": float(made_near.min()),
        **nearness_ratios(made_near, real_near),
    }
    return result


def _spread(count: int, wanted: int) -> list[int]:
    """Return at most `wanted` numbers below `count`, evenly spread."""
    return sorted({int((number + 0.5) * count / min(count, wanted)) for number in range(min(count, wanted))})


PARTS: dict[str, Callable[[QualityContext], dict[str, Any]]] = {
    "i2v": measure_i2v,
    "seeds": measure_seeds,
    "text": measure_text,
    "memory": measure_memory,
    "endless": measure_endless,
}
