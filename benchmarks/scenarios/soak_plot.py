"""The picture of a soak: memory, latency and pictures over the frames, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_INK, _SOFT = "#1c2733", "#6b7785"


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw three panels.

    Args:
        result: of `benchmarks.scenarios.soak`.
        file: where to write; its ending says what kind of picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    windows = result["windows"]
    frames = [window["frame"] for window in windows]
    panels = (
        ("resident memory, MB", (("resident_mb", "#2a78b5"),)),
        ("frame time, ms", (("p50_ms", "#1b8a5a"), ("p99_ms", "#c4472b"))),
        ("levels of 255", (("mean", "#2a78b5"), ("contrast", "#8a5a1b"), ("motion", "#7a3fa0"))),
    )
    style = {"font.size": 9, "axes.edgecolor": _SOFT, "text.color": _INK, "axes.labelcolor": _INK}
    with pyplot.rc_context(style):
        figure, rows = pyplot.subplots(3, 1, figsize=(10, 7), sharex=True, layout="constrained")
        for axes, (label, lines) in zip(rows, panels, strict=True):
            for key, colour in lines:
                values = [float("nan") if window[key] is None else window[key] for window in windows]
                axes.plot(frames, values, color=colour, linewidth=1, label=key.removesuffix("_ms").removesuffix("_mb"))
            axes.set_ylabel(label)
            axes.set_ylim(bottom=0)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="#e6eaee", linewidth=0.8)
            axes.legend(loc="upper right", frameon=False, ncols=3, fontsize=8)
        rows[-1].set_xlabel("frame")
        verdict = ", ".join(
            f"{name} {'flat' if check['passed'] else 'FAILED'}" for name, check in result["checks"].items()
        )
        title = f"{result['bundle']}, {result['engine']} {result['precision']}: {verdict}"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.savefig(file, dpi=130)
        pyplot.close(figure)
