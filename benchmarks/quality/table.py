"""The figures of an evaluation as tables, for the terminal, the page and the plot."""

from __future__ import annotations

from typing import Any

NOTES = (
    "FVD or Frechet, MMD2: distance to the real held-out clips, lower is closer (intervals: 95 %). Motion, flicker: "
    "made over real, 1 is as in the footage. LPIPS: to the real frame at the same time. Precision, recall: share of "
    "made clips among real ones, and of real ones among made."
)
FLOOR_TITLES = {
    "half against half": "floor: real, half against half",
    "other moments": "floor: real, other moments of the same videos",
    "reversed": "floor: real, reversed",
    "nearest training clip": "floor: nearest training clip",
    "first frame repeated": "floor: first frame repeated",
    "shuffled": "floor: real, shuffled",
}
PART_TITLES = {"i2v": "image to video", "seeds": "from seeds", "text": "from text"}


def headings(result: dict[str, Any]) -> tuple[str, ...]:
    """Return the headings of `set_rows`; the Frechet distance is called FVD only under its protocol."""
    names = {
        row["frechet"]["name"] for row in (*result["floors"].values(), *result["parts"].values()) if "frechet" in row
    }
    frechet = "FVD" if names == {"FVD"} else "Frechet"
    return ("set", "clips", frechet, "MMD2 x 1000", "motion", "flicker", "LPIPS", "precision", "recall")


def set_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per set, below `headings`: made sets first, then the floors."""
    parts, floors = result["parts"], result["floors"]
    marks = parts.get("endless", {}).get("marks", [])
    return [
        *(_row(title, parts[part]) for part, title in PART_TITLES.items() if part in parts),
        *(_row(f"endless, frame {mark['mark']:,}", mark) for mark in marks),
        *(_row(title, floors[name]) for name, title in FLOOR_TITLES.items() if name in floors),
    ]


def distance_rows(result: dict[str, Any]) -> list[tuple[str, bool, dict[str, Any]]]:
    """Return (title, whether it was made, MMD2 with its interval) of every set and floor that has one."""
    rows = [(title, True, result["parts"].get(part, {})) for part, title in PART_TITLES.items()]
    rows += [
        (title.removeprefix("floor: "), False, result["floors"].get(name, {})) for name, title in FLOOR_TITLES.items()
    ]
    return [(title, made, row["mmd2"]) for title, made, row in rows if row.get("mmd2", {}).get("value") is not None]


def _row(title: str, figures: dict[str, Any]) -> tuple[str, ...]:
    return (
        title,
        str(figures["clips"]),
        _interval(figures.get("frechet"), 0),
        _interval(figures.get("mmd2"), 2, 1000),
        _ratio(figures.get("motion")),
        _ratio(figures.get("flicker")),
        _interval(figures.get("lpips"), 3),
        *("" if figures.get(name) is None else f"{figures[name]:.2f}" for name in ("precision", "recall")),
    )


def _ratio(figures: dict[str, Any] | None) -> str:
    if figures is None:
        return ""
    value = figures["ratio"]["value"] if figures.get("ratio") else figures.get("ratio_of_means")
    return "" if value is None else f"{value:.2f}"


def _interval(figures: dict[str, Any] | None, digits: int, times: float = 1) -> str:
    """Return "value [low, high]" as far as they are known."""
    if figures is None or figures.get("value") is None:
        return ""
    value, low, high = figures["value"], figures.get("low"), figures.get("high")
    text = f"{times * value:.{digits}f}"
    return text if low is None or high is None else f"{text} [{times * low:.{digits}f}, {times * high:.{digits}f}]"


def summary(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return the most important figures: (figure, value, explanation)."""
    parts, rows = result["parts"], [_real_row(result)]
    if "i2v" in parts:
        rows += _i2v_rows(parts["i2v"], result["frame"])
    if "text" in parts:
        text = parts["text"]
        novel, ceiling = (_share(text[key]["accuracy"]) if text[key] else "none" for key in ("novel", "ceiling"))
        what = f"of prompts show their class; new combinations {novel}; the probe on real held-out clips {ceiling}, "
        rows.append(("text", _share(text["all"]["accuracy"]), f"{what}chance {text['chance']:.2f}"))
    if "memory" in parts:
        seeds, pictures = parts["memory"]["from seeds"], parts["memory"]["from seeds, pictures"]
        what = "distance to the nearest training clip over that of held-out clips, from seeds (features); in small "
        what += f"pictures {pictures['ratio']:.2f}; well below 1 means copying or blur. Among as many training as "
        what += f"held-out clips the nearest is a training clip for {seeds['nearest_is_training']:.2f}: 0.5 is even"
        rows.append(("memory", f"{seeds['ratio']:.2f}", what))
    if "endless" in parts:
        rows += _endless_rows(parts["endless"])
    notes = {True: "did not train", False: "NOT INDEPENDENT: it trained this generator", None: "may have trained it"}
    for name, entry in result["ledger"].items():
        rows.append((f"judge {name}", "", f"{notes[entry['independent']]}; SHA-256 {entry['sha256']}"))
    return rows


