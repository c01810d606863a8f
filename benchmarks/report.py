"""What a benchmark hands back, and how it is told: a table for people, one line of JSON for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO


@dataclass(frozen=True)
class BenchmarkReport:
    """The result of one benchmark.

    Args:
        title: what was measured, for the head of the table.
        rows: (figure, value, what it means), for people.
        result: everything, as plain data.
        details: what only belongs into the file: every single value.
        failed: whether something that must hold does not; the exit status is 1 then.
    """

    title: str
    rows: Sequence[tuple[str, str, str]]
    result: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)
    failed: bool = False

    def publish(self, *, json_file: str | None = None, out: TextIO | None = None, error: TextIO | None = None) -> None:
        """Tell the result.

        Args:
            json_file: where to write the result with its details; None for nowhere.
            out: gets one line of JSON; None for standard output.
            error: gets the table; None for standard error.

        Raises:
            OSError: the file cannot be written.
        """
        from rich.console import Console
        from rich.table import Table

        table = Table(title=self.title, title_justify="left", show_header=False, box=None, pad_edge=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        table.add_column(style="dim")
        for row in self.rows:
            table.add_row(*row)
        Console(file=error or sys.stderr).print(table)
        if json_file is not None:
            text = json.dumps({**self.result, **self.details}, indent=1) + "\n"
            write_beside(Path(json_file), lambda beside: beside.write_text(text, encoding="utf-8"))
        print(json.dumps(self.result), file=out or sys.stdout, flush=True)


def write_beside(file: Path, write: Callable[[Path], object]) -> None:
    """Let a file be written beside its place and renamed, so that it is whole or absent.

    Args:
        file: the place.
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
