"""The result of a benchmark: a table for people, one line of JSON for programs, checks that must hold, progress."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

# Name -> {"passed": True, False or None (not run), "what": one sentence with the figures}.
Checks = dict[str, dict[str, Any]]
Bar = Callable[[str, int], AbstractContextManager[Callable[[float], None]]]


@dataclass(frozen=True)
class BenchmarkReport:
    """The result of one benchmark.

    Args:
        title: what was measured, above the table.
        rows: (figure, value, explanation), for people.
        result: everything, as plain data; `machine` and `command` are added where they are missing.
        details: what only belongs into the file: every single value.
        failed: whether a check failed; the exit status is 1 then.
    """

    title: str
    rows: Sequence[tuple[str, str, str]]
    result: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)
    failed: bool = False

    def publish(self, *, json_file: str | None = None, out: TextIO | None = None, error: TextIO | None = None) -> None:
        """Print the result, and write it to a file.

        Args:
            json_file: gets the result with its details; None for no file.
            out: gets one line of JSON; None for standard output.
            error: gets the table; None for standard error.

        Raises:
            OSError: the file cannot be written.
        """
        from rich.console import Console
        from rich.table import Table

        table = Table(title=self.title, title_justify="left", show_header=False, box=None, pad_edge=False)
        for style, justify in (("bold", "left"), ("", "right"), ("dim", "left")):
            table.add_column(style=style, justify=justify)  # type: ignore[arg-type]
        for row in (*self.rows, *_machine_rows(self.result.get("machine"))):
            table.add_row(*row)
        Console(file=error or sys.stderr).print(table)
        print(json.dumps(self.result), file=out or sys.stdout, flush=True)
        if json_file is not None:
            write_text(Path(json_file), json.dumps({**self.result, **self.details}, indent=1) + "\n")


def _machine_rows(machine: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    if machine is None:
        return []
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return [
        ("machine", f"{machine['cores']} cores", f"{machine['cpu']}: {', '.join(machine['flags'])}"),
        ("", f"{machine['memory_gib']} GiB", machine["os"]),
        ("", f"load {machine['load']}", f"Python {machine['python']}, {versions}"),
        ("commit", "", machine["commit"] or "none"),
    ]


def command_line() -> str:
    """Return the command that measures this again."""
    return shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])


# Checks.


def check(passed: bool | None, what: str) -> dict[str, Any]:
    """Return one check of `Checks`."""
    return {"passed": None if passed is None else bool(passed), "what": what}


def has_failed(checks: Checks) -> bool:
    """Return whether a check failed; one that was not run has not."""
    return any(found["passed"] is False for found in checks.values())


def check_rows(checks: Checks, passed: str = "passed", failed: str = "FAILED") -> list[tuple[str, str, str]]:
    """Return rows for a report."""
    words = {True: passed, False: failed, None: "-"}
    return [(name, words[found["passed"]], found["what"]) for name, found in checks.items()]


def checks_to_markdown(head: str, checks: Checks, passed: str) -> str:
    """Return a Markdown table of the checks."""
    lines = [f"| {head} | | |", "|---|---|---|"]
    lines += [f"| {name} | {word} | {what} |" for name, word, what in check_rows(checks, passed, "**failed**")]
    return "\n".join(lines) + "\n"


def thirds(values: Sequence[float]) -> tuple[float, float]:
    """Return the medians of the first and of the last third: whether something grows, however it varies."""
    third = max(1, len(values) // 3)
    return float(np.median(values[:third])), float(np.median(values[-third:]))


# Progress.


@contextmanager
def progress_bars() -> Iterator[Bar]:
    """Yield bar(name, total), a context manager that yields advance(count); bars appear on terminals only."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        @contextmanager
        def bar(name: str, total: int) -> Iterator[Callable[[float], None]]:
            task = bars.add_task(name, total=total)
            yield lambda count: bars.update(task, advance=count)

        yield bar


# Files.


def write_text(file: Path, text: str) -> None:
    """Write a text file; see `write_beside`."""
    write_beside(file, lambda beside: beside.write_text(text, encoding="utf-8"))


def write_beside(file: Path, write: Callable[[Path], object]) -> None:
    """Write a file under another name and rename it, so that it is complete or absent.

    Args:
        file: its final path.
        write: writes the file whose path it is given; the name ends as that of `file` does.

    Raises:
        OSError: it cannot be written.
    """
    beside = file.with_name(f".{file.stem}.{os.getpid()}{file.suffix}")
    try:
        write(beside)
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
