"""What is told about a source, section by section; the command line, its JSON and the page show the same sections.

A new kind of evidence is a function in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
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


def manifest_section(report: VideoReport) -> Section | None:
    """Return what the file, or a file beside it, says about itself; None for what is no file."""
    from provenance.report import read_manifest_report

    path = Path(report.source)
    if not path.is_file():
        return None
    try:
        found = read_manifest_report(path)
    except ImportError:
        return Section("manifest", "The signed manifest", ("Not read: it needs the extra sign.",))
    except (ValueError, OSError) as error:
        return Section("manifest", "The signed manifest", (f"It cannot be read: {error}.",))
    lines = found.sentences()
    if found.mark is not None and report.is_marked:
        is_same = found.mark in report.payloads
        lines.append("The frames carry the mark that it states." if is_same else "The frames carry ANOTHER mark.")
    return Section("manifest", "The signed manifest", tuple(lines), found.to_json())


# Each gets the report of the frames, which names the source, and returns None where it has nothing to say.
SECTIONS: tuple[Callable[[VideoReport], Section | None], ...] = (mark_section, manifest_section)


def sections(report: VideoReport) -> list[Section]:
    """Return all that is known about a source."""
    return [section for make in SECTIONS if (section := make(report)) is not None]
