"""Sources of sound: their thread on scripts, and real child processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streaming.process.child import Message
from streaming.sound.source import SoundSourceThread
from streaming.sound.timeline import RATE, Samples
from tests.streaming.doubles import WAIT_S
from tests.streaming.sound.wav import write_tone


class Child:
    """A child whose messages a test gives; at the end of them it has ended."""

    def __init__(self, messages: list[Message]) -> None:
        self.messages, self.sent = messages, list[dict[str, float]]()
        self.is_closed = False

    def send(self, fields: dict[str, float]) -> None:
        self.sent.append(fields)

    def receive(self, timeout_s: float | None = None) -> Message | None:
        if not self.messages:
            raise ConnectionAbortedError("the child process has ended")
        return self.messages.pop(0)

    def close(self) -> None:
        self.is_closed = True


def sound(value: int, at_s: float) -> Message:
    return {"at": at_s}, np.full((2, 2), value, np.int16).tobytes()


READY: Message = ({"state": "ready"}, b"")


def run(
    *children: Child | OSError, begin_s: float | None = None
) -> tuple[SoundSourceThread, list[tuple[int, float]], list[float]]:
    """Run a source over scripted children to their end."""
    heard: list[tuple[int, float]] = []
    waits: list[float] = []
    left, is_done, may_begin = list(children), threading.Event(), threading.Event()

    def dial(spec: str) -> Any:
        assert spec == "rtsp://host/SECRET"
        assert may_begin.wait(WAIT_S)
        child = left.pop(0)
        if isinstance(child, OSError):
            raise child
        return child

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        if not left:
            is_done.set()
        return not left

    def note(samples: Samples, at_s: float) -> None:
        heard.append((int(samples[0, 0]), at_s))

    source = SoundSourceThread("rtsp://host/SECRET", note, dial=dial, wait=wait)
    if begin_s is not None:
        source.begin(begin_s)
    may_begin.set()
    assert is_done.wait(WAIT_S)
    source.close()
    return source, heard, waits


def test_a_source_is_opened_again_and_told_when_the_show_began() -> None:
    first = Child([READY, sound(1, 5.0), None, sound(2, 5.01), ({"error": "SECRET rtsp://host/SECRET is gone"}, b"")])  # type: ignore[list-item]
    second = Child([READY, sound(3, 9.0)])
    source, heard, waits = run(first, OSError(11, "no more processes"), second, begin_s=4.5)
    assert heard == [(1, 5.0), (2, 5.01), (3, 9.0)]
    assert waits == [0.25, 0.5, 0.25]
    assert first.sent == second.sent == [{"start": 4.5}]
    assert first.is_closed
    assert second.is_closed
    assert source.name == "rtsp://host/***"
    assert source.state() == "the process that reads it has ended"


def test_what_cannot_be_opened_is_an_error_before_the_show() -> None:
    child = Child([({"error": "it has no sound"}, b"")])
    source, heard, _ = run(child)
    assert not heard
    assert not child.sent
    with pytest.raises(ValueError, match=r"^the sound rtsp://host/\*\*\* cannot be opened: it has no sound; choose"):
        source.wait_ready()


def open_source(spec: Path | str, on_sound: Callable[[Samples, float], object]) -> SoundSourceThread:
    return SoundSourceThread(str(spec), on_sound)


@pytest.mark.live
def test_a_file_begins_with_the_show_and_is_repeated(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", seconds=0.5, rate=44_100)
    blocks: list[tuple[Samples, float]] = []
    is_enough = threading.Event()

    def take(samples: Samples, at_s: float) -> None:
        blocks.append((samples, at_s))
        if sum(len(part) for part, _ in blocks) >= RATE:
            is_enough.set()

    with closing(open_source(path, take)) as source:
        source.wait_ready()
        assert not blocks, "it waits for the show"
        begin_s = time.monotonic() + 0.1
        source.begin(begin_s)
        assert is_enough.wait(WAIT_S)
    assert blocks[0][1] == pytest.approx(begin_s)
    ends = [at_s + len(samples) / RATE for samples, at_s in blocks]
    assert [at_s for _, at_s in blocks[1:]] == pytest.approx(ends[:-1])
    wave = np.concatenate([samples for samples, _ in blocks])[: RATE // 2, 0].astype(float)
    spectrum = np.abs(np.fft.rfft(wave))
    assert np.argmax(spectrum) * RATE / len(wave) == pytest.approx(1000, abs=3), "the pitch at 48 kHz"


@pytest.mark.live
@pytest.mark.parametrize(
    ("spec", "reason"),
    [("nothing.wav", "No such file"), ("rtmp://127.0.0.1:9/a/b", "refused"), ("picture.png", "it has no sound")],
)
def test_what_is_no_sound_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str, reason: str) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("picture.png")
    with (
        closing(open_source(spec, lambda samples, at_s: None)) as source,
        pytest.raises(ValueError, match=rf"^the sound .* cannot be opened: .*{reason}"),
    ):
        source.wait_ready()
