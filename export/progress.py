"""The stages of an export: progress while each runs, and one table of them at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

Advance = Callable[[float], None]


@dataclass
class ProgressRow:
    """One stage in the table: its name, the file that it wrote, the file's size, seconds, and what is to be said."""

    stage: str
    file: str = ""
    size_bytes: int | None = None
    seconds: float = 0.0
    note: str = ""


class ProgressTable:
    """A progress bar per stage, and the rows of the table; a context in which the bars are shown."""

    def __init__(self) -> None:
        self.rows: list[ProgressRow] = []
        self._start = self._seconds = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), transient=True, refresh_per_second=4
        )

    def __enter__(self) -> Self:
        """Show the bars."""
        self._start = time.monotonic()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hide the bars."""
        self._seconds = time.monotonic() - self._start
        self._progress.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[tuple[ProgressRow, Advance]]:
        """Run a stage: yields its row, to be filled in, and what to call with the share that is done, 0 to 1."""
        row = ProgressRow(name)
        self.rows.append(row)  # now: stages that run side by side stand in the order in which they were begun
        task = self._progress.add_task(name, total=None)

        def advance(share: float) -> None:
            self._progress.update(task, total=1.0, completed=share)

        start = time.monotonic()
        try:
            yield row, advance
        finally:
            self._progress.remove_task(task)
        row.seconds = time.monotonic() - start

    def print(self, title: str) -> None:
        """Print the table."""
        table = Table(title=title)
        for heading in ("stage", "file", "size", "time", ""):
            table.add_column(heading, justify="right" if heading in ("size", "time") else "left")
        for row in self.rows:
            size = "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f} MB"
            table.add_row(row.stage, row.file, size, f"{row.seconds:.1f} s", row.note)
        table.add_section()
        table.add_row("together", "", "", f"{self._seconds:.1f} s", "")
        console = Console()
        if not console.is_terminal:
            console = Console(width=140)  # in a log file rich folds at 80 columns, the table needs more
        console.print(table)
