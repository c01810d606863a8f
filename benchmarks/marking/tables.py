"""The benchmark's result, for people and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Rows = list[tuple[str, str, str]]


def rows_of(found: Mapping[str, Any]) -> Rows:
    """Return the rows of a report."""
    rows: Rows = []
    if "detection" in found:
        for change, counts in _by_change(found["detection"]["table"]).items():
            rows.append((change, f"{counts[1]} of {counts[0]}", f"{counts[2]} with another payload"))
        detection = found["detection"]
        rows.append(("reading", f"{detection['read_s_p50']:.2f} s", f"at most {detection['read_s_max']:.2f} s a clip"))
    if "real" in found:
        real = found["real"]
        decoded = f"{real['windows']} windows of {real['videos']} videos, {real['decoded']} candidates decoded"
        rows.append(("false positives", str(real["payloads"]), decoded))
    for case, cost in found.get("cost", {}).items():
        lpips = f", LPIPS {cost['lpips']:.4f} (worst {cost['worst_lpips']:.4f})" if "lpips" in cost else ""
        rows.append((case, f"{cost['psnr_db']:.1f} dB", f"worst {cost['worst_psnr_db']:.1f} dB{lpips}"))
    for case, speed in found.get("speed", {}).items():
        rows.append(
            (
                case,
                f"+{speed['difference_ms']:.2f} ms",
                f"{speed['unmarked_ms']:.2f} -> {speed['marked_ms']:.2f} ms, CPU time per thread "
                f"+{speed['difference_cpu_ms']:.2f} ms; other frames {speed['marker_ms']:.2f} ms",
            )
        )
    for name, attack in found.get("attacks", {}).items():
        quality = f", {attack['psnr_db']:.1f} dB to the unmarked frames" if "psnr_db" in attack else ""
        told = f"another payload {attack['other']}, none {attack['none']}{quality}"
        rows.append((name, f"own {attack['own']}", told))
    engines = found.get("engines", {"frames": {}, "builds": {}})
    for case, made in engines["frames"].items():
        close = "the reference"
        if "worst_db" in made:
            close = (
                f"worst {made['worst_db']:.1f} dB, mean {made['mean_db']:.1f} dB; "
                f"without the mark {made['unmarked_worst_db']:.1f} and {made['unmarked_mean_db']:.1f} dB"
            )
        rows.append((case, close, f"payload in {made['found']} windows"))
    for case, built in engines["builds"].items():
        rows.append((f"{case}, TensorRT-RTX", f"built in {built['seconds']:.1f} s", f"{built['mb']:.1f} MB"))
    return rows


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the tables of docs/results.md."""
    parts = []
    if "detection" in result:
        table = result["detection"]["table"]
        cases = list(table)
        lines = [f"| found | {' | '.join(cases)} | all |", f"|---|{'---|' * (len(cases) + 1)}"]
        for change, counts in _by_change(table).items():
            cells = [_cell(table[case].get(change)) for case in cases]
            lines.append(f"| {change} | {' | '.join(cells)} | {_cell(counts)} |")
        parts.append("\n".join(lines))
    others = rows_of({key: value for key, value in result.items() if key != "detection"})
    if others:
        parts.append("\n".join(["| | | |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in others)]))
    return "\n\n".join(parts) + "\n"


def _by_change(table: Mapping[str, Mapping[str, list[int]]]) -> dict[str, list[int]]:
    """Return the counts of each change over all cases."""
    total: dict[str, list[int]] = {}
    for changes in table.values():
        for change, counts in changes.items():
            before = total.get(change, [0, 0, 0])
            total[change] = [one + two for one, two in zip(before, counts, strict=True)]
    return total


def _cell(counts: list[int] | None) -> str:
    if counts is None:
        return "-"
    return f"{counts[1]} of {counts[0]}" if counts[1] < counts[0] else f"all {counts[0]}"
