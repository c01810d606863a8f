"""The figures of an evaluation as tables: for the terminal and for the page."""

from __future__ import annotations

from typing import Any

NOTES = (
    "FVD or Frechet, MMD2: distance to the real held-out clips, less is closer (intervals: 95 %). Motion, flicker: "
    "made over real, 1 is as the footage. LPIPS: to the real frame at the same time. Precision, recall: share of made "
    "clips among real ones, and of real ones among made."
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
    """Return the headings of `set_rows`; the Frechet distance is called FVD only where it is that."""
    names = {
        row["frechet"]["name"] for row in (*result["floors"].values(), *result["parts"].values()) if "frechet" in row
    }
    frechet = "FVD" if names == {"FVD"} else "Frechet"
    return ("set", "clips", frechet, "MMD2 x 1000", "motion", "flicker", "LPIPS", "precision", "recall")


def set_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return one row per set, below `headings`: what was made first, then the floors."""
    rows = []
    for part, title in PART_TITLES.items():
        if part in result["parts"]:
            rows.append(_row(title, result["parts"][part]))
    for mark in result["parts"].get("endless", {}).get("marks", []):
        rows.append(_row(f"endless, frame {mark['mark']:,}", mark))
    rows += [_row(title, result["floors"][name]) for name, title in FLOOR_TITLES.items() if name in result["floors"]]
    return rows


def _row(title: str, figures: dict[str, Any]) -> tuple[str, ...]:
    motion, flicker = figures.get("motion"), figures.get("flicker")
    return (
        title,
        str(figures["clips"]),
        _interval(figures.get("frechet"), 0),
        _interval(figures.get("mmd2"), 2, 1000),
        "" if motion is None else _ratio(motion),
        "" if flicker is None else _ratio(flicker),
        _interval(figures.get("lpips"), 3),
        *("" if figures.get(name) is None else f"{figures[name]:.2f}" for name in ("precision", "recall")),
    )


def _ratio(figures: dict[str, Any]) -> str:
    value = figures["ratio"]["value"] if figures.get("ratio") else figures.get("ratio_of_means")
    return "" if value is None else f"{value:.2f}"


def _interval(figures: dict[str, Any] | None, digits: int, times: float = 1) -> str:
    if figures is None or figures.get("value") is None:
        return ""
    text = f"{times * figures['value']:.{digits}f}"
    if figures.get("low") is None or figures.get("high") is None:
        return text
    return f"{text} [{times * figures['low']:.{digits}f}, {times * figures['high']:.{digits}f}]"


def summary(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what matters most: (figure, value, what it means)."""
    parts, rows = result["parts"], [_frechet_row(result)]
    if "i2v" in parts:
        part = parts["i2v"]
        paired, motion = part["closer_than_first_frame_repeated"], part["motion"]
        rows.append(
            (
                "closer than a still",
                f"{paired['closer']}/{paired['clips']}",
                f"clips nearer to their own real continuation than their first frame repeated: "
                f"{_share(paired['share'])}; median distance {_number(paired['median_distance_ratio'])} of the still's",
            )
        )
        less = part["mmd2_less_first_frame_repeated"]
        rows.append(
            (
                "MMD2 less a still's",
                _interval({"value": less["value"]}, 2, 1000),
                f"x 1000, paired interval [{_thousand(less['low'])}, {_thousand(less['high'])}]; all below 0 is closer",
            )
        )
        ratio = motion.get("ratio")
        rows.append(
            (
                "motion",
                "" if ratio is None else f"{ratio['value']:.2f}",
                f"made over real optical flow, median over clips {'' if ratio is None else _brackets(ratio, 2)}; real "
                f"{motion['real_median']:.3f}, made {motion['median']:.3f} pixels per frame at {result['frame']}; "
                f"{motion.get('left_out', 0)} clips that hardly move are left out",
            )
        )
    if "text" in parts:
        text = parts["text"]
        novel = text["novel"]["accuracy"] if text["novel"] else None
        ceiling = text["ceiling"]["accuracy"] if text["ceiling"] else None
        rows.append(
            (
                "text",
                _share(text["all"]["accuracy"]),
                f"of prompts show their class; new combinations {_share(novel)}; the probe on real held-out clips "
                f"{_share(ceiling)}, chance {text['chance']:.2f}",
            )
        )
    if "memory" in parts:
        seeds = parts["memory"]["from seeds"]
        rows.append(
            (
                "memory",
                f"{seeds['ratio']:.2f}",
                "distance to the nearest training clip over that of held-out clips, from seeds (features); in small "
                f"pictures {parts['memory']['from seeds, pictures']['ratio']:.2f}; well below 1 is copying, or blur. "
                f"Among as many training as held-out clips the nearest is a training clip for "
                f"{seeds['nearest_is_training']:.2f} of them: 0.5 is even",
            )
        )
    if "endless" in parts:
        rows += _endless_rows(parts["endless"])
    rows += _ledger_rows(result)
    return rows


def _frechet_row(result: dict[str, Any]) -> tuple[str, str, str]:
    any_set = next((row for row in result["floors"].values() if row.get("frechet")), None)
    footage = result["footage"]
    what = f"clips of {footage['videos']} videos, {footage['scenes']} scenes, {footage['frames_text']}"
    if any_set is None:
        return ("real", str(footage["clips"]), what)
    frechet = any_set["frechet"]
    covariance = frechet["covariance"]
    deficient = (
        f"; covariances have rank {covariance['rank_at_most']} of {covariance['values']}: only this table compares"
        if covariance["is_deficient"]
        else ""
    )
    return ("real", str(footage["clips"]), f"{what}; Frechet is {frechet['name']}{deficient}")


def _endless_rows(part: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for row in part["band"]:
        rows.append(
            (
                f"drift, {row['quantity'].replace('_', ' ')}",
                f"{100 * row['outside']:.1f} %",
                f"of the show outside the training footage's 1st to 99th percentile; held-out video "
                f"{100 * row['heldout_outside']:.1f} %, allowed {100 * row['allowed']:.1f} %: "
                f"{'within 2x' if row['within'] else 'BEYOND 2x'}",
            )
        )
    found = [item for item in part["recurrence"] if item]
    if found:
        ratio = min(item["ratio"] for item in found)
        loop = next((item for item in found if item["is_loop"]), None)
        meaning = "median distance to the most similar far moment over the typical one; 0 is a loop: "
        meaning += "none found" if loop is None else f"IT REPEATS after {loop['lag']:,} frames"
        rows.append(("recurrence", f"{ratio:.2f}", meaning))
    if part["states_finite"] is not None:
        worst = part["largest_state"]
        rows.append(("states", "finite" if part["states_finite"] else "NOT FINITE", f"largest value {_number(worst)}"))
    return rows


def _ledger_rows(result: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for name, entry in result["ledger"].items():
        note = {True: "did not train", False: "NOT INDEPENDENT: it trained this generator", None: "may have trained it"}
        rows.append((f"judge {name}", "", f"{note[entry['independent']]}; SHA-256 {entry['sha256']}"))
    return rows


def _share(share: dict[str, Any] | None) -> str:
    if share is None or share["value"] is None:
        return "none"
    return f"{share['value']:.2f} {_brackets(share, 2)}"


def _brackets(estimate: dict[str, Any], digits: int) -> str:
    if estimate.get("low") is None or estimate.get("high") is None:
        return ""
    return f"[{estimate['low']:.{digits}f}, {estimate['high']:.{digits}f}]"


def _thousand(value: float | None) -> str:
    return "none" if value is None else f"{1000 * value:.2f}"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


def print_sets(result: dict[str, Any]) -> None:
    """Print the sets and floors to standard error."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True)
    if not console.is_terminal:
        console = Console(stderr=True, width=150)  # in a log file rich folds at 80 columns, the table needs more
    table = Table(title=f"{result['name']} against {result['footage']['clips']} real clips", title_justify="left")
    for number, heading in enumerate(headings(result)):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in set_rows(result):
        table.add_row(*row, style="dim" if row[0].startswith("floor") else "")
    console.print(table)
    console.print(NOTES, style="dim")
