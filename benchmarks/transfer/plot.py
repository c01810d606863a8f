"""The picture of a transfer benchmark: one panel per figure, one line per group with its interval over seeds."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

import numpy as np

_INK, _SOFT = "#1c2733", "#6b7785"
_COLOURS = ("#9a6a1f", "#2a78b5", "#c4472b", "#1b8a5a", "#8a5ab5", "#4d5a66")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def check_matplotlib() -> None:
    """Raise ValueError if there is no matplotlib, before anything is measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("the picture needs the extra: pip install everframe[plot]")


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw every figure.

    Args:
        result: of `benchmarks.transfer.command`.
        file: where to write; its ending says what kind of picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {"font.size": 9, "axes.edgecolor": _SOFT, "text.color": _INK, "axes.labelcolor": _INK}
    style |= {"xtick.color": _SOFT, "ytick.color": _SOFT, "font.family": "DejaVu Sans"}
    figures = result["figures"]
    columns = min(2, len(figures))
    rows = math.ceil(len(figures) / columns)
    with pyplot.rc_context(style):
        page, panels = pyplot.subplots(
            rows, columns, figsize=(5.4 * columns, 3.1 * rows + 0.6), layout="constrained", squeeze=False
        )
        for axes in panels.flat[len(figures) :]:
            axes.set_visible(False)
        for axes, figure in zip(panels.flat, figures.values(), strict=False):
            _draw_figure(axes, figure)
        handles, names = panels.flat[0].get_legend_handles_labels()
        runs = {name: len(result["groups"][name]) for name in result["groups"]}
        titles = [f"{name} ({runs[name]} run{'s' * (runs[name] != 1)})" if name in runs else name for name in names]
        page.legend(handles, titles, loc="outside lower left", ncols=len(titles), frameon=False)
        what = ""
        if result["footage"]:
            footage = result["footage"]
            what = f"{footage['clips']} held-out clips, {footage['frame']}"
        page.suptitle(f"where fine-tuning starts  -  mean and 95 % interval over runs{'; ' * bool(what)}{what}",
                      x=0.01, ha="left", fontsize=11, fontweight="bold")  # fmt: skip
        page.savefig(file, dpi=150)
        pyplot.close(page)


def _draw_figure(axes: Any, figure: dict[str, Any]) -> None:
    scale = figure["scale"]
    for place, (name, line) in enumerate(figure["groups"].items()):
        colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
        x, mean, low, high = (
            np.array(line[key], float) for key in ("iterations", "mean", "low", "high")
        )  # None becomes nan
        axes.plot(x, scale * mean, color=colour, marker=marker, markersize=4, linewidth=1.4, label=name)
        axes.fill_between(x, scale * low, scale * high, color=colour, alpha=0.15, linewidth=0)
    means = [value for line in figure["groups"].values() for value in line["mean"] if value is not None]
    if figure["floor"] is not None and means:
        # A floor far away would flatten the curves: it is written down instead.
        floor, spread = figure["floor"], max(means) - min(means) or abs(max(means)) or 1.0
        if min(means) - 2 * spread <= floor <= max(means) + 2 * spread:
            axes.axhline(scale * floor, color=_SOFT, linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate("nothing moves", (1, scale * floor), xycoords=axes.get_yaxis_transform(), ha="right",
                          va="bottom", fontsize=8, color=_SOFT)  # fmt: skip
        else:
            axes.annotate(f"nothing moves: {scale * floor:.3g}", (0.98, 0.97), xycoords="axes fraction", ha="right",
                          va="top", fontsize=8, color=_SOFT)  # fmt: skip
    axes.set_title(f"{figure['title']}\n{figure['better']} is better", loc="left", fontsize=8.5, color=_SOFT)
    axes.set_xlabel("iteration")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6eaee", linewidth=0.8)
    axes.set_axisbelow(True)
