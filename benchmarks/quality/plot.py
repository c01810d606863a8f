"""The picture of an evaluation: distances with their intervals, and what a show is like over (log) time."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.table import FLOOR_TITLES, PART_TITLES

_INK, _SOFT, _LINE, _BAND, _FLOOR = "#1c2733", "#6b7785", "#2a78b5", "#b9d7ec", "#9aa5b1"
_SHOWS = ("#2a78b5", "#c4472b", "#1b8a5a", "#8a5ab5")
_UNITS = {
    "luminance": "0 to 1",
    "saturation": "0 to 1",
    "high_frequency": "levels, |Laplacian|",
    "flow": "pixels per frame",
}


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw the distances, and below them the drift curves if the show was watched.

    Args:
        result: of `benchmarks.quality.command`.
        file: where to write; its ending says what kind of picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {"font.size": 9, "axes.edgecolor": _SOFT, "text.color": _INK, "axes.labelcolor": _INK}
    style |= {"xtick.color": _SOFT, "ytick.color": _INK, "font.family": "DejaVu Sans"}
    endless = result["parts"].get("endless")
    with pyplot.rc_context(style):
        figure = pyplot.figure(figsize=(10, 9 if endless else 4.2), layout="constrained")
        if endless:
            top, bottom = figure.subfigures(
                2, 1, height_ratios=(1, 1.25)
            )  # apart: long names indent the upper one alone
            panels = list(top.subplots(1, 2))
            _draw_marks(panels[1], endless, result)
            for number, (axes, name) in enumerate(zip(bottom.subplots(2, 2).flat, endless["quantities"], strict=True)):
                _draw_drift(axes, endless, number, name)
                panels.append(axes)
        else:
            panels = [figure.subplots()]
        _draw_sets(panels[0], result)
        for axes in panels:
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_axisbelow(True)
        footage = result["footage"]
        figure.suptitle(
            f"{result['name']}  {result['frame']}  -  against {footage['clips']} held-out clips", x=0.01, ha="left",
            fontsize=11, fontweight="bold",
        )  # fmt: skip
        figure.savefig(file, dpi=150)
        pyplot.close(figure)


def _draw_sets(axes: Any, result: dict[str, Any]) -> None:
    rows = [(title, result["parts"][part]) for part, title in PART_TITLES.items() if part in result["parts"]]
    made = len(rows)
    floors = result["floors"]
    rows += [(title.removeprefix("floor: "), floors[name]) for name, title in FLOOR_TITLES.items() if name in floors]
    rows = [row for row in rows if row[1].get("mmd2") and row[1]["mmd2"]["value"] is not None]
    for place, (_, figures) in enumerate(rows):
        value, low, high = (figures["mmd2"][key] for key in ("value", "low", "high"))
        colour = _LINE if place < made else _FLOOR
        if low is not None and high is not None:
            axes.plot([1000 * low, 1000 * high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([1000 * value], [place], "o", color=colour, markersize=5)
    axes.axvline(0, color=_SOFT, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [title for title, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("MMD2 x 1000 of I3D features to real clips, 95 %")
    axes.set_title("distance; floors in grey", loc="left", fontsize=9, color=_SOFT)
    axes.grid(axis="x", color="#e6eaee", linewidth=0.8)


def _draw_marks(axes: Any, endless: dict[str, Any], result: dict[str, Any]) -> None:
    marks = endless["marks"]
    places = np.array([_place(mark["mark"]) for mark in marks])
    for place, mark in zip(places, marks, strict=True):
        low, high = mark["mmd2"]["low"], mark["mmd2"]["high"]
        if low is not None and high is not None:
            axes.plot([place, place], [1000 * low, 1000 * high], color=_LINE, linewidth=2, solid_capstyle="butt")
    axes.plot(places, [1000 * (mark["mmd2"]["value"] or 0) for mark in marks], "o-", color=_LINE, markersize=5, lw=0.8)
    floor = result["floors"].get("first frame repeated", {}).get("mmd2")
    if floor and floor["value"] is not None:
        axes.axhline(1000 * floor["value"], color=_FLOOR, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(1.0, 1000 * floor["value"], "first frame repeated", transform=axes.get_yaxis_transform(), ha="right",
                  va="bottom", color=_SOFT, fontsize=8)  # fmt: skip
    axes.axhline(0, color=_SOFT, linewidth=0.8)
    _log_axis(axes, [mark["mark"] for mark in marks])
    axes.set_title("an endless show: distance at marks", loc="left", fontsize=9, color=_SOFT)
    axes.grid(axis="y", color="#e6eaee", linewidth=0.8)


def _draw_drift(axes: Any, endless: dict[str, Any], number: int, name: str) -> None:
    row = endless["band"][number]
    axes.axhspan(*row["band"], color=_BAND, alpha=0.5, linewidth=0)
    for show, probes in enumerate(endless["probes"]):
        frames = np.array(probes["frames"], float)
        values = np.array(probes["values"], float).reshape(len(frames), -1)[:, number]
        axes.plot([_place(frame) for frame in frames], values, ".", ms=1.5, color=_SHOWS[show % len(_SHOWS)], alpha=0.5)
        x, y = _running(frames, values)
        axes.plot(x, y, color=_SHOWS[show % len(_SHOWS)], linewidth=1.4)
    _log_axis(axes, [mark["mark"] for mark in endless["marks"]])
    verdict = "within 2x" if row["within"] else "BEYOND 2x"
    axes.set_title(
        f"{name.replace('_', ' ')} ({_UNITS.get(name, '')})\n{100 * row['outside']:.1f} % outside the band, held-out "
        f"video {100 * row['heldout_outside']:.1f} %: {verdict}", loc="left", fontsize=9, color=_SOFT,
    )  # fmt: skip


def _running(frames: np.ndarray, values: np.ndarray) -> tuple[list[float], list[float]]:
    """Return medians over stretches of time that are even on the axis."""
    places = np.array([_place(frame) for frame in frames])
    borders = np.linspace(places.min(), places.max() + 1e-9, 25)
    x, y = [], []
    for low, high in itertools.pairwise(borders.tolist()):
        inside = (places >= low) & (places < high)
        if inside.any():
            x.append(float(places[inside].mean()))
            y.append(float(np.median(values[inside])))
    return x, y


def _place(frame: float) -> float:
    """Return where a frame stands on the axis: log10, with everything below 100 at 2."""
    return float(np.log10(max(frame, 100)))


def _log_axis(axes: Any, marks: list[int]) -> None:
    axes.set_xticks([_place(mark) for mark in marks], [f"{mark:,}" for mark in marks])
    axes.set_xlabel("frame of the show")
