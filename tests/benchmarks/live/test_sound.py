"""Flashes and clicks: the clip, the pairs, and what counts as in step."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.live.sound import judge, pair, write_clip
from streaming.inputs.live_input_child import read
from tests.fakes import FakeClock


def test_each_flash_is_paired_with_its_click() -> None:
    pairs = pair([1.0, 2.0, 3.0, 9.0], [1.02, 1.99, 3.0])
    assert [flash for flash, _ in pairs] == [1.0, 2.0, 3.0]
    assert [apart for _, apart in pairs] == pytest.approx([0.02, -0.01, 0.0])
    assert pair([1.0], []) == []


def passage(apart_s: float, drift_s: float = 0.0) -> list[tuple[float, float]]:
    return [(float(second), apart_s + drift_s * second) for second in range(100)]


def test_what_is_in_step_passes() -> None:
    checks = judge([passage(0.01), [], passage(-0.03)])
    assert all(item["passed"] for item in checks.values())
    assert "after each of 2 connections: +10, -30 ms" in checks["after restarts"]["what"]


def test_what_drifts_or_comes_back_late_fails() -> None:
    drifting = judge([passage(0.0, 0.001)])
    assert not drifting["in step"]["passed"]
    assert drifting["after restarts"]["passed"]
    assert not judge([passage(0.0), passage(0.06)])["after restarts"]["passed"]
    with pytest.raises(ValueError, match="the reader saw no flash"):
        judge([[]])


def test_the_clip_flashes_and_clicks_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from benchmarks.live import sound

    monkeypatch.setattr(sound, "_CLIP_S", 3)
    write_clip(tmp_path / "clip.mkv")
    clock = FakeClock(0.0)
    monkeypatch.setattr(time, "monotonic", clock.now)
    monkeypatch.setattr(time, "sleep", clock.advance)
    flashes, clicks, was_bright = [], [], True
    for item in read(str(tmp_path / "clip.mkv"), 64, 36, with_sound=True):
        if isinstance(item, tuple):
            samples, at_s = item
            clicks += [at_s + float((samples[:, 0] > 20_000).argmax()) / 48_000] if samples.max() > 20_000 else []
        else:
            is_bright = bool(item.mean() > 128)
            flashes += [clock.now()] if is_bright and not was_bright else []
            was_bright = is_bright
        if clock.now() > 2.6:
            break
    assert [apart for _, apart in pair(flashes, clicks)] == pytest.approx([0.0, 0.0], abs=0.02)
