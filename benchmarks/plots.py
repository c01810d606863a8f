"""The plots of all benchmarks: one style, one function per plot. `result` is what the benchmark prints as JSON."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SUFFIXES = (".png", ".svg", ".pdf")
BLUE, GREEN, RED, BROWN, VIOLET, SOFT, PALE = (
    "#2a78b5", "#1b8a5a", "#c4472b", "#9a6a1f", "#7a3fa0", "#6b7785", "#d6dce1",
)  # fmt: skip
COLOURS = (BLUE, RED, GREEN, VIOLET, BROWN, "#4d5a66")
DASHED = (0, (4, 3))
_STYLE = {
    "font.size": 9, "font.family": "DejaVu Sans", "text.color": "#1c2733", "axes.labelcolor": "#1c2733",
    "axes.edgecolor": SOFT, "xtick.color": SOFT, "ytick.color": SOFT, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "axes.grid.axis": "y", "grid.color": "#e6eaee",
    "axes.axisbelow": True, "axes.titlesize": 8.5, "axes.titlelocation": "left", "axes.titlecolor": SOFT,
    "legend.frameon": False, "legend.fontsize": 8, "lines.linewidth": 1.0, "savefig.dpi": 150,
}  # fmt: skip


def check_plot(file: Path) -> None:
    """Check that a plot can be drawn.

    Raises:
        ValueError: matplotlib is missing, or the file's name does not end in `SUFFIXES`.
    """
    if file.suffix not in SUFFIXES:
        raise ValueError(f"--plot must end in {', '.join(SUFFIXES)}, got {file.name}")
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("--plot needs the extra: pip install everframe[plot]")


@contextmanager
def _figure(
    file: Path, title: str, rows: int, columns: int, size: tuple[float, float], **options: Any
) -> Iterator[Any]:
    """Yield (figure, panels: (rows, columns) axes); write the figure at the end. The file's suffix is its format."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(_STYLE):
        figure, panels = pyplot.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False, **options)
        try:
            yield figure, panels
            figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
            figure.savefig(file)
        finally:
            pyplot.close(figure)


def _lines(axes: Any, x: Sequence[float], rows: Sequence[Mapping[str, Any]], label: str, **colours: str) -> None:
    """Draw one line per key of the rows, from 0 on; None leaves a gap."""
    for key, colour in colours.items():
        values = [float("nan") if row[key] is None else row[key] for row in rows]
        axes.plot(x, values, color=colour, label=key.removesuffix("_ms").removesuffix("_mb"))
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", ncols=3)


def _verdicts(result: Mapping[str, Any], passed: str) -> str:
    checks = result["checks"].items()
    return ", ".join(f"{name} {passed if check['passed'] else 'FAILED'}" for name, check in checks)


def latency(result: dict[str, Any], file: Path) -> None:
    """Draw every frame's duration over time, and their distribution."""
    values, ms, machine = np.asarray(result["frames_ms"]), result["ms"], result["machine"]
    title = f"{result['bundle']}  {result['width']} x {result['height']} {result['pixels']}  -  {result['engine']} "
    title += f"{result['precision']}, {result['threads']} threads  -  {result['fps']} fps"
    title += ", preparing scenes" if result["prepare"] else ""
    with _figure(file, title, 1, 2, (10, 4.2), width_ratios=(2.2, 1), sharey=True) as (figure, ((frames, spread),)):
        top = min(values.max(), 3 * ms["p99"]) * 1.08  # outliers are counted instead of drawn
        shown = values[values <= top]
        frames.plot(np.arange(1, len(values) + 1), values, color=BLUE, linewidth=0.8)
        frames.set(xlabel="frame", ylabel="milliseconds", xlim=(1, max(2, len(values))), ylim=(0, top))
        if len(shown) < len(values):
            text = f"{len(values) - len(shown)} frames above, up to {values.max():.1f} ms"
            frames.text(0.99, 0.97, text, transform=frames.transAxes, ha="right", va="top", color=SOFT)
        low, high = shown.min(), max(shown.max(), shown.min() + 0.5)
        bins = np.linspace(low, high, 50).tolist()
        spread.hist(shown, bins=bins, orientation="horizontal", color="#b9d7ec", edgecolor=BLUE, lw=0.4)
        spread.set_xlabel("frames")
        for name, colour, side in (("p50", GREEN, -1), ("p99", RED, 1)):
            for axes in (frames, spread):
                axes.axhline(ms[name], color=colour, linestyle=DASHED)
            place = {"xycoords": spread.get_yaxis_transform(), "xytext": (0, 3 * side), "textcoords": "offset points"}
            va = "bottom" if side > 0 else "top"
            spread.annotate(f"{name}  {ms[name]:.2f} ms", (1.0, ms[name]), **place, ha="right", va=va, color=colour)
        flags = " ".join(flag for flag in machine["flags"] if "512_" in flag or "amx" in flag)
        footer = f"{machine['cpu']}, {machine['cores']} cores, {flags}; load {machine['load']}; {machine['os']}"
        figure.supxlabel(footer, x=0.01, ha="left", fontsize=7.5, color=SOFT)


