"""What measurements of live networks share: the first frames of videos, means with intervals, and their tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.distances import bootstrap_mean

Clip = npt.NDArray[np.uint8]  # (T, H, W, 3) RGB
Values = Mapping[str, dict[str, list[float]]]  # method -> figure -> value of each video
_MAX = (1280, 720)
_STEP = 16  # sides of clips are multiples of so many pixels


def first_frames(paths: Sequence[Path], frames: int, most: int) -> Iterator[tuple[str, Clip]]:
    """Yield name and first frames of each video, the middle of at most 1280 x 720 pixels.

    Args:
        paths: of the videos; those that are too short or cannot be read are left out.
        frames: of a clip.
        most: videos; 0 for all.
    """
    import av

    count = 0
    for path in paths:
        if most and count == most:
            return
        try:
            with av.open(str(path)) as container:
                taken = []
                for frame in container.decode(video=0):
                    taken.append(frame.to_ndarray(format="rgb24"))
                    if len(taken) == frames or taken[-1].shape != taken[0].shape:
                        break
        except (av.FFmpegError, IndexError):
            continue
        if len(taken) < frames or taken[-1].shape != taken[0].shape:
            continue
        height, width = (
            min(side, most_) // _STEP * _STEP for side, most_ in zip(taken[0].shape, _MAX[::-1], strict=False)
        )
        top, left = (taken[0].shape[0] - height) // 2, (taken[0].shape[1] - width) // 2
        count += 1
        yield path.name, np.stack(taken)[:, top : top + height, left : left + width]


def with_intervals(values: Values, base: Callable[[str], str], base_name: str) -> dict[str, dict[str, Any]]:
    """Return the mean of each figure, and of its difference to another method's, with intervals of 95 % over videos.

    Args:
        values: "ms" among the figures, of which the median is taken.
        base: the method that a method is compared with.
        base_name: the key of the difference is FIGURE_less_BASE.
    """
    figures: dict[str, dict[str, Any]] = {}
    for name, found in values.items():
        figures[name] = {"ms": float(np.median(found["ms"]))}
        for key, each in found.items():
            if key == "ms":
                continue
            less = np.subtract(each, values[base(name)][key])
            for title, series in ((key, each), (f"{key}_less_{base_name}", less)):
                estimate = bootstrap_mean(series)
                figures[name][title] = {"mean": estimate.value, "low": estimate.low, "high": estimate.high}
    return figures


def figures_table(methods: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], base_name: str) -> str:
    """Return figures as a Markdown table; differences are in brackets."""
    keys = [key for key in titles if key in next(iter(methods.values()))]
    lines = [f"| method | {' | '.join(titles[key] for key in keys)} |", "|---" * (len(keys) + 1) + "|"]
    for name, found in methods.items():
        lines.append(f"| {name} | {' | '.join(_cell(found, key, base_name) for key in keys)} |")
    return "\n".join(lines) + "\n"


def figure_rows(
    methods: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str], base_name: str
) -> list[tuple[str, str, str]]:
    """Return figures as the rows of a report."""
    return [
        (
            name,
            f"{found['ms']:.0f} ms",
            "; ".join(f"{title} {_cell(found, key, base_name)}" for key, title in titles.items() if key in found),
        )
        for name, found in methods.items()
    ]


def _cell(found: Mapping[str, Any], key: str, base_name: str) -> str:
    own, less = found[key], found[f"{key}_less_{base_name}"]
    digits = 2 if key == "psnr_db" else 3
    return (
        f"{own['mean']:.{digits}f} ({less['mean']:+.{digits}f} [{less['low']:+.{digits}f}, {less['high']:+.{digits}f}])"
    )
