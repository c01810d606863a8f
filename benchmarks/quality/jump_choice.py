"""By which features the jumps of clips are chosen best, with the rules of the runtime.

Two comparisons: the jumps that the runtime would make (cost up to its limit, in ordinary steps of the same features),
and, as features differ in how many jumps they find below it, the best few jumps of every clip, without a limit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.quality.clip_features import NAMES
from benchmarks.quality.clip_loops import ClipRenderer, spread_numbers
from benchmarks.quality.seams import SeamJudge, has_reached, median
from runtime.clips.clip_frames import ClipFrames
from runtime.clips.endless import Describe, EndlessClip, make_endless
from runtime.clips.jumps import distances, find_jumps

BEST = 5  # jumps of each clip


def measure_choices(
    clip: ClipFrames, renderer: ClipRenderer, judge: SeamJudge, features: Mapping[str, Describe], most: int
) -> dict[str, Any]:
    """Measure one clip.

    Args:
        clip: in RGB.
        renderer, judge: of the clip.
        features: what its frames are described by.
        most: seams that are measured of those that the runtime would make.

    Returns:
        For each of the features: `jumps` (0 if it would dissolve), `ms` (of CPU time a frame), `at_limit` and `best`
        (figures of seams, None if there are none).
    """
    found = {}
    for name, describe in features.items():
        began_s = time.process_time()
        description = describe(clip.small)
        ms = 1000 * (time.process_time() - began_s) / len(clip.small)
        ours = make_endless(clip, lambda _: description)  # noqa: B023 - it is called at once
        best = sorted(find_jumps(distances(description), clip.fps, limit=math.inf), key=lambda jump: jump.cost)[:BEST]
        found[name] = {
            "jumps": len(ours.jumps) if ours.is_seamless else 0,
            "ms": ms,
            "at_limit": _figures(ours, renderer, judge, most) if ours.is_seamless else None,
            "best": _figures(replace(ours, jumps=tuple(best)), renderer, judge, BEST) if best else None,
        }
    return found


def summarise(clips: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the choices of all clips in figures for each of the features."""
    summary = {}
    for name in clips[0]:
        ones = [clip[name] for clip in clips]
        limited, best = ([one[key] for one in ones if one[key]] for key in ("at_limit", "best"))
        summary[name] = {
            "clips": len(ones),
            "with_jumps": len(limited),
            "reached": sum(map(has_reached, limited)),
            "ms": median([one["ms"] for one in ones]),
            "with_best": len(best),
            "best_reached": sum(map(has_reached, best)),
            **{key: median([one[key] for one in limited]) if limited else None for key in ("lpips", "flow")},
            **{f"best_{key}": median([one[key] for one in best]) if best else None for key in ("lpips", "flow")},
        }
    return summary


def to_table(summary: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        f"| chosen by | clips with jumps | of these reached | LPIPS | flow jump | best {BEST} of each clip: reached "
        "| LPIPS | flow jump | ms a frame |",
        "|---|" + "---|" * 8,
    ]
    for name, one in summary.items():
        values = [
            "-" if one[key] is None else f"{one[key]:.2f}" for key in ("lpips", "flow", "best_lpips", "best_flow")
        ]
        lines.append(
            f"| {NAMES[name]} | {one['with_jumps']} of {one['clips']} | {one['reached']} | {values[0]} | {values[1]} "
            f"| {one['best_reached']} of {one['with_best']} | {values[2]} | {values[3]} | {one['ms']:.2f} |"
        )
    return lines


def _figures(clip: EndlessClip, renderer: ClipRenderer, judge: SeamJudge, most: int) -> dict[str, float]:
    return judge.figures([renderer.seam(clip, number) for number in spread_numbers(len(clip.jumps), most)])
