"""What is told about a source, section by section; the command line, its JSON and the page show the same sections.

A new kind of evidence is a function in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from verify.report import VideoReport, mark_lines


@dataclass(frozen=True)
class Section:
    """One kind of evidence.

    Args:
        name: its key in the JSON output.
        title: for people.
        lines: in plain words, one idea a line.
        data: for programs.
    """

    name: str
    title: str
    lines: tuple[str, ...]
    data: dict[str, Any] = field(default_factory=dict)


def mark_section(report: VideoReport) -> Section:
    """Return what the frames say themselves."""
    return Section("mark", "The mark in the frames", tuple(mark_lines(report)), report.to_json())


# Each gets the report of the frames, which names the source, and returns None where it has nothing to say.
SECTIONS: tuple[Callable[[VideoReport], Section | None], ...] = (mark_section,)


def sections(report: VideoReport) -> list[Section]:
    """Return all that is known about a source."""
    return [section for make in SECTIONS if (section := make(report)) is not None]
