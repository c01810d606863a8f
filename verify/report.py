"""What was found in a video, and how it is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from verify.finding import Finding
from verify.frames import Unread
from verify.mark_reader import MOST_DECODED, WINDOW


class Window(NamedTuple):
    """One window of a video.

    Args:
        begin_s, end_s: its time in seconds.
        finding: None if no mark was found.
    """

    begin_s: float
    end_s: float
    finding: Finding | None


@dataclass(frozen=True)
class VideoReport:
    """The result for one video.

    Args:
        source: its name, without secrets.
        width, height: of a frame in pixels.
        frames: how many were read.
        windows: in order of time; together they are all that was read.
        whole: a mark that was found only in the mean of all windows; None if there is none, or single ones have it.
        thumbnails: (seconds, JPEG, number of the window), for the page.
        unread: what of the source was not read.
    """

    source: str
    width: int
    height: int
    frames: int
    windows: Sequence[Window]
    whole: Finding | None = None
    thumbnails: Sequence[tuple[float, bytes, int]] = field(default=(), repr=False)
    unread: Unread = field(default_factory=Unread)

    @property
    def payloads(self) -> list[str]:
        """The payloads that were found, the most frequent first."""
        found = [window.finding.payload for window in self.windows if window.finding is not None]
        if self.whole is not None:
            found.append(self.whole.payload)
        return sorted(set(found), key=lambda payload: (-found.count(payload), payload))

    @property
    def is_marked(self) -> bool:
        """Whether a mark was found."""
        return bool(self.payloads)

    def findings_of(self, payload: str) -> list[Window]:
        """Return the windows in which a payload was found."""
        return [one for one in self.windows if one.finding is not None and one.finding.payload == payload]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {
            "source": self.source,
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "unread": self.unread.to_json(),
            "marked": self.is_marked,
            "payloads": self.payloads,
            "windows": [
                {
                    "begin_s": round(one.begin_s, 3),
                    "end_s": round(one.end_s, 3),
                    "finding": None if one.finding is None else one.finding.to_json(),
                }
                for one in self.windows
            ],
            "whole": None if self.whole is None else self.whole.to_json(),
        }


def mark_lines(report: VideoReport) -> list[str]:
    """Return what was found about the mark, in plain words, one idea a line."""
    seconds = report.windows[-1].end_s if report.windows else 0.0
    read = f"{report.frames} frames ({seconds:.1f} s) of {report.width} x {report.height} were read"
    if not report.is_marked:
        return [
            f"No mark of Everframe was found; {read}.",
            *report.unread.sentences(),
            "This does not show that the video is a recording of the world: other generators have other marks or none,",
            "a mark can be removed on purpose, and strong compression, tiny pictures or heavy editing can destroy it.",
        ]
    lines = []
    for payload in report.payloads:
        lines += _payload_lines(report, payload)
    chance = (len(report.windows) + 1) * MOST_DECODED * 2.0**-32
    lines += [
        f"{read[0].upper()}{read[1:]}, in windows of {WINDOW} frames.",
        *report.unread.sentences(),
        "These pictures were made or changed by a generator: Everframe puts this mark into the frames that it makes.",
        f"The chance of such an answer for a video without any mark is below {_up(chance)}, if the signs of its noise "
        "are as likely one way as the other (see docs/verify.md).",
        "The mark says nothing about who made the video. It can be copied onto other pictures (see docs/verify.md).",
    ]
    return lines


def where(finding: Finding) -> str:
    """Return in which part of the frame a mark is, in words."""
    marked = finding.places > 3
    if marked.mean() >= 0.9:
        return "all over the frame"
    if not marked.any():
        return "too weak to say where in the frame"
    rows, columns = marked.mean(axis=1), marked.mean(axis=0)
    vertical = _part(rows, ("top", "middle", "bottom"))
    horizontal = _part(columns, ("left", "middle", "right"))
    place = " and ".join(dict.fromkeys(part for part in (vertical, horizontal) if part))
    return f"in {marked.mean():.0%} of the frame" + (f", mostly the {place}" if place else "")


def to_map(finding: Finding) -> list[str]:
    """Return the map of a frame as lines: # where the mark is clear, + where it is weak, . where it is not seen."""
    return ["".join("#" if value > 6 else "+" if value > 3 else "." for value in row) for row in finding.places]


def _payload_lines(report: VideoReport, payload: str) -> list[str]:
    windows = report.findings_of(payload)
    if not windows:
        return [f"Marked: payload {payload}, found only in the mean of all frames, so the mark is weak."]
    sure = float(np.mean([one.finding.confidence for one in windows if one.finding is not None]))
    first, last = windows[0], windows[-1]
    best = max((one.finding for one in windows if one.finding is not None), key=lambda finding: finding.pilots)
    lines = [
        f"Marked: payload {payload}.",
        f"Found in {len(windows)} of {len(report.windows)} windows, from {first.begin_s:.1f} s to {last.end_s:.1f} s; "
        f"received {_word(sure)} ({sure:.0%}).",
        f"It is {where(best)}." if best.places.size else "",
    ]
    changes = []
    if abs(best.degrees) > 0.3:
        changes.append(f"turned by {best.degrees:.1f} degrees")
    if best.is_mirrored:
        changes.append("mirrored")
    if changes:
        lines.append(f"The picture was {' and '.join(changes)} after it was made.")
    return [line for line in lines if line]


def _part(shares: np.ndarray, names: tuple[str, str, str]) -> str:
    thirds = [float(part.mean()) for part in np.array_split(shares, 3)]
    best = int(np.argmax(thirds))
    return names[best] if thirds[best] > 1.5 * float(shares.mean()) else ""


def _word(confidence: float) -> str:
    return "clearly" if confidence > 0.8 else "well" if confidence > 0.5 else "weakly"


def _up(chance: float) -> str:
    """Return "1 in N" for a small probability, rounded to the safe side."""
    digits = int(1 / chance)
    return f"1 in {digits // 10 ** (len(str(digits)) - 1) * 10 ** (len(str(digits)) - 1):,}"
