"""The picture of a latency benchmark: every frame's duration over time, and how they are distributed."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SUFFIXES = (".png", ".svg", ".pdf")
_INK, _SOFT, _LINE, _BAND = "#1c2733", "#6b7785", "#2a78b5", "#b9d7ec"
_MARKS = {"p50": "#1b8a5a", "p99": "#c4472b"}


def check_plot(file: Path) -> None:
    """Check that a plot can be drawn.

    Raises:
        ValueError: matplotlib is missing, or the file's name does not end in a kind of picture.
    """
    if file.suffix not in SUFFIXES:
        raise ValueError(f"--plot must end in {', '.join(SUFFIXES)}, got {file.name}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs the extra: pip install everframe[plot]")


def draw(result: dict[str, Any], frames_ms: Sequence[float], file: Path) -> None:
    """Draw the two panels.

    Args:
        result: what `benchmarks.latency.command.to_result` gave.
        frames_ms: duration of each frame in milliseconds.
        file: where to write; its ending says what kind of picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {"font.size": 9, "axes.edgecolor": _SOFT, "text.color": _INK, "axes.labelcolor": _INK}
    style |= {"xtick.color": _SOFT, "ytick.color": _SOFT, "font.family": "DejaVu Sans"}
    with pyplot.rc_context(style):
        figure, (over_time, spread) = pyplot.subplots(
            1, 2, figsize=(10, 4.2), width_ratios=(2.2, 1), sharey=True, layout="constrained"
        )
        _draw_over_time(over_time, np.asarray(frames_ms), result)
        _draw_spread(spread, np.asarray(frames_ms), result["ms"])
        for axes in (over_time, spread):
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e6eaee", linewidth=0.8)
            axes.set_axisbelow(True)
        machine = result["machine"]
        size = f"{result['width']} x {result['height']} {result['pixels']}"
        how = f"{result['engine']} {result['precision']}, {result['threads']} threads"
        meanwhile = ", scenes prepared meanwhile" if result["prepare"] else ""
        figure.suptitle(
            f"{result['bundle']}  {size}  -  {how}{meanwhile}  -  {result['fps']} fps",
            x=0.01, ha="left", fontsize=11, fontweight="bold",
        )  # fmt: skip
        flags = " ".join(flag for flag in machine["flags"] if "512_" in flag or "amx" in flag)
        footer = f"{machine['cpu']}, {machine['cores']} cores, {flags}; load {machine['load']}; {machine['os']}"
        figure.supxlabel(footer, x=0.01, ha="left", fontsize=7.5, color=_SOFT)
        figure.savefig(file, dpi=150)
        pyplot.close(figure)


def _draw_over_time(axes: Any, values: np.ndarray, result: dict[str, Any]) -> None:
    numbers = np.arange(1, len(values) + 1)
    axes.plot(numbers, values, color=_LINE, linewidth=0.8, alpha=0.9)
    # Spikes decide the scale unless they are far out: then they are cut off, and said to be.
    top = min(values.max(), 3 * result["ms"]["p99"]) * 1.08
    axes.set_ylim(0, top)
    axes.set_xlim(1, max(2, len(values)))
    cut = int((values > top).sum())
    if cut:
        axes.text(
            0.99, 0.97, f"{cut} frames above, up to {values.max():.1f} ms", transform=axes.transAxes,
            ha="right", va="top", fontsize=8, color=_SOFT,
        )  # fmt: skip
    axes.set_xlabel("frame")
    axes.set_ylabel("milliseconds")
    axes.set_title("each frame", loc="left", fontsize=9, color=_SOFT)
    for name, colour in _MARKS.items():
        axes.axhline(result["ms"][name], color=colour, linewidth=1, linestyle=(0, (4, 3)))


def _draw_spread(axes: Any, values: np.ndarray, ms: dict[str, float]) -> None:
    bottom, top = axes.get_ylim()
    shown = values[values <= top]
    low, high = max(bottom, shown.min()), shown.max()
    if high - low < 1e-6:  # all the same: one bar
        low, high = low - 0.5, high + 0.5
    axes.hist(shown, bins=np.linspace(low, high, 50), orientation="horizontal", color=_BAND, edgecolor=_LINE, lw=0.4)
    axes.set_xlabel("frames")
    axes.set_title("distribution", loc="left", fontsize=9, color=_SOFT)
    gap = (top - bottom) * 0.015
    for (name, colour), side in zip(_MARKS.items(), ("top", "bottom"), strict=True):  # apart even where p50 is p99
        axes.axhline(ms[name], color=colour, linewidth=1, linestyle=(0, (4, 3)))
        height = ms[name] + (gap if side == "bottom" else -gap)
        axes.text(
            1.0, height, f"{name}  {ms[name]:.2f} ms", transform=axes.get_yaxis_transform(), ha="right", va=side,
            color=colour, fontweight="bold", bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
        )  # fmt: skip
