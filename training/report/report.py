"""A page per run: `RUN/report.html`, what was learnt and how, with plots of its own and nothing from elsewhere.

It is read from files only (`metrics.jsonl`, `heldout.jsonl`, `probe.json`, `run.json`, `report/pictures/`), so that it
can be written while a run goes on, after it, and on another machine.
"""

from __future__ import annotations

import html
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from training.atomic_file import written
from training.report.page import PAGE

STAGES = {"pretrain": "Pretraining", "finetune": "Fine-tuning", "polish": "Polishing"}
GENERAL = {
    "loss": "loss",
    "clips_per_second": "clips per second",
    "data_wait": "waiting for data, share of the time",
}
# ground, text, quiet text, lines, and the colours of curves
THEMES = {
    "light": ("#ffffff", "#1d2126", "#68707a", "#dfe2e6", ("#1f62b5", "#b3541e", "#2f7d57", "#7a4fa3")),
    "dark": ("#131619", "#e7e9ec", "#969ea8", "#2c3238", ("#74aef0", "#e39a62", "#6cc39a", "#b796dd")),
}
SIZE, DOTS = (3.6, 2.2), 240  # inches and dots per inch
SMOOTH_FROM = 60  # points: shorter curves are drawn as they are
LOG_FROM = 30  # a loss that falls by more than this is drawn on a logarithmic scale


@dataclass(frozen=True)
class Measure:
    """One figure on held-out footage, and what it has to be compared with."""

    task: str
    name: str
    value: float
    chance: float | None = None
    baseline: float | None = None
    baseline_name: str = ""
    unit: str = ""
    better: str = "higher"

    @classmethod
    def read(cls, record: object) -> Measure | None:
        """Return the measure of a JSON record; None if it names no task, name or value."""
        if not isinstance(record, dict) or not {"task", "name", "value"} <= set(record):
            return None
        value = _finite(record["value"])
        return cls(
            str(record["task"]),
            str(record["name"]),
            math.nan if value is None else value,
            _finite(record.get("chance")),
            _finite(record.get("baseline")),
            str(record.get("baseline_name") or ""),
            str(record.get("unit") or ""),
            "lower" if record.get("better") == "lower" else "higher",
        )

    def beats(self, bar: float) -> bool:
        """Tell whether the value is on the better side of `bar`."""
        return self.value < bar if self.better == "lower" else self.value > bar

    def verdict(self) -> tuple[str, bool] | None:
        """Return the comparison in words and whether it went well; None where there is nothing to compare with."""
        if math.isnan(self.value) or (self.chance is None and self.baseline is None):
            return None
        if self.chance is not None and not self.beats(self.chance):
            return "no better than chance", False
        if self.baseline is None:
            return "beats chance", True
        return ("beats baseline", True) if self.beats(self.baseline) else ("does not beat baseline", False)


@dataclass
class Stage:
    """The history of one stage: curves by key, measures by (task, name), each a list of (iteration, what)."""

    last: int = 0
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    measures: dict[tuple[str, str], list[tuple[int, Measure]]] = field(default_factory=dict)

    def measured(self) -> int:
        """Return the iteration of the newest measure."""
        return max((history[-1][0] for history in self.measures.values()), default=0)


@dataclass(frozen=True)
class Curve:
    """A line of a plot: iterations, values, a label, whether its points are marked, and whether it stays behind."""

    points: Sequence[tuple[int, float]]
    label: str = ""
    is_marked: bool = False
    is_quiet: bool = False


