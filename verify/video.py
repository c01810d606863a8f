"""Reads the mark of a video, window by window."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from verify.finding import Finding
from verify.frames import Unread, VideoFrame, read_frames, to_name, to_thumbnail
from verify.mark_reader import WINDOW, Luma, MarkReader, to_finding
from verify.report import VideoReport, Window

_SEARCHES = 6  # windows without a mark that are searched for turned and scaled pictures
_MOST_THUMBNAILS = 6


def verify_video(source: str, *, seconds: float | None = None, with_thumbnails: bool = False) -> VideoReport:
    """Look for marks in a video.

    Args:
        source, seconds: as of `verify.frames.read_frames`.
        with_thumbnails: whether to keep a few small pictures for a page.

    Raises:
        ValueError: it cannot be read, or has no frames.
    """
    unread = Unread()
    report = verify_frames(source, read_frames(source, seconds, unread), with_thumbnails=with_thumbnails)
    return replace(report, unread=unread)


def verify_frames(source: str, frames: Iterable[VideoFrame], *, with_thumbnails: bool = False) -> VideoReport:
    """Look for marks in frames of one size; see `verify_video`."""
    reader = MarkReader(searches=_SEARCHES)
    windows: list[Window] = []
    thumbnails: list[tuple[float, bytes, int]] = []
    everything: npt.NDArray[np.float32] | None = None
    part: list[Luma] = []
    number = 0
    begin_s = end_s = 0.0
    wanted = 0  # windows apart, of thumbnails

    def close() -> None:
        nonlocal everything
        found = reader.read(part)
        finding = None if found is None else to_finding(number - len(part), len(part), *found)
        windows.append(Window(begin_s, end_s, finding))
        if finding is None:
            mean = np.asarray(np.mean(np.stack(part), axis=0, dtype=np.float32), np.float32)
            everything = mean if everything is None else everything + mean
        part.clear()

    for frame in frames:
        if not part:
            begin_s = frame.at_s
            if with_thumbnails and len(windows) >= wanted:
                thumbnails.append((frame.at_s, to_thumbnail(frame.picture), len(windows)))
                if len(thumbnails) > _MOST_THUMBNAILS:  # half of them, at twice the distance
                    thumbnails = thumbnails[::2]
                gap = 1 if len(thumbnails) < 2 else thumbnails[1][2] - thumbnails[0][2]
                wanted = thumbnails[-1][2] + max(1, gap)
        part.append(frame.luma.copy())
        number, end_s = number + 1, frame.at_s
        if len(part) == WINDOW:
            close()
    if part:
        close()
    if not windows:
        raise ValueError(f"{to_name(source)} has no frames: give a video, a picture or an address")
    height, width = (0, 0) if everything is None else everything.shape
    whole: Finding | None = None
    if everything is not None and len(windows) > 1 and all(one.finding is None for one in windows):
        found = reader.read([everything / np.float32(len(windows))], searches_anyway=True)
        whole = None if found is None else to_finding(0, number, *found)
    if not width:
        width, height = reader.size
    return VideoReport(to_name(source), width, height, number, windows, whole, thumbnails)
