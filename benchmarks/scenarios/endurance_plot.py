"""The picture of a long show: memory of all its processes, and frame times, over the minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_INK, _SOFT = "#1c2733", "#6b7785"


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw two panels.

    Args:
        result: of `benchmarks.scenarios.endurance`.
        file: where to write; its ending says what kind of picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    samples = result["samples"]
    minutes = [sample["at_s"] / 60 for sample in samples]
    panels = (
        ("resident memory, MB", (("resident_mb", "#2a78b5", "all processes"),)),
        ("frame time of the last 10 s, ms", (("p50_ms", "#1b8a5a", "p50"), ("p99_ms", "#c4472b", "p99"))),
    )
    style = {"font.size": 9, "axes.edgecolor": _SOFT, "text.color": _INK, "axes.labelcolor": _INK}
    with pyplot.rc_context(style):
        figure, rows = pyplot.subplots(2, 1, figsize=(10, 5), sharex=True, layout="constrained")
        for axes, (label, lines) in zip(rows, panels, strict=True):
            for key, colour, name in lines:
                values = [float("nan") if sample[key] is None else sample[key] for sample in samples]
                axes.plot(minutes, values, color=colour, linewidth=1, label=name)
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e6eaee", linewidth=0.8)
            axes.legend(loc="lower right", frameon=False, ncols=2, fontsize=8)
        rows[1].axhline(1000 / result["fps"], color=_SOFT, linewidth=0.8, linestyle="--")
        rows[-1].set_xlabel("minutes on air")
        verdict = ", ".join(
            f"{name} {'held' if check['passed'] else 'FAILED'}" for name, check in result["checks"].items()
        )
        figure.suptitle(
            f"{result['bundle']} to RTMP, a recording and the page: {verdict}",
            x=0.01,
            ha="left",
            fontsize=11,
            fontweight="bold",
        )
        figure.savefig(file, dpi=130)
        pyplot.close(figure)
