"""Does a show hold for ever? Windows at marks far apart in time, and short probes all along: part `endless`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.context import QualityContext, training_footage
from benchmarks.quality.drift import (
    PROBE_FRAMES,
    QUANTITIES,
    Band,
    band_table,
    quantities,
    recurrence,
    slope,
    snippets,
)
from benchmarks.quality.intervals import bootstrap_mmd2
from benchmarks.quality.measures import as_estimate, measure, side_by_side, to_webp
from benchmarks.quality.memory import small_pictures
from benchmarks.quality.sets import ShowClips, take_frames
from benchmarks.quality.store import Arrays, pack, unpack

Clip = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ShowRecord:
    """What was seen of one endless show.

    Args:
        windows: mark -> clips (T, H, W, 3) uint8 RGB around it.
        frames: (N,) number of each probe's first frame.
        probes: (N, quantities) float64, in the order of `QUANTITIES`.
        pictures: (N, D) float32 small pictures, see `small_pictures`.
        state_norms: (N,) the largest absolute value of any state after the probe; (0,) where it is not known.
    """

    windows: dict[int, list[Clip]]
    frames: npt.NDArray[np.int64]
    probes: Values
    pictures: npt.NDArray[np.float32]
    state_norms: Values


def marks_up_to(horizon: int) -> list[int]:
    """Return 0 and the powers of ten from 1000 to the horizon, and the horizon itself."""
    marks = [0, *(10**power for power in range(3, 10) if 10**power <= horizon)]
    return marks if marks[-1] == horizon else [*marks, horizon]


def plan(
    marks: Sequence[int], lengths: Sequence[int], spacing: int, probe_every: int
) -> list[tuple[int, int, int | None]]:
    """Lay out what is looked at in one show: (first frame, frames, mark or None for a probe), in time, without overlap.

    Args:
        marks: frame numbers.
        lengths: of the windows at each mark, which follow each other `spacing` frames apart.
        spacing: frames; at least as long as a window.
        probe_every: frames from one probe to the next; a probe that would fall into a window is taken from it.
    """
    spacing = max(spacing, *lengths)
    windows = [(mark + number * spacing, length, mark) for mark in marks for number, length in enumerate(lengths)]
    windows.sort()
    kept: list[tuple[int, int, int]] = []
    for start, length, mark in windows:  # marks close together: the later mark's windows wait for the earlier's
        start = max(start, kept[-1][0] + kept[-1][1] if kept else 0)
        kept.append((start, length, mark))
    end = kept[-1][0] + kept[-1][1]
    taken = [(start, start + length) for start, length, _ in kept]
    probes: list[tuple[int, int, int | None]] = []
    index = 0
    for start in range(0, end, probe_every):
        while index < len(taken) and taken[index][1] <= start:
            index += 1
        if index == len(taken) or start + PROBE_FRAMES <= taken[index][0]:
            probes.append((start, PROBE_FRAMES, None))
    return sorted([*kept, *probes], key=lambda item: item[0])


def watch(
    show: ShowClips,
    seed: int,
    marks: Sequence[int],
    lengths: Sequence[int],
    *,
    spacing: int,
    probe_every: int = 50,
    norm: Callable[[], float] | None = None,
    advance: Callable[[int], object] = int,
) -> ShowRecord:
    """Watch one show, renewals included, from frame 0 to beyond the last mark.

    Args:
        show: a generator; if it has `skip(n)`, frames between are advanced without being rendered.
        seed: of the show.
        marks: see `plan`.
        lengths: see `plan`.
        spacing: see `plan`.
        probe_every: see `plan`.
        norm: the largest absolute value of the states now; None where it cannot be had.
        advance: called with the number of frames that have passed.
    """
    skip = getattr(show, "skip", None)
    show.reset(seed=seed)
    show.condition(seed=seed)
    now = 0
    windows: dict[int, list[Clip]] = {mark: [] for mark in marks}
    frames, probes, pictures, norms = [], [], [], []
    for start, length, mark in plan(marks, lengths, spacing, probe_every):
        if skip is not None and start > now:
            skip(start - now)
        else:
            for _ in range(start - now):
                next(show)
        clip = take_frames(show, length)
        advance(start + length - now)
        now = start + length
        if mark is not None:
            windows[mark].append(clip)
        probe = clip[:PROBE_FRAMES]
        frames.append(start)
        probes.append(quantities(probe))
        pictures.append(small_pictures(probe[:1])[0])
        if norm is not None:
            norms.append(norm())
    return ShowRecord(windows, np.array(frames), np.array(probes), np.array(pictures), np.array(norms))


def measure_endless(context: QualityContext) -> dict[str, Any]:
    """Watch long shows: distances at marks, probes all along, returns."""
    plan = context.plan
    marks = marks_up_to(plan.horizon)
    lengths = [context.real.lengths[i % len(context.real.lengths)] for i in range(plan.windows)]
    spacing = max(context.renewal_frames, *lengths)
    shows = [_kept(context, 30_000 + plan.seed + number, marks, lengths, spacing) for number in range(plan.shows)]
    real = context.sets["real"]
    scenes = context.real.scenes
    by_mark: list[dict[str, Any]] = []
    for mark in marks:
        features = np.concatenate([show["features"][show["marks"] == mark] for show in shows])
        logits = np.concatenate([show["logits"][show["marks"] == mark] for show in shows])
        names = [str(i) for i in range(len(features))]
        flow = np.concatenate([show["flow"][show["marks"] == mark] for show in shows])
        estimate = bootstrap_mmd2(real.features, features, groups=scenes, other_groups=names, seed=plan.seed)
        by_logits = bootstrap_mmd2(real.logits, logits, groups=scenes, other_groups=names, seed=plan.seed)
        by_mark.append(
            {
                "mark": mark, "clips": len(features), "mmd2": estimate.to_json(), "mmd2_logits": by_logits.to_json(),
                "flow": float(np.median(flow)),
            }
        )  # fmt: skip
    band = Band.of(training_footage(context, "endless").probes)
    heldout = [quantities(probe) for probe in snippets(context.real.clips)]
    returns = [
        recurrence(show["pictures"], show["frames"], 4 * max(context.renewal_frames, max(lengths))) for show in shows
    ]
    norms = np.concatenate([show["norms"] for show in shows])
    states = bool(np.isfinite(norms).all()) if norms.size else None
    for mark in marks:
        strips = [unpack({"bytes": show[f"bytes_{mark}"], "ends": show[f"ends_{mark}"]})[0] for show in shows]
        captions = [f"frame {mark:,}, show {number + 1}" for number in range(len(strips))]
        context.figures.setdefault("An endless show", []).extend(zip(captions, strips, strict=True))
    return {
        "shows": plan.shows,
        "marks": by_mark,
        "growth_per_tenfold_time": slope(marks, [as_estimate(row["mmd2"]) for row in by_mark]),
        "band": band_table(band, [show["probes"] for show in shows], heldout),
        "quantities": list(QUANTITIES),
        "recurrence": [None if found is None else found.to_json() for found in returns],
        "states_finite": states,
        "largest_state": float(norms.max()) if states else None,
        "probes": [
            {"frames": show["frames"].tolist(), "values": np.round(show["probes"], 5).tolist()} for show in shows
        ],
    }


def _kept(context: QualityContext, seed: int, marks: list[int], lengths: list[int], spacing: int) -> Arrays:
    key = {
        "target": dict(context.key), "seed": seed, "marks": marks, "lengths": lengths, "spacing": spacing,
        "probe_every": context.plan.probe_every, "extractor": context.cache.extractor.sha256,
    }  # fmt: skip
    return context.store.get(f"show {seed}", key, lambda: _watch(context, seed, marks, lengths, spacing))


def _watch(context: QualityContext, seed: int, marks: list[int], lengths: list[int], spacing: int) -> Arrays:
    plan = context.plan
    total = marks[-1] + len(lengths) * spacing
    with context.open_show() as show, context.progress(f"show of {total:,} frames", total) as advance:
        record = watch(
            show, seed, marks, lengths, spacing=spacing, probe_every=plan.probe_every, norm=context.norm(show),
            advance=advance,
        )  # fmt: skip
    clips = [clip for mark in marks for clip in record.windows[mark]]
    with context.progress("windows of the show: I3D", len(clips)) as advance:
        found = measure("show", clips, context.cache, groups=[], advance=lambda: advance(1))
    arrays: Arrays = {
        "features": found.features,
        "logits": found.logits,
        "flow": found.flow,
        "marks": np.array([mark for mark in marks for _ in record.windows[mark]], np.int64),
        "frames": record.frames,
        "probes": record.probes,
        "pictures": record.pictures,
        "norms": record.state_norms,
    }
    for mark in marks:
        strip = to_webp(side_by_side(record.windows[mark][:4]), context.fps)
        arrays |= {f"{key}_{mark}": value for key, value in pack([strip]).items()}
    return arrays