def live(result: dict[str, Any], file: Path) -> None:
    """Draw glass-to-glass latency over time, its distribution function, and the median steps of each road."""
    roads = {road: found for road, found in result["roads"].items() if "missing" not in found}
    title = f"{result['bundle']}, {result['fps']} fps, {result['engine']} {result['precision']}"
    with _figure(file, title, 1, 3, (13, 4.2), width_ratios=(1.6, 1, 1.4)) as (_, ((over_time, spread, steps),)):
        for colour, (road, found) in zip(COLOURS, roads.items(), strict=False):
            values = np.array(found["glass_all_ms"])
            over_time.plot(np.arange(len(values)) / result["fps"], values, color=colour, linewidth=0.8, label=road)
            spread.plot(np.sort(values), np.linspace(0, 100, len(values)), color=colour, label=road)
        over_time.set(xlabel="seconds", ylabel="glass to glass, ms", xlim=(0, None), ylim=(0, None))
        spread.set(xlabel="glass to glass, ms", ylabel="per cent of frames", xlim=(0, None))
        spread.axvline(100, color=PALE)
        spread.legend()
        names = list(dict.fromkeys(step for found in roads.values() for step in found["steps_ms"]))
        widths = np.array([[found["steps_ms"].get(step, 0.0) for step in names] for found in roads.values()])
        for index, step in enumerate(names):
            left = widths[:, :index].sum(1)
            steps.barh(list(roads), widths[:, index], left=left, color=f"C{index}", label=step, height=0.6)
        steps.set_xlabel("median ms from asking for a frame")
        steps.grid(visible=False)
        steps.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=3)


def scale(result: dict[str, Any], file: Path) -> None:
    """Draw the time per frame against its pixels, both logarithmic."""
    rows = result["sizes"]
    pixels = [row["width"] * row["height"] for row in rows]
    title = f"{result['bundle']}, {rows[0]['what']}, {result['threads']} threads"
    with _figure(file, title, 1, 1, (8, 4.5)) as (_, ((axes,),)):
        for key, colour in (("p50", GREEN), ("p99", RED)):
            axes.plot(pixels, [row["ms"][key] for row in rows], "o-", color=colour, label=key)
        proportional = [rows[0]["ms"]["p50"] * count / pixels[0] for count in pixels]
        axes.plot(pixels, proportional, ":", color=SOFT, label="proportional")
        for fps in (30, 60):
            axes.axhline(1000 / fps, color=PALE)
            axes.text(pixels[0], 1000 / fps, f"{fps} fps", color=SOFT, va="bottom")
        axes.set(xscale="log", yscale="log", xlabel="frame", ylabel="milliseconds per frame")
        axes.set_xticks(pixels, [f"{row['width']} x {row['height']}" for row in rows])
        axes.minorticks_off()
        axes.legend()


def soak(result: dict[str, Any], file: Path) -> None:
    """Draw memory, latency and pictures over the frames."""
    windows = result["windows"]
    frames = [window["frame"] for window in windows]
    title = f"{result['bundle']}, {result['engine']} {result['precision']}: {_verdicts(result, 'flat')}"
    with _figure(file, title, 3, 1, (10, 7), sharex=True) as (_, ((memory,), (duration,), (levels,))):
        _lines(memory, frames, windows, "resident memory, MB", resident_mb=BLUE)
        _lines(duration, frames, windows, "frame time, ms", p50_ms=GREEN, p99_ms=RED)
        _lines(levels, frames, windows, "levels of 255", mean=BLUE, contrast=BROWN, motion=VIOLET)
        levels.set_xlabel("frame")


def endurance(result: dict[str, Any], file: Path) -> None:
    """Draw the memory of all processes and frame times over the minutes."""
    samples = result["samples"]
    minutes = [sample["at_s"] / 60 for sample in samples]
    title = f"{result['bundle']} to RTMP, a recording and the page: {_verdicts(result, 'held')}"
    with _figure(file, title, 2, 1, (10, 5), sharex=True) as (_, ((memory,), (duration,))):
        _lines(memory, minutes, samples, "memory of all processes, MB", resident_mb=BLUE)
        _lines(duration, minutes, samples, "frame time, ms", p50_ms=GREEN, p99_ms=RED)
        duration.axhline(1000 / result["fps"], color=SOFT, linestyle=DASHED)
        duration.set_xlabel("minutes on air")


