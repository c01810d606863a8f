"""The parts of an evaluation. Adding one = a function and a line in `PARTS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.context import QualityContext, training_footage
from benchmarks.quality.distances import paired_test
from benchmarks.quality.endless import measure_endless
from benchmarks.quality.intervals import bootstrap_mmd2_difference, half_against_half
from benchmarks.quality.measures import Measured, measure, side_by_side, to_webp
from benchmarks.quality.memory import distances
from benchmarks.quality.memory_part import measure_memory, measure_seeds
from benchmarks.quality.sets import image_to_video, repeated, reversed_time, shuffled
from benchmarks.quality.text_part import measure_text

Clip = npt.NDArray[np.uint8]
PREVIEWS = 8  # clips of a set that the page shows
FLOORS = ("other moments", "reversed", "shuffled", "first frame repeated")


def measure_real(context: QualityContext) -> dict[str, Any]:
    """Measure the real clips and the floors that need no generator; every other part builds on it."""
    real = context.real

    def floor(name: str, make: Callable[[], list[Clip]], given: int = 0, beside: bool = True) -> None:
        def now() -> Measured:
            clips = make()
            with context.progress(name, len(clips)) as advance:
                return measure(
                    name, clips, context.cache, groups=None, given=given, lpips=context.lpips,
                    real=real.clips if beside else None, advance=lambda: advance(1),
                )  # fmt: skip

        windows = [*context.footage.others, *context.footage.training]
        context.measured(name, now, made=False, groups=None, others=context.data_key(windows))

    floor("real", lambda: real.clips, given=1, beside=False)
    floor("other moments", lambda: context.others.clips, beside=False)
    floor("reversed", lambda: reversed_time(real.clips))
    floor("shuffled", lambda: shuffled(real.clips, context.plan.seed))
    floor("first frame repeated", lambda: repeated(real.clips), given=1)
    result = {name: context.compared(name) for name in FLOORS if name in context.sets}
    videos = [window.video for window in real.windows]
    halves = half_against_half(context.sets["real"].features, videos, seed=context.plan.seed)
    result["half against half"] = {"clips": len(videos) // 2, "mmd2": halves.to_json()}
    if context.footage.training:
        training = training_footage(context, "the floor").features
        nearest = distances(context.sets["real"].features, training).argmin(1)
        windows = [context.footage.training[number] for number in nearest.tolist()]
        floor_clips = [
            context.training.clips[number][: len(clip)]
            for number, clip in zip(nearest.tolist(), real.clips, strict=True)
        ]
        floor("nearest training clip", lambda: floor_clips, beside=False)
        result["nearest training clip"] = context.compared("nearest training clip")
        result["nearest training clip"]["different"] = len({(w.take, w.first, w.top, w.left) for w in windows})
    return result


def measure_i2v(context: QualityContext) -> dict[str, Any]:
    """Continue every real clip from its first frame."""
    real = context.real
    name = "image to video"

    def make() -> Measured:
        with context.open_show() as show, context.progress(f"{name}: frames", len(real.clips)) as advance:
            clips = image_to_video(show, real.clips, context.plan.seed, lambda: advance(1))
        chosen = spread(len(clips), PREVIEWS)
        previews = [to_webp(side_by_side([real.clips[i], clips[i]]), context.fps) for i in chosen]
        with context.progress(f"{name}: I3D", len(clips)) as advance:
            return measure(
                name, clips, context.cache, groups=None, given=1, real=real.clips, lpips=context.lpips,
                previews=previews, advance=lambda: advance(1),
            )  # fmt: skip

    found = context.measured(name, make, made=True, groups=None)
    rivals, truth = context.sets["first frame repeated"], context.sets["real"]
    captions = [f"{real.windows[i].video}: real, made" for i in spread(len(real.clips), PREVIEWS)]
    context.figures["Image to video: the real clip, and what was made from its first frame"] = list(
        zip(captions, found.previews, strict=True)
    )
    return {
        **context.compared(name),
        "closer_than_first_frame_repeated": paired_test(found.features, rivals.features, truth.features).to_json(),
        "mmd2_less_first_frame_repeated": bootstrap_mmd2_difference(
            truth.features, found.features, rivals.features, groups=real.scenes, seed=context.plan.seed
        ).to_json(),
        "closer_by_logits": paired_test(found.logits, rivals.logits, truth.logits).to_json(),
        "per_clip": [
            {
                "video": window.video, "first": window.first, "frames": window.frames,
                "flow": round(float(found.flow[i]), 4), "real_flow": round(float(truth.flow[i]), 4),
                "flicker": round(float(found.flicker[i]), 4), "real_flicker": round(float(truth.flicker[i]), 4),
                "distance": round(float(np.linalg.norm(found.features[i] - truth.features[i])), 5),
                "still_distance": round(float(np.linalg.norm(rivals.features[i] - truth.features[i])), 5),
            }
            for i, window in enumerate(real.windows)
        ],
    }  # fmt: skip


def spread(count: int, wanted: int) -> list[int]:
    """Return `wanted` numbers below `count` at most, evenly spread."""
    return sorted({int((number + 0.5) * count / min(count, wanted)) for number in range(min(count, wanted))})


PARTS: dict[str, Callable[[QualityContext], dict[str, Any]]] = {
    "i2v": measure_i2v,
    "seeds": measure_seeds,
    "text": measure_text,
    "memory": measure_memory,
    "endless": measure_endless,
}
