"""Every benchmark in docs/results.md, one after the other, and its tables from their results.

python -m benchmarks all

Runs each benchmark in a process of its own, keeps its result in docs/measured/
and writes the tables of docs/results.md from there: no number is typed by hand.
Nothing else should run at the same time. A benchmark that needs a training run
is skipped without it, and its table stays as it is.

examples:
  python -m benchmarks all
  python -m benchmarks all --only soak-satellite
  python -m benchmarks all --render
      write the tables again without measuring
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.report import BenchmarkReport, write_text

ROOT = Path(__file__).resolve().parents[1]
_MARK = re.compile(r"(<!-- measured: ([a-z0-9-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Measurement:
    """One measurement: its name in docs/results.md, the command, and a folder that it needs."""

    name: str
    command: tuple[str, ...]
    needs: str = ""


_LATENCY = ("--pixels", "i420", "--frames", "600", "--compare", "all")

ENTRIES = (
    Measurement("latency-satellite", ("latency", "bundles/satellite", *_LATENCY)),
    Measurement("latency-landscape", ("latency", "bundles/landscape", *_LATENCY)),
    Measurement("live-satellite", ("live", "bundles/satellite")),
    Measurement("scale-landscape", ("scale", "bundles/landscape")),
    Measurement("soak-satellite", ("soak", "bundles/satellite")),
    Measurement("reconnect-satellite", ("reconnect", "bundles/satellite")),
    Measurement("endurance-satellite", ("endurance", "bundles/satellite")),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    names = ", ".join(entry.name for entry in ENTRIES)
    parser.add_argument("--only", metavar="NAMES", help=f"some of {names}")
    parser.add_argument("--render", action="store_true", help="write the tables without measuring")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure, and write the tables.

    Raises:
        ValueError: a name is unknown, a result is missing or damaged, or docs/results.md has no place for it.
    """
    names = [entry.name for entry in ENTRIES] if options.only is None else options.only.split(",")
    for name in names:
        if name not in {entry.name for entry in ENTRIES}:
            raise ValueError(f'there is no measurement "{name}", expected some of {", ".join(e.name for e in ENTRIES)}')
    folder = ROOT / "docs" / "measured"
    rows = []
    for entry in ENTRIES if not options.render else ():
        if entry.name in names:
            rows.append((entry.name, measure(entry, folder), " ".join(entry.command)))
    page = ROOT / "docs" / "results.md"
    text = render(page.read_text(encoding="utf-8"), folder)
    write_text(page, text)
    return BenchmarkReport("written to docs/results.md", rows, {"benchmark": "all", "measured": len(rows)})


def measure(entry: Measurement, folder: Path) -> str:
    """Run one measurement and keep its result; return "measured", "failed" or why it was skipped.

    Raises:
        ValueError: it could not be run.
    """
    if entry.needs and not (ROOT / entry.needs).exists():
        return f"skipped: there is no {entry.needs}"
    print(f"{entry.name}: python -m benchmarks {' '.join(entry.command)}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks", *entry.command]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1):
        raise ValueError(f"{entry.name} ended with status {done.returncode}: see its output above")
    folder.mkdir(exist_ok=True)
    result = json.loads(done.stdout.splitlines()[-1])
    write_text(folder / f"{entry.name}.json", json.dumps(result, indent=1) + "\n")
    return "failed" if done.returncode else "measured"


def render(text: str, folder: Path) -> str:
    """Return docs/results.md with every marked table replaced.

    Args:
        text: of the page. A table is between `<!-- measured: NAME -->` and `<!-- end -->`.
        folder: holds NAME.json.

    Raises:
        ValueError: a result is missing or damaged.
    """

    def fill(match: re.Match[str]) -> str:
        return match[1] + "\n" + table(folder / f"{match[2]}.json") + "\n" + match[4]

    return _MARK.sub(fill, text)


def table(file: Path) -> str:
    """Return the Markdown of one result, with its command and machine.

    Raises:
        ValueError: it is missing or damaged.
    """
    from benchmarks.__main__ import ALIASES, BENCHMARKS

    try:
        result: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        name = ALIASES.get(result["benchmark"], result["benchmark"])
        body: str = import_module(BENCHMARKS[name].module).to_markdown(result)
        return f"`{result['command']}`\n\n{body}\n{_footer(result['machine'])}\n"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file} is missing or damaged ({type(error).__name__}: {error}): measure it again with "
            f"python -m benchmarks all --only {file.stem}"
        ) from error


def _footer(machine: dict[str, Any]) -> str:
    flags: Sequence[str] = [flag for flag in machine["flags"] if "512_" in flag or "amx" in flag]
    commit = (machine["commit"] or "none")[:7]
    return f"{machine['cpu']}, {machine['cores']} cores, {' '.join(flags)}; load {machine['load']}; commit {commit}."