def write_report(run: Path) -> Path:
    """Write `RUN/report.html` and its plots in `RUN/report/`, each beside its final name and then renamed.

    Sections whose files are missing are left out; a line cut while it was written is passed over.

    Returns:
        The page's path.

    Raises:
        ValueError: the run has no metrics.jsonl.
    """
    run = Path(run)
    if not (run / "metrics.jsonl").is_file():
        raise ValueError(f"no {run / 'metrics.jsonl'}: train first")
    notes: list[str] = []
    stages = _read_stages(run, notes)
    facts = _read_json(run / "run.json", notes)
    probe = _read_json(run / "probe.json", notes)
    folder = run / "report"
    folder.mkdir(exist_ok=True)
    plots = _Plots(folder)
    title = str(facts.get("name") or run.resolve().name)
    sections = [
        *(_heldout_section(name, stage, len(stages) > 1) for name, stage in stages.items() if stage.measures),
        _probe_section(probe),
        *(_task_section(task, stages, plots) for task in _tasks(stages)),
        _pictures_section(folder / "pictures", notes),
        *(_general_section(name, stage, plots) for name, stage in stages.items()),
        _facts_section(facts),
    ]
    lede = f'<p class="lede">{_escape(facts["description"])}</p>' if facts.get("description") else ""
    remarks = "".join(f"<p>{_escape(note)}</p>" for note in notes)
    parts = {
        "title": _escape(title),
        "summary": _escape(_summary(stages)),
        "lede": lede,
        "remarks": remarks,
        "sections": "\n".join(section for section in sections if section),
    }
    page = re.sub(r"\{(title|summary|lede|remarks|sections)\}", lambda match: parts[match[1]], PAGE)
    path = run / "report.html"
    _write(path, page.encode(errors="replace"))
    return path


def _write(path: Path, content: bytes) -> None:
    with written(path) as partial:
        partial.write_bytes(content)


# Reading


