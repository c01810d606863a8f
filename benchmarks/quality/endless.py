"""Long shows: clips at marks far apart in time, and short probes all along. Part `endless`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.clips import Clip, side_by_side, take_frames, to_webp
from benchmarks.quality.context import QualityContext, training_footage
from benchmarks.quality.distances import Values, bootstrap_mmd2
from benchmarks.quality.drift import PROBE_FRAMES, band_of, band_table, recurrence, snippets
from benchmarks.quality.measures import measure
from benchmarks.quality.memory import small_pictures
from benchmarks.quality.motion import QUANTITIES, quantities
from benchmarks.quality.networks import Floats
from benchmarks.quality.store import Arrays, pack, unpack
from runtime.generator import Generator

_WINDOWS = ("features", "flow")  # arrays with a row per window


@dataclass(frozen=True)
class ShowRecord:
    """What was sampled of one long show.

    Args:
        windows: mark -> clips (T, H, W, 3) uint8 RGB around it.
        frames: (N,) number of each probe's first frame.
        probes: (N, quantities) float64, in the order of `QUANTITIES`.
        pictures: (N, D) float32 small pictures, see `small_pictures`.
        state_norms: (N,) the largest absolute value of any state after the probe; (0,) if it is not known.
    """

    windows: dict[int, list[Clip]]
    frames: npt.NDArray[np.int64]
    probes: Values
    pictures: Floats
    state_norms: Values


def marks_up_to(horizon: int) -> list[int]:
    """Return 0 and the powers of ten from 1000 to the horizon, and the horizon itself."""
    marks = [0, *(10**power for power in range(3, 10) if 10**power <= horizon)]
    return marks if marks[-1] == horizon else [*marks, horizon]


def plan(
    marks: Sequence[int], lengths: Sequence[int], spacing: int, probe_every: int
) -> list[tuple[int, int, int | None]]:
    """Lay out the samples of one show: (first frame, frames, mark or None for a probe), in order, without overlap.

    Args:
        marks: frame numbers.
        lengths: of the windows at each mark, which begin `spacing` frames apart.
        spacing: frames; at least as long as a window.
        probe_every: frames from one probe to the next; a probe that would overlap a window is left out, because every
            window begins with one.
    """
    spacing = max(spacing, *lengths)
    end = 0
    windows: list[tuple[int, int, int | None]] = []
    for start, length, mark in sorted(
        (mark + i * spacing, length, mark) for mark in marks for i, length in enumerate(lengths)
    ):
        start = max(start, end)  # marks close together: the later mark's windows follow the earlier's
        windows.append((start, length, mark))
        end = start + length
    is_free = np.ones(end, bool)
    for start, length, _ in windows:
        is_free[start : start + length] = False
    probes = [start for start in range(0, end, probe_every) if is_free[start : start + PROBE_FRAMES].all()]
    return sorted([*windows, *((start, PROBE_FRAMES, None) for start in probes)], key=lambda item: item[0])


def watch(
    show: Generator,
    seed: int,
    marks: Sequence[int],
    lengths: Sequence[int],
    *,
    spacing: int,
    probe_every: int = 50,
    norm: Callable[[], float] | None = None,
    advance: Callable[[int], object] = int,
) -> ShowRecord:
    """Sample one show, renewals included, from frame 0 to beyond the last mark.

    Args:
        show: a generator; frames in between are skipped.
        seed: of the show.
        marks, lengths, spacing, probe_every: see `plan`.
        norm: returns the largest absolute value of the states; None if that is not known.
        advance: called with the number of frames that have passed.
    """
    show.reset(seed=seed)
    show.condition(seed=seed)
    now = 0
    windows: dict[int, list[Clip]] = {mark: [] for mark in marks}
    frames, probes, pictures, norms = [], [], [], []
    for start, length, mark in plan(marks, lengths, spacing, probe_every):
        show.skip(start - now)
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
    """Measure long shows: distances at marks, quantities of probes, recurrence."""
    plan, real, scenes = context.plan, context.sets["real"], context.real.scenes
    marks = marks_up_to(plan.horizon)
    lengths = [context.real.lengths[i % len(context.real.lengths)] for i in range(plan.windows)]
    spacing = max(context.renewal_frames, *lengths)
    shows = [_measured_show(context, 30_000 + plan.seed + i, marks, lengths, spacing) for i in range(plan.shows)]
    previews = [unpack(show) for show in shows]
    by_mark: list[dict[str, Any]] = []
    for number, mark in enumerate(marks):
        features, flow = (np.concatenate([show[key][show["marks"] == mark] for show in shows]) for key in _WINDOWS)
        names = [str(i) for i in range(len(features))]
        distance = bootstrap_mmd2(real.features, features, scenes, names, plan.seed).to_json()
        by_mark.append({"mark": mark, "clips": len(features), "mmd2": distance, "flow": float(np.median(flow))})
        captions = [(f"frame {mark:,}, show {i + 1}", files[number]) for i, files in enumerate(previews)]
        context.figures.setdefault("An endless show", []).extend(captions)
    band = band_of(training_footage(context, "endless").probes)
    heldout = [quantities(probe) for probe in snippets(context.real.clips)]
    apart = 4 * max(context.renewal_frames, *lengths)
    norms = np.concatenate([show["norms"] for show in shows])
    is_finite = bool(np.isfinite(norms).all()) if norms.size else None
    return {
        "shows": plan.shows,
        "marks": by_mark,
        "band": band_table(band, [show["probes"] for show in shows], heldout),
        "quantities": list(QUANTITIES),
        "recurrence": [recurrence(show["pictures"], show["frames"], apart) for show in shows],
        "states_finite": is_finite,
        "largest_state": float(norms.max()) if is_finite else None,
        "probes": [
            {"frames": show["frames"].tolist(), "values": np.round(show["probes"], 5).tolist()} for show in shows
        ],
    }


def _measured_show(context: QualityContext, seed: int, marks: list[int], lengths: list[int], spacing: int) -> Arrays:
    """Return the arrays of one show, measured now or before."""
    layout = {"spacing": spacing, "probe_every": context.plan.probe_every}

    def make() -> Arrays:
        total = marks[-1] + len(lengths) * spacing
        with context.open_show() as show, context.progress(f"show of {total:,} frames", total) as advance:
            record = watch(show, seed, marks, lengths, **layout, norm=context.norm(show), advance=advance)
        clips = [clip for mark in marks for clip in record.windows[mark]]
        with context.progress("windows of the show: I3D", len(clips)) as advance:
            found = measure("show", clips, context.cache, groups=[], advance=lambda: advance(1))
        return {
            "features": found.features,
            "flow": found.flow,
            "marks": np.array([mark for mark in marks for _ in record.windows[mark]], np.int64),
            "frames": record.frames,
            "probes": record.probes,
            "pictures": record.pictures,
            "norms": record.state_norms,
            **pack([to_webp(side_by_side(record.windows[mark][:4]), context.fps) for mark in marks]),
        }

    key = {"target": dict(context.key), "seed": seed, "marks": marks, "lengths": lengths, **layout}
    return context.store.get(f"show {seed}", {**key, "extractor": context.cache.extractor.sha256}, make)
