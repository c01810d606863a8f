"""The window with a fake OpenCV; the real one needs a desktop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from streaming.commandline import main
from streaming.errors import ClosedError, SinkError
from streaming.output.fan_out import FanOut
from streaming.sinks.sink import Frame
from streaming.sinks.window_sink import WindowSink
from tests.streaming.doubles import WAIT_S, ScriptedSink, card_error, colour_card, feed, to_i420

STAND_IN = """
import numpy as np
class error(Exception): pass
WINDOW_NORMAL = WINDOW_KEEPRATIO = WINDOW_GUI_NORMAL = WND_PROP_VISIBLE = INTER_LINEAR = 0
def resize(plane, size, interpolation): return plane.repeat(2, 0).repeat(2, 1)
def merge(planes): return np.stack(planes, -1)
def transform(picture, matrix):
    return np.clip(np.round(picture @ matrix[:, :3].T + matrix[:, 3]), 0, 255).astype(np.uint8)
count = 0
def namedWindow(title, flags):
    if {fails}: raise error("The function is not implemented")
def resizeWindow(title, width, height): pass
def imshow(title, picture):
    global count
    count += 1
    np.save({folder!r} + f"/{{count}}.npy", picture)
def waitKey(ms): return {key} if count >= 3 else 255
def getWindowProperty(title, kind): return {visible} if count >= 3 else 1
"""
CARD = colour_card(128, 96)


def put_opencv(folder: Path, monkeypatch: pytest.MonkeyPatch, **how: object) -> None:
    """Put a stand-in for OpenCV before the real one."""
    values = {"fails": False, "key": 255, "visible": 1, "folder": str(folder), **how}
    (folder / "cv2.py").write_text(STAND_IN.format(**values))
    monkeypatch.setenv("PYTHONPATH", str(folder))


def opened() -> WindowSink:
    sink = WindowSink("window")
    sink.open(feed(128, 96))
    sink.start()
    return sink


def test_frames_are_shown_in_their_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_opencv(tmp_path, monkeypatch)
    sink = opened()
    assert sink.write(Frame(to_i420(CARD), 0))
    sink.close()
    assert card_error(np.load(tmp_path / "1.npy")[..., ::-1]) <= 4


@pytest.mark.parametrize("how", [{"key": ord("q")}, {"key": 27}, {"visible": 0}])
def test_closing_the_window_ends_only_this_sink(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, int]
) -> None:
    put_opencv(tmp_path, monkeypatch, **how)
    sink = opened()
    assert sink.write(Frame(to_i420(CARD), 0))
    assert sink.write(Frame(to_i420(CARD), 1))
    with pytest.raises(ClosedError):
        sink.write(Frame(to_i420(CARD), 2))
    sink.close()


def test_a_closed_sink_has_not_failed() -> None:
    left, other = ScriptedSink("window", {"write": ClosedError("the window was closed")}), ScriptedSink("other")
    fan_out = FanOut([left, other])
    fan_out.open(feed())
    fan_out.wait_ready()
    fan_out.put(to_i420(colour_card(64, 48)), 0)
    assert fan_out.threads[0].join(WAIT_S)
    first, second = fan_out.stats()
    assert (first.state, first.is_dead, first.errors, first.is_up) == ("closed", False, 0, False)
    assert second.is_up
    assert not fan_out.is_dead
    assert not fan_out.is_reader_gone
    fan_out.close()


def test_a_show_ends_when_its_only_window_is_closed(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put_opencv(tmp_path, monkeypatch, key=ord("q"))
    assert main([str(bundle), "--to", "window", "--seconds", "60"]) == 0
    assert "ended: no sink is left" in capsys.readouterr().err


def test_an_opencv_without_windows_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_opencv(tmp_path, monkeypatch, fails=True)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    for display, reason in (
        (":99", "has no windows: pip uninstall opencv-python-headless"),
        ("", "there is no desktop here"),
    ):
        monkeypatch.setenv("DISPLAY", display)
        sink = WindowSink("window")
        sink.open(feed())
        with pytest.raises(SinkError, match=reason):
            sink.start()
        sink.discard()