def _finite(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def _read_json(path: Path, notes: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        notes.append(f"{path.name} could not be read and was left out.")
        return {}
    return content


def _read_lines(path: Path, notes: list[str]) -> list[dict[str, Any]]:
    """Return the entries of a .jsonl file; a damaged last line is passed over, others are noted."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    entries, damaged = [], 0
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            entries.append({**entry, "stage": str(entry["stage"]), "iteration": int(entry["iteration"])})
        except (ValueError, TypeError, KeyError, OverflowError):
            damaged += number < len(lines) - 1
    if damaged:
        notes.append(f"{path.name} has {damaged} damaged line{'s' * (damaged > 1)}, left out here.")
    return entries


def _read_stages(run: Path, notes: list[str]) -> dict[str, Stage]:
    stages: dict[str, Stage] = {}
    for entry in _read_lines(run / "metrics.jsonl", notes):
        stage = stages.setdefault(entry["stage"], Stage())
        for key, value in entry.items():
            number = _finite(value)
            if number is not None and key != "iteration":
                _append(stage.curves.setdefault(key, []), entry["iteration"], number)
        stage.last = entry["iteration"]
    for entry in _read_lines(run / "heldout.jsonl", notes):
        stage = stages.setdefault(entry["stage"], Stage())
        for record in entry.get("measures") or []:
            measure = Measure.read(record)
            if measure is not None:
                history = stage.measures.setdefault((measure.task, measure.name), [])
                _append(history, entry["iteration"], measure)
    known = [name for name in STAGES if name in stages]
    return {name: stages[name] for name in [*known, *(name for name in stages if name not in known)]}


def _append(history: list[tuple[int, Any]], iteration: int, value: object) -> None:
    """Append, and forget what a resumed run has done again."""
    while history and history[-1][0] >= iteration:
        history.pop()
    history.append((iteration, value))


def _tasks(stages: Mapping[str, Stage]) -> list[str]:
    named = [task for stage in stages.values() for task, _ in stage.measures]
    named += [key.split("/")[0] for stage in stages.values() for key in stage.curves if "/" in key]
    return list(dict.fromkeys(named))


# Plots


class _Plots:
    """Writes plots into a folder, each in light and dark, and returns the figures that show them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[str] = set()

    def figure(
        self,
        name: str,
        title: str,
        curves: Sequence[Curve],
        *,
        chance: float | None = None,
        baseline: float | None = None,
        note: str = "",
        is_loss: bool = False,
        from_zero: bool = False,
    ) -> str:
        """Return a figure element; its plots are written by then."""
        base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "plot"
        stem, number = base, 2
        while stem in self._taken:
            stem, number = f"{base}-{number}", number + 1
        self._taken.add(stem)
        for theme in THEMES:
            content = _draw(theme, curves, chance, baseline, is_loss=is_loss, from_zero=from_zero)
            _write(self._folder / f"{stem}-{theme}.png", content)
        last = next((curve.points[-1] for curve in curves if not curve.is_quiet), curves[0].points[-1])
        alt = f"{title} over iterations, {_number(last[1])} at {last[0]:,}"
        width, height = (round(inches * DOTS) for inches in SIZE)
        remark = f'<p class="quiet">{_escape(note)}</p>' if note else ""
        return (
            f'<figure><figcaption>{_escape(title)}</figcaption><picture><source srcset="report/{stem}-'
            f'dark.png" media="(prefers-color-scheme: dark)"><img src="report/{stem}-light.png" width="{width}" '
            f'height="{height}" loading="lazy" alt="{_escape(alt)}"></picture>{remark}</figure>'
        )


def _draw(
    theme: str,
    curves: Sequence[Curve],
    chance: float | None,
    baseline: float | None,
    *,
    is_loss: bool,
    from_zero: bool,
) -> bytes:
    """Return a plot as PNG, on a transparent ground."""
    ground, text, quiet, line, colours = THEMES[theme]
    figure = Figure(figsize=SIZE, dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    halo = [patheffects.withStroke(linewidth=3, foreground=ground)]
    lows, highs = [], []
    for index, curve in enumerate(curves):
        xs = np.array([iteration for iteration, _ in curve.points])
        ys = np.array([value for _, value in curve.points])
        colour = quiet if curve.is_quiet else colours[index % len(colours)]
        shown = _smooth(ys)
        if shown is not ys:
            thinned = slice(None, None, max(1, len(xs) // 1000))
            axes.plot(xs[thinned], ys[thinned], color=colour, alpha=0.22, linewidth=0.8, zorder=1)
        marker = "o" if len(xs) == 1 or (curve.is_marked and len(xs) <= 40) else ""
        width = 1.1 if curve.is_quiet else 1.8
        axes.plot(xs, shown, color=colour, linewidth=width, marker=marker, markersize=3.5, label=curve.label, zorder=3)
        lows.append(shown.min())
        highs.append(shown.max())
    axes.margins(x=0.02, y=0.12)
    bars = (("chance", chance, (0, (5, 3)), 0.0, "left"), ("baseline", baseline, (0, (1, 1.6)), 1.0, "right"))
    for label, value, style, x, side in bars:
        if value is None:
            continue
        axes.axhline(value, color=quiet, linewidth=1.2, linestyle=style, zorder=2)
        axes.annotate(
            label,
            (x, value),
            xycoords=axes.get_yaxis_transform(),
            xytext=(0, 2.5),
            textcoords="offset points",
            ha=side,
            va="bottom",
            fontsize=8,
            color=quiet,
            path_effects=halo,
            zorder=4,
        )
    if is_loss and min(lows) > 0 and max(highs) > LOG_FROM * min(lows):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    elif from_zero:
        axes.set_ylim(bottom=0)
    if len(curves) > 1:
        legend = axes.legend(frameon=False, fontsize=8, labelcolor=text, loc="best", handlelength=1.4)
        for entry in legend.get_texts():
            entry.set_parse_math(False)
            entry.set_path_effects(halo)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if abs(x) >= 1000 else f"{x:g}"))
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(colors=quiet, labelsize=8, length=0, which="both", pad=5)
    axes.set_xlabel("iterations", color=quiet, fontsize=8, loc="right")
    axes.grid(axis="y", color=line, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(line)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _smooth(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the running mean over a twentieth of a long curve; a short one as it is."""
    if len(values) < SMOOTH_FROM:
        return values
    ones = np.ones(len(values) // 20 | 1)
    return np.convolve(values, ones, "same") / np.convolve(np.ones(len(values)), ones, "same")


# Sections


def _escape(value: object) -> str:
    return html.escape(str(value), quote=True)


def _stage_title(name: str) -> str:
    return STAGES.get(name, name)


def _number(value: float | None, unit: str = "") -> str:
    if value is None or math.isnan(value):
        return "–"  # noqa: RUF001
    size = abs(value)
    if size != 0 and size < 0.001:
        text = f"{value:.1e}"
    else:
        text = f"{value:,.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"
    return f"{text}\u202f{unit}" if unit else text


def _summary(stages: Mapping[str, Stage]) -> str:
    done = [f"{_stage_title(name).lower()} at iteration {stage.last:,}" for name, stage in stages.items() if stage.last]
    text = (", ".join(done) or "nothing logged yet") + "."
    verdicts = [
        verdict
        for stage in stages.values()
        for history in stage.measures.values()
        if (verdict := history[-1][1].verdict()) is not None
    ]
    text = text[0].upper() + text[1:]
    if verdicts:
        good = sum(is_good for _, is_good in verdicts)
        text += f" On held-out footage {good} of {len(verdicts)} measures beat what they are compared with."
    return text


def _measures_table(rows: Iterable[tuple[Measure, str]]) -> str:
    """Return a table of measures, each with a remark on where it was taken (or an empty text)."""
    lines, before = [], None
    for measure, remark in rows:
        verdict = measure.verdict()
        mark = '<td class="none"></td>'
        if verdict is not None:
            words, is_good = verdict
            kind, sign = ("good", "▲") if is_good else ("bad", "▼")
            mark = f'<td data-label="Verdict" class="{kind}"><div><i aria-hidden="true">{sign}</i> {words}</div></td>'
        name = f"<small>{_escape(measure.baseline_name)}</small>" if measure.baseline_name else ""
        bars = (("Chance", measure.chance, ""), ("Trivial baseline", measure.baseline, name))
        compared = "".join(
            f'<td data-label="{label}" class="number{" none" if bar is None else ""}">'
            f"{_escape(_number(bar, measure.unit))}{more if bar is not None else ''}</td>"
            for label, bar, more in bars
        )
        direction = f"{measure.better} is better" + (f", {remark}" if remark else "")
        repeated = ' class="again"' if measure.task == before else ' class="first"'
        before = measure.task
        lines.append(
            f'<tr{repeated}><th scope="row">{_escape(measure.task)}</th>'
            f'<td data-label="Measure">{_escape(measure.name)}<small>{_escape(direction)}</small></td>'
            f'<td data-label="Value" class="number"><b>{_escape(_number(measure.value, measure.unit))}</b></td>'
            f"{compared}{mark}</tr>"
        )
    head = '<th>Task</th><th>Measure</th><th class="number">Value</th><th class="number">Chance</th>'
    head += '<th class="number">Trivial baseline</th><th>Verdict</th>'
    return f'<table class="measures"><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _heldout_section(name: str, stage: Stage, is_named: bool) -> str:
    newest = stage.measured()
    latest = [history[-1] for history in stage.measures.values()]
    rows = [(measure, "" if n == newest else f"at iteration {n:,}") for n, measure in latest]
    title = f"Held out, {_stage_title(name).lower()}" if is_named else "Held out"
    caption = f"Footage that was not trained on, at iteration {newest:,}."
    return f'<section><h2>{_escape(title)}</h2><p class="quiet">{caption}</p>{_measures_table(rows)}</section>'


def _probe_section(probe: Mapping[str, Any]) -> str:
    records = probe.get("measures")
    measures = [Measure.read(record) for record in records] if isinstance(records, list) else []
    rows = [(measure, "") for measure in measures if measure is not None]
    if not rows:
        return ""
    others = {key: value for key, value in probe.items() if key != "measures"}
    details = _facts_table(others) if others else ""
    return f"<section><h2>Probe</h2>{_measures_table(rows)}{details}</section>"


def _task_section(task: str, stages: Mapping[str, Stage], plots: _Plots) -> str:
    figures = []
    prefix = f"{task}/"
    owners = [
        name
        for name, stage in stages.items()
        if any(key.startswith(prefix) for key in stage.curves) or any(owner == task for owner, _ in stage.measures)
    ]
    for name in owners:
        stage = stages[name]
        curves = {key.removeprefix(prefix): c for key, c in stage.curves.items() if key.startswith(prefix)}
        where = _stage_title(name).lower() if len(owners) > 1 else ""
        losses = {key: curves.pop(key) for key in list(curves) if key.endswith("loss")}
        if losses:
            drawn = [Curve(points, key) for key, points in losses.items()]
            figures.append(plots.figure(f"{name}-{task}-loss", "Training loss", drawn, note=where, is_loss=True))
        for (owner, metric), history in stage.measures.items():
            points = [(iteration, m.value) for iteration, m in history if not math.isnan(m.value)]
            if owner != task or not points:
                continue
            newest = history[-1][1]
            drawn = [Curve(points, "held out", is_marked=True)]
            if metric in curves:
                drawn.append(Curve(curves.pop(metric), "training", is_quiet=True))
            parts = [f"{newest.better} is better", where]
            if newest.baseline is not None and newest.baseline_name:
                parts.append(f"baseline: {newest.baseline_name}")
            figures.append(
                plots.figure(
                    f"{name}-{task}-{metric}-heldout",
                    f"{metric}, {newest.unit}" if newest.unit else metric,
                    drawn,
                    chance=newest.chance,
                    baseline=newest.baseline,
                    note="; ".join(part for part in parts if part),
                )
            )
        for metric, points in curves.items():
            note = f"during {where}" if where else "during training"
            figures.append(plots.figure(f"{name}-{task}-{metric}", metric, [Curve(points)], note=note))
    return f'<section><h2>{_escape(task)}</h2><div class="plots">{"".join(figures)}</div></section>'


def _general_section(name: str, stage: Stage, plots: _Plots) -> str:
    curves = {key: points for key, points in stage.curves.items() if "/" not in key}
    ordered = [key for key in GENERAL if key in curves]
    ordered += [key for key in curves if key not in GENERAL]
    figures = [
        plots.figure(
            f"{name}-{key}",
            GENERAL.get(key, key).replace("_", " "),
            [Curve(curves[key])],
            is_loss=key.endswith("loss"),
            from_zero=key in ("clips_per_second", "data_wait"),
        )
        for key in ordered
    ]
    if not figures:
        return ""
    return f'<section><h2>{_escape(_stage_title(name))}</h2><div class="plots">{"".join(figures)}</div></section>'


def _pictures_section(folder: Path, notes: list[str]) -> str:
    captions = _read_json(folder / "captions.json", notes)
    there = sorted(path.name for path in folder.glob("*.png") if not path.name.startswith("."))
    ordered = [name for name in captions if name in there]
    ordered += [name for name in there if name not in captions]
    figures = []
    for name in ordered:
        caption = _escape(captions.get(name, ""))
        image = f'<img src="report/pictures/{quote(name)}" loading="lazy" alt="{caption or _escape(name)}">'
        figures.append(f"<figure>{image}{f'<figcaption>{caption}</figcaption>' if caption else ''}</figure>")
    if not figures:
        return ""
    return f'<section><h2>Pictures</h2><div class="pictures">{"".join(figures)}</div></section>'


def _facts_table(facts: Mapping[str, Any]) -> str:
    rows = "".join(f'<tr><th scope="row">{_escape(k)}</th><td>{_fact(v)}</td></tr>' for k, v in facts.items())
    return f'<table class="facts"><tbody>{rows}</tbody></table>'


def _fact(value: object, depth: int = 0) -> str:
    if isinstance(value, dict) and value and depth < 2:
        pairs = []
        for key, inner in value.items():
            name = f"{_escape(key)}:" if isinstance(inner, dict) else f'<span class="quiet">{_escape(key)}</span>'
            pairs.append(f"{name} {_fact(inner, depth + 1)}")
        return "".join(f"<div>{pair}</div>" for pair in pairs) if depth == 0 else ", ".join(pairs)
    if value in ({}, [], None):
        return "none"
    if isinstance(value, list) and all(not isinstance(item, dict | list) for item in value):
        return _escape(", ".join(str(item) for item in value))
    if isinstance(value, dict | list):
        return _escape(json.dumps(value, ensure_ascii=False))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _escape(value)


def _facts_section(facts: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in facts.items() if key not in ("name", "description")}
    return f"<section><h2>Run</h2>{_facts_table(rest)}</section>" if rest else ""