def transfer(result: dict[str, Any], file: Path) -> None:
    """Draw one panel per figure, one line per group with its interval over seeds."""
    figures = result["figures"]
    title = "where fine-tuning starts  -  mean and 95 % interval over runs"
    with _figure(file, title, -(-len(figures) // 2), 2, (10.8, 3.7 * -(-len(figures) // 2))) as (figure, panels):
        for axes in panels.flat[len(figures) :]:
            axes.set_visible(False)
        for axes, found in zip(panels.flat, figures.values(), strict=False):
            for colour, (name, line) in zip(COLOURS, found["groups"].items(), strict=False):
                x, mean, low, high = (np.array(line[key], float) for key in ("iterations", "mean", "low", "high"))
                label = f"{name} ({len(result['groups'][name])} runs)"
                axes.plot(x, mean, "o-", color=colour, markersize=4, linewidth=1.4, label=label)
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            floor = "" if found["floor"] is None else f"; nothing moves: {found['floor']:.3g}"
            axes.set_title(f"{found['title']}\n{found['better']} is better{floor}")
            axes.set_xlabel("iteration")
        handles, names = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower left", ncols=len(names))


def quality(result: dict[str, Any], file: Path) -> None:
    """Draw the distances with their intervals and, if the endless show was measured, how it drifts."""
    from benchmarks.quality.table import distance_rows

    endless = result["parts"].get("endless")
    title = f"{result['name']}  {result['frame']}  -  against {result['footage']['clips']} held-out clips"
    rows, size = (3, (12.0, 10.0)) if endless else (1, (10.0, 4.2))
    with _figure(file, title, rows, 2 if endless else 1, size) as (_, panels):
        axes = panels[0, 0]
        sets = distance_rows(result)
        for place, (_, is_made, mmd2) in enumerate(sets):
            _interval(axes, mmd2, place, BLUE if is_made else SOFT)
        axes.axvline(0, color=SOFT, linewidth=0.8)
        axes.set_yticks(range(len(sets)), [name for name, *_ in sets])
        axes.set(ylim=(len(sets) - 0.5, -0.5), title="distance; floors in grey")
        axes.set_xlabel("MMD2 x 1000 of I3D features to real clips, 95 %")
        axes.grid(axis="x")
        if endless:
            marks = endless["marks"]
            for mark in marks:
                _interval(panels[0, 1], mark["mmd2"], float(_place(mark["mark"])), BLUE, is_upright=True)
            panels[0, 1].axhline(0, color=SOFT, linewidth=0.8)
            panels[0, 1].set_title("an endless show: distance at marks")
            for number, (axes, row) in enumerate(zip(panels[1:].flat, endless["band"], strict=True)):
                _drift(axes, row, endless["probes"], number)
            for axes in panels.flat[1:]:
                axes.set_xticks([_place(mark["mark"]) for mark in marks], [f"{mark['mark']:,}" for mark in marks])
                axes.set_xlabel("frame of the show")


def _interval(axes: Any, mmd2: Mapping[str, Any], place: float, colour: str, is_upright: bool = False) -> None:
    value, low, high = (np.nan if mmd2[key] is None else 1000 * mmd2[key] for key in ("value", "low", "high"))
    for x, marker in (([low, high], "-"), ([value], "o")):
        y = [place] * len(x)
        axes.plot(*((y, x) if is_upright else (x, y)), marker, color=colour, linewidth=2, markersize=5)


def _drift(axes: Any, row: Mapping[str, Any], shows: Sequence[Mapping[str, Any]], number: int) -> None:
    """Draw one quantity of every probe, and medians over stretches of time that are even on the axis."""
    axes.axhspan(*row["band"], color="#b9d7ec", alpha=0.5, linewidth=0)
    for colour, show in zip(COLOURS, shows, strict=False):
        places = _place(show["frames"])
        values = np.array(show["values"], float)[:, number]
        borders = np.linspace(places.min(), places.max() + 1e-9, 25).tolist()
        groups = [(places >= low) & (places < high) for low, high in itertools.pairwise(borders)]
        groups = [inside for inside in groups if inside.any()]
        axes.plot(places, values, ".", markersize=1.5, color=colour, alpha=0.5)
        x, y = [places[inside].mean() for inside in groups], [np.median(values[inside]) for inside in groups]
        axes.plot(x, y, color=colour, linewidth=1.4)
    verdict = "within 2x" if row["within"] else "BEYOND 2x"
    outside, real = 100 * row["outside"], 100 * row["heldout_outside"]
    name = row["quantity"].replace("_", " ")
    axes.set_title(f"{name}\n{outside:.1f} % outside the band, held-out video {real:.1f} %: {verdict}")


def _place(frames: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return where frames are on the axis: log10, with everything below 100 at 2."""
    return np.asarray(np.log10(np.maximum(frames, 100)), np.float64)


PLOTS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "endurance": endurance, "latency": latency, "live": live, "scale": scale, "soak": soak,
}  # fmt: skip
