"""Clips from seeds alone, and whether they are only what was trained on: parts `seeds` and `memory`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.context import QualityContext, training_footage
from benchmarks.quality.measures import Measured, measure, side_by_side, to_webp
from benchmarks.quality.memory import distances, nearness, small_pictures
from benchmarks.quality.sets import from_seeds
from benchmarks.quality.store import Arrays

Clip = npt.NDArray[np.uint8]


def measure_seeds(context: QualityContext) -> dict[str, Any]:
    """Make as many clips from seeds alone as there are real ones."""
    name, seeds = "from seeds", 10_000 + context.plan.seed

    def make() -> Measured:
        with context.open_show() as show, context.progress(f"{name}: frames", len(context.real.clips)) as advance:
            clips = from_seeds(show, context.real.lengths, seeds, lambda: advance(1))
        sheet = side_by_side(clips[:8], columns=4)
        with context.progress(f"{name}: I3D", len(clips)) as advance:
            found = measure(
                name, clips, context.cache, groups=[], previews=[to_webp(sheet, context.fps)],
                advance=lambda: advance(1),
            )  # fmt: skip
        context.store.get("seed pictures", _seed_pictures_key(context), lambda: _pictures(clips))
        return found

    groups = [str(number) for number in range(len(context.real.clips))]
    found = context.measured(name, make, made=True, groups=groups)
    context.figures["From seeds alone"] = [("made from a seed each", found.previews[0])]
    return context.compared(name)


def _seed_pictures_key(context: QualityContext) -> dict[str, Any]:
    return {"target": dict(context.key), "lengths": context.real.lengths, "seed": context.plan.seed}


def _pictures(clips: Sequence[Clip]) -> Arrays:
    rows = [small_pictures(clip) for clip in clips]
    return {"pictures": np.concatenate(rows), "clip": np.repeat(np.arange(len(rows)), [len(row) for row in rows])}


def measure_memory(context: QualityContext) -> dict[str, Any]:
    """Compare the distance to the training footage with that of held-out footage, in features and in small pictures."""
    training, _, pictures = training_footage(context, "memory")
    measure_seeds(context)
    real, scenes = context.sets["real"], context.real.scenes
    result: dict[str, Any] = {"training_clips": len(training), "small_pictures": "16 x 16, contrast evened out"}
    if "image to video" in context.sets:
        made = context.sets["image to video"]
        result["image to video"] = nearness(
            made.features, training, real.features, made_groups=scenes, heldout_groups=scenes
        ).to_json()
    result["from seeds"] = nearness(
        context.sets["from seeds"].features, training, real.features, heldout_groups=scenes
    ).to_json()

    def again() -> Arrays:
        with context.open_show() as show, context.progress("from seeds: pictures", len(context.real.clips)) as advance:
            return _pictures(from_seeds(show, context.real.lengths, 10_000 + context.plan.seed, lambda: advance(1)))

    kept = context.store.get("seed pictures", _seed_pictures_key(context), again)
    heldout = _pictures(context.real.clips)

    def per_clip(arrays: Arrays, others: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return for every clip the distance of the one of its small pictures that is nearest to any other."""
        nearest = distances(arrays["pictures"], others).min(1)
        return np.array([nearest[arrays["clip"] == number].min() for number in np.unique(arrays["clip"])])

    made_near, real_near = per_clip(kept, pictures), per_clip(heldout, pictures)
    result["from seeds, pictures"] = {
        "to_training": float(np.median(made_near)),
        "to_heldout": float(np.median(per_clip(kept, heldout["pictures"]))),
        "heldout_to_training": float(np.median(real_near)),
        "ratio": float(np.median(made_near) / max(float(np.median(real_near)), 1e-12)),
        "closest": float(made_near.min()),
        "nearer_than_5_percent_of_heldout": float((made_near < np.percentile(real_near, 5)).mean()),
    }
    return result
