"""How often the payload of a clip is read after each change."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.marking.changes import Change, Clip, all_changes
from benchmarks.marking.footage import Case, make_clip
from benchmarks.marking.store import ResultLines
from benchmarks.report import progress_bars
from runtime.marking.payload import BITS
from verify.mark_reader import MarkReader


def payload_of(number: int) -> int:
    """Return the payload of a clip; the same in every run."""
    return random.Random(number).getrandbits(BITS)


def measure_detection(
    cases: Sequence[Case], count: int, photos: list[Path], people: list[Path], store: ResultLines, first: int = 0
) -> dict[str, Any]:
    """Measure `count` clips of the cases in turn, from number `first` on.

    Returns:
        Case -> change -> (clips, found, read with another payload); and the seconds that a reading took.
    """
    with progress_bars() as bar, bar("clips", count) as advance:
        for number in range(first, first + count):
            case = cases[number % len(cases)]
            key = f"detection/{case.name}/{number}"
            if key not in store:
                payload = payload_of(number)
                clip = make_clip(case, number, payload, photos, people)
                store.add(
                    key, {name: check(clip, change, payload) for name, change in all_changes(case.size[0]).items()}
                )
            advance(1)
    table: dict[str, dict[str, list[int]]] = {}
    seconds: list[float] = []
    for place, clip_result in store.of("detection").items():
        name, _, number_text = place.rpartition("/")
        if not first <= int(number_text) < first + count or name not in {case.name for case in cases}:
            continue
        for change, (outcome, took_s) in clip_result.items():
            counts = table.setdefault(name, {}).setdefault(change, [0, 0, 0])
            counts[0] += 1
            counts[1] += outcome == "found"
            counts[2] += outcome == "wrong"
            seconds.append(took_s)
    return {"table": table, "clips": count, "read_s_p50": float(np.median(seconds)), "read_s_max": max(seconds)}


def check(clip: Clip, change: Change, payload: int) -> tuple[str, float]:
    """Return "found", "missed" or "wrong" for a clip after a change, and the seconds that its reading took."""
    changed = change(clip)
    began_s = time.perf_counter()
    found = MarkReader().read(changed)
    took_s = time.perf_counter() - began_s
    if found is None:
        return "missed", took_s
    return "found" if found[0].payload == payload else "wrong", took_s
