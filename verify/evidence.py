"""What is told about a source, section by section; the command line, its JSON and the page show the same sections.

A new kind of evidence is a function in `SECTIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.errors import printable
from verify.frames import is_live
from verify.report import VideoReport, mark_lines

if TYPE_CHECKING:
    from provenance.report import ManifestReport

_MANIFEST = "The signed manifest"


@dataclass(frozen=True)
class Section:
    """One kind of evidence.

    Args:
        name: its key in the JSON output.
        title: for people.
        lines: in plain words, one idea a line.
        data: for programs.
        is_broken: whether it shows that the source is not what somebody has signed.
    """

    name: str
    title: str
    lines: tuple[str, ...]
    data: dict[str, Any] = field(default_factory=dict)
    is_broken: bool = False


@dataclass(frozen=True)
class Source:
    """What is looked at.

    Args:
        name: as it was given: a path, an address or a webcam.
        report: about its frames; None if they cannot be read.
        roots: PEM file of the certificates that are trusted to issue others; None for none.
    """

    name: str
    report: VideoReport | None
    roots: Path | None = None


def mark_section(source: Source) -> Section | None:
    """Return what the frames say themselves; None if they cannot be read."""
    if source.report is None:
        return None
    return Section("mark", "The mark in the frames", tuple(mark_lines(source.report)), source.report.to_json())


def manifest_section(source: Source) -> Section | None:
    """Return what the file, or a file beside it, says about itself; None for what is no file."""
    from provenance.report import CHANGED, INVALID, read_manifest_report

    path = Path(source.name)
    if is_live(source.name) or not path.is_file():
        return None
    try:
        found = read_manifest_report(path, source.roots)
        lines, data = found.sentences(), found.to_json()
        lines += _comparison(found, source.report)
    except ImportError:
        return Section("manifest", _MANIFEST, ("Not read: it needs the extra sign.",))
    except (ValueError, OSError) as error:
        return Section("manifest", _MANIFEST, (printable(f"It cannot be read: {error}."),))
    except Exception as error:  # noqa: BLE001 - anybody may have written the file, and the frames still count
        return Section("manifest", _MANIFEST, (f"It cannot be read: it is malformed ({type(error).__name__}).",))
    is_broken = found.state == CHANGED or (found.state == INVALID and "remote" not in found.problems)
    return Section("manifest", _MANIFEST, tuple(lines), data, is_broken)


# Each returns None where it has nothing to say.
SECTIONS: tuple[Callable[[Source], Section | None], ...] = (mark_section, manifest_section)


def sections(source: Source) -> list[Section]:
    """Return all that is known about a source."""
    return [section for make in SECTIONS if (section := make(source)) is not None]


def _comparison(found: ManifestReport, report: VideoReport | None) -> list[str]:
    """Return whether the frames carry the mark that a manifest states."""
    if report is None:
        return []
    if found.mark is not None:
        if found.mark in report.payloads:
            return ["The frames carry the mark that it states."]
        if report.is_marked:
            return ["The frames carry ANOTHER mark than it states."]
        return [
            "It states a mark, and NO mark was found in the frames: they are others, or too small, or the mark did not "
            "survive what was done to them."
        ]
    if report.is_marked and found.show is not None and found.show.get("has_no_mark") is True:
        return ["It states that the frames carry no mark, and a mark WAS found in them."]
    return []
