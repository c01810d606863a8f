"""The picture of a scale benchmark: cost of a frame against its pixels, both logarithmic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_INK, _SOFT = "#1c2733", "#6b7785"


def draw(result: dict[str, Any], file: Path) -> None:
    """Draw median and 99th percentile.

    Args:
        result: of `benchmarks.latency.scale`.
        file: where to write; its ending says what kind of picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = result["sizes"]
    pixels = [row["width"] * row["height"] for row in rows]
    style = {"font.size": 9, "axes.edgecolor": _SOFT, "text.color": _INK, "axes.labelcolor": _INK}
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
        for key, colour in (("p50", "#1b8a5a"), ("p99", "#c4472b")):
            axes.plot(pixels, [row["ms"][key] for row in rows], "o-", color=colour, linewidth=1.2, label=key)
        first = rows[0]["ms"]["p50"] / pixels[0]
        axes.plot(pixels, [first * count for count in pixels], ":", color=_SOFT, linewidth=1, label="in proportion")
        for fps in (30, 60):
            axes.axhline(1000 / fps, color="#d6dce1", linewidth=1)
            axes.text(pixels[0], 1000 / fps, f"{fps} fps", fontsize=8, color=_SOFT, va="bottom")
        axes.set(xscale="log", yscale="log", xlabel="frame", ylabel="milliseconds a frame")
        axes.set_xticks(pixels, [f"{row['width']} x {row['height']}" for row in rows], minor=False)
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
        title = f"{result['bundle']}, {rows[0]['what']}, {result['threads']} threads"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        figure.savefig(file, dpi=130)
        pyplot.close(figure)
