"""The picture of a live benchmark: delays frame by frame and how they are distributed, and where the time goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

_INK, _SOFT = "#1c2733", "#6b7785"
_COLOURS = {"rtmp": "#2a78b5", "page": "#1b8a5a", "ffmpeg": "#c4472b"}


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw delays over time, their distribution function, and the median steps of each road.

    Args:
        result: of `benchmarks.live.command`.
        file: where to write; its ending says what kind of picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    roads = {road: found for road, found in result["roads"].items() if "missing" not in found}
    style = {"font.size": 9, "axes.edgecolor": _SOFT, "text.color": _INK, "axes.labelcolor": _INK}
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(1, 3, figsize=(13, 4.2), width_ratios=(1.6, 1, 1.4), layout="constrained")
        for road, found in roads.items():
            values = np.array(found["glass_all_ms"])
            axes[0].plot(np.arange(len(values)) / result["fps"], values, color=_COLOURS[road], lw=0.8, label=road)
            share = (np.arange(len(values)) + 1) / len(values) * 100
            axes[1].plot(np.sort(values), share, color=_COLOURS[road], lw=1.2, label=road)
        axes[0].set(xlabel="seconds", ylabel="glass to glass, ms")
        axes[1].set(xlabel="glass to glass, ms", ylabel="per cent of frames")
        axes[1].axvline(100, color="#d6dce1", lw=1)
        steps = list(dict.fromkeys(step for found in roads.values() for step in found["steps_ms"]))
        palette = pyplot.get_cmap("tab10")
        for row, found in enumerate(roads.values()):
            left = 0.0
            for index, step in enumerate(steps):
                width = found["steps_ms"].get(step, 0.0)
                label = step if row == 0 else None
                axes[2].barh(row, width, left=left, color=palette(index), label=label, height=0.6)
                left += width
        axes[2].set_yticks(range(len(roads)), list(roads))
        axes[2].set(xlabel="median ms from asking for a frame")
        axes[2].legend(frameon=False, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)
        for panel in axes:
            panel.set_xlim(left=0)
            panel.spines[["top", "right"]].set_visible(False)
        axes[0].set_ylim(bottom=0)
        axes[1].legend(frameon=False)
        title = f"{result['bundle']}, {result['fps']} fps, {result['engine']} {result['precision']}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.savefig(file, dpi=130)
        pyplot.close(figure)