def _real_row(result: dict[str, Any]) -> tuple[str, str, str]:
    footage = result["footage"]
    what = f"clips of {footage['videos']} videos, {footage['scenes']} scenes, {footage['frames_text']}"
    frechet = next((row["frechet"] for row in result["floors"].values() if row.get("frechet")), None)
    if frechet is not None:
        what += f"; Frechet is {frechet['name']}"
        covariance = frechet["covariance"]
        if covariance["is_deficient"]:
            what += f"; covariances have rank {covariance['rank_at_most']} of {covariance['values']}: compare only "
            what += "within this table"
    return ("real", str(footage["clips"]), what)


def _i2v_rows(part: dict[str, Any], frame: str) -> list[tuple[str, str, str]]:
    paired, motion, less = (
        part[key] for key in ("closer_than_first_frame_repeated", "motion", "mmd2_less_first_frame_repeated")
    )
    closer = "clips nearer to their own real continuation than their first frame repeated: "
    closer += f"{_share(paired['share'])}; median distance {_number(paired['median_distance_ratio'])} of the still's"
    moves = f"made over real optical flow, median over clips that move; real {motion['real_median']:.3f}, made "
    moves += f"{motion['median']:.3f} pixels per frame at {frame}; {motion.get('left_out', 0)} still clips left out"
    kinds = [
        (
            f"  {kind}",
            f"{row['closer']}/{row['clips']}",
            f"closer than a still; made over real flow {_number(row['motion'])}",
        )
        for kind, row in part["by_class"].items()
    ]
    return [
        ("closer than a still", f"{paired['closer']}/{paired['clips']}", closer),
        *kinds,
        ("MMD2 less a still's", _interval(less, 2, 1000), "x 1000, paired interval; all below 0 is closer"),
        ("motion", _interval(motion.get("ratio"), 2), moves),
    ]


def _endless_rows(part: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for row in part["band"]:
        what = "of the show outside the training footage's 1st to 99th percentile; held-out video "
        what += f"{100 * row['heldout_outside']:.1f} %, allowed {100 * row['allowed']:.1f} %: "
        what += "within 2x" if row["within"] else "BEYOND 2x"
        rows.append((f"drift, {row['quantity'].replace('_', ' ')}", f"{100 * row['outside']:.1f} %", what))
    if found := [item for item in part["recurrence"] if item]:
        loop = next((item for item in found if item["is_loop"]), None)
        what = "median distance to the most similar far moment over the typical one; 0 is a loop: "
        what += "none found" if loop is None else f"IT REPEATS after {loop['lag']:,} frames"
        rows.append(("recurrence", f"{min(item['ratio'] for item in found):.2f}", what))
    if part["states_finite"] is not None:
        is_finite = "finite" if part["states_finite"] else "NOT FINITE"
        rows.append(("states", is_finite, f"largest value {_number(part['largest_state'])}"))
    return rows


def _share(share: dict[str, Any]) -> str:
    return _interval(share, 2) or "none"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def print_sets(result: dict[str, Any]) -> None:
    """Print the sets and floors to standard error."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=150)  # in a log file rich folds at 80 columns
    table = Table(title=f"{result['name']} against {result['footage']['clips']} real clips", title_justify="left")
    for number, heading in enumerate(headings(result)):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in set_rows(result):
        table.add_row(*row, style="dim" if row[0].startswith("floor") else "")
    console.print(table)
    console.print(NOTES, style="dim")
