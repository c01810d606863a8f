"""What the command lines of the export share: option values, tables, and progress bars."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from runtime.pixels.assemble import check_size

Advance = Callable[[float], None]
LOG_WIDTH = 140  # columns where the output is not a terminal: rich would fold tables at 80


def to_size(text: str, option: str = "--size") -> tuple[int, int]:
    """Parse "WxH" in pixels; `option` is named in the error.

    Raises:
        ValueError: the text does not have that form.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})", text)
    if match is None:
        raise ValueError(f"{option} must be WxH in pixels, e.g. 640x360, got {text!r}")
    width, height = (int(part) for part in match.groups())
    return width, height


def to_fps(text: str) -> Fraction:
    """Parse frames per second, a number or a fraction from 1 to 240; raises ValueError."""
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"--fps must be a number or a fraction, e.g. 25 or 30000/1001, got {text!r}") from error
    if not 1 <= fps <= 240:
        raise ValueError(f"--fps must be from 1 to 240, got {text}")
    return fps.limit_denominator(1001)


def to_list(text: str) -> tuple[str, ...]:
    """Parse names separated by commas; duplicates are removed."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def add_sizes(parser: argparse.ArgumentParser) -> None:
    """Add --size and --work, which `sizes_of` reads."""
    add = parser.add_argument
    add("--size", default="1280x720", metavar="WxH", help="frame size in pixels if a show names none (%(default)s)")
    add(
        "--work", default="448x256,256x448", metavar="WxH,...",
        help="sizes that the networks work at, multiples of 32; a show takes the one closest in shape (%(default)s)",
    )  # fmt: skip


def sizes_of(arguments: argparse.Namespace) -> tuple[tuple[int, int], tuple[tuple[int, int], ...]]:
    """Return the frame size and the work sizes, (width, height) in pixels.

    Raises:
        ValueError: one is not allowed.
    """
    frame = check_size(to_size(arguments.size))
    work = tuple(to_size(text) for text in to_list(arguments.work))
    if not work or any(side % 32 or side < 64 for size in work for side in size):
        raise ValueError(f"--work must be WxH,... in multiples of 32 from 64 up, got {arguments.work!r}")
    return frame, work


def print_table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], total: Sequence[str] = (), right: str = ""
) -> None:
    """Print a table.

    Args:
        title: printed above the table.
        headings: one per column.
        rows: cells of each row.
        total: cells of a last row, below a line; empty for none.
        right: headings of right-aligned columns, separated by spaces.
    """
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right.split() else "left")
    for row in rows:
        table.add_row(*row)
    if total:
        table.add_section()
        table.add_row(*total)
    console = Console()
    (console if console.is_terminal else Console(width=LOG_WIDTH)).print(table)


@dataclass
class ProgressRow:
    """One stage in the table: its name, the file it wrote, the file's size, its duration, and a note."""

    stage: str
    file: str = ""
    size_bytes: int | None = None
    seconds: float = 0.0
    note: str = ""


class ProgressTable:
    """Shows a progress bar per stage inside the `with` block, and collects the rows of the final table."""

    def __init__(self) -> None:
        self.rows: list[ProgressRow] = []
        self._start = self._seconds = 0.0
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), transient=True, refresh_per_second=4
        )

    def __enter__(self) -> Self:
        self._start = time.monotonic()
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._seconds = time.monotonic() - self._start
        self._progress.stop()

    @contextmanager
    def stage(self, name: str) -> Iterator[tuple[ProgressRow, Advance]]:
        """Run a stage; yields its row to fill in, and a function to call with the completed share (0 to 1)."""
        row = ProgressRow(name)
        self.rows.append(row)  # at the start, so that parallel stages stay in the order in which they began
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
        rows = [
            (
                row.stage,
                row.file,
                "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f} MB",
                f"{row.seconds:.1f} s",
                row.note,
            )
            for row in self.rows
        ]
        total = ("total", "", "", f"{self._seconds:.1f} s", "")
        print_table(title, ("stage", "file", "size", "time", ""), rows, total, right="size time")
