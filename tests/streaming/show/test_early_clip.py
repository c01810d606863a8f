"""A clip that is read while the engine is opened, and while its head is played."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtime.clips.clip_frames import ClipFrames
from runtime.clips.endless import ClipReader, EndlessClip, describe_by_colour
from streaming.arguments import parse
from streaming.show.early_clip import EarlyClip, begin_clip
from tests import moving, tiny
from tests.runtime.clips.clip_of_waves import waves, write
from tests.streaming.doubles import WAIT_S

READER = ClipReader((128, 72), (64, 36), 30.0, "rgb", describe_by_colour)


class SlowReader:
    """Reads the head of a clip, and the rest when it is told to."""

    def __init__(self) -> None:
        self.goes_on, self.has_ended = threading.Event(), threading.Event()

    def read(
        self, clip: Path, how: str, check: Callable[[], None], *, on_head: Callable[[ClipFrames], Any], **rest: Any
    ) -> EndlessClip:
        def wait(head: ClipFrames) -> None:
            on_head(head)
            while not self.goes_on.wait(0.01):
                check()

        try:
            return READER.read(clip, how, check, on_head=wait, **rest)
        finally:
            self.has_ended.set()


def test_the_head_comes_first_and_the_line_when_all_has_been_read(tmp_path: Path) -> None:
    reader = SlowReader()
    early = EarlyClip(reader, write(tmp_path / "a.mkv", waves(150)), "cover")  # type: ignore[arg-type]
    head = early.first()
    assert head.whole is not None
    assert len(head.clip.frames) == 60
    assert early.news() == ""
    reader.goes_on.set()
    assert len(head.whole.result(WAIT_S).clip.frames) == 150
    assert early.news().startswith("a.mkv: 5.0 s; ")
    assert early.news() == "", "once"
    assert early.first().whole is None, "all of it, if it is there"
    early.close()


def test_reading_ends_with_the_show(tmp_path: Path) -> None:
    reader = SlowReader()
    early = EarlyClip(reader, write(tmp_path / "a.mkv", waves(150)), "cover")  # type: ignore[arg-type]
    early.first()
    early.close()
    assert reader.has_ended.wait(WAIT_S)
    assert early.news() == ""


def test_a_refusal_is_raised_where_the_clip_is_needed(tmp_path: Path) -> None:
    early = EarlyClip(READER, write(tmp_path / "a.mkv", waves(5)), "cover")
    with pytest.raises(ValueError, match=r"a\.mkv has 5 frames"):
        early.first()
    assert early.news() == ""
    early.close()


def test_what_is_not_played_for_ever_is_not_read_early(tmp_path: Path) -> None:
    bundle, clip = moving.build(tmp_path / "moving"), str(write(tmp_path / "a.mkv", waves(40)))
    assert begin_clip(parse([str(bundle)]), bundle) is None
    assert begin_clip(parse([str(bundle), "--clip", clip, "--then", str(bundle)]), bundle) is None
    past = tiny.build(tmp_path / "tiny")
    assert begin_clip(parse([str(past), "--clip", clip]), past) is None
    early = begin_clip(parse([str(bundle), "--clip", clip, "--size", "64x36"]), bundle)
    assert early is not None
    assert early.first().clip.frames.shape[2:] == (64,), "I420"
    early.close()
