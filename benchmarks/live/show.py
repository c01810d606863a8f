"""A show whose frames carry their numbers, and the times at which each frame passes each step."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.latency.stages import TimedSession
from benchmarks.live import stamp
from runtime.engines.engine import Array
from runtime.generator import Generator
from streaming.control.controller import ShowController
from streaming.errors import SinkError
from streaming.output.fan_out import FanOut
from streaming.output.pacing import Pacer, SystemClock
from streaming.show.show import Show
from streaming.sinks.sink import Frame, Picture, Sink, StreamFormat

_KEY_SECONDS = 2


@dataclass
class Notes:
    """The times of a show's frames; nanoseconds of `time.monotonic_ns`.

    Args:
        asked: number -> when the frame was asked for.
        stages_ms: number -> milliseconds of the engine's stages.
        made: number -> when it was made, with its number in it.
        left: number -> (when it was handed to the sinks, its slot).
        controls: (when a control was set, number of the first frame made with it).
        late, dropped: late frames, slots without a frame.
    """

    asked: dict[int, int] = field(default_factory=dict)
    stages_ms: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    made: dict[int, int] = field(default_factory=dict)
    left: dict[int, tuple[int, int]] = field(default_factory=dict)
    controls: list[tuple[int, int]] = field(default_factory=list)
    late: int = 0
    dropped: int = 0


class ControlledSession(TimedSession):
    """A timed session that also notes when a control is written to the step graph."""

    def __init__(self, session: Any, control: str | None) -> None:
        super().__init__(session)
        self.has_new_control = False
        self._control = control

    def write(self, name: str, value: Array) -> None:
        """Write an input."""
        self.has_new_control = self.has_new_control or name == self._control
        super().write(name, value)


class NumberedFrames:
    """A generator's frames, each with its number in it, from 0.

    Args:
        generator: makes I420.
        session: its step session.
        notes: filled in.
    """

    def __init__(self, generator: Generator, session: ControlledSession, notes: Notes) -> None:
        self.number = -1
        self.notes = notes
        self._generator = generator
        self._session = session
        self._buffer = np.empty((generator.height * 3 // 2, generator.width), np.uint8)
        self._waiting: list[int] = []  # when controls were set that are in no frame yet
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Picture]:
        return self

    def __next__(self) -> Picture:
        """Make a frame and write its number into it."""
        number = self.number + 1
        self.notes.asked[number] = time.monotonic_ns()
        self._session.has_new_control = False
        frame = next(self._generator)
        self.notes.stages_ms[number] = self._session.take_ms()
        np.copyto(self._buffer, frame)
        stamp.write(self._buffer[: self._generator.height], number % 2**stamp.BITS)
        if self._session.has_new_control:
            with self._lock:
                self.notes.controls += [(moment, number) for moment in self._waiting]
                self._waiting.clear()
        self.number = number
        self.notes.made[number] = time.monotonic_ns()
        return self._buffer

    def expect_control(self) -> None:
        """Note that a control is being set now by the caller; from any thread."""
        with self._lock:
            self._waiting.append(time.monotonic_ns())

    def set_control(self, name: str, value: float) -> None:
        """Set a control of the generator, from any thread."""
        self.expect_control()
        self._generator.set_control(name, value)


class NotedFanOut(FanOut):
    """A fan-out that notes when each frame is handed to the sinks."""

    def __init__(self, sinks: Sequence[Sink], frames: NumberedFrames) -> None:
        super().__init__(sinks)
        self._frames = frames

    def put(self, picture: Picture, slot: int) -> None:
        """Note the moment, and give the frame to every sink."""
        self._frames.notes.left[self._frames.number] = (time.monotonic_ns(), slot)
        super().put(picture, slot)


class PipedSink(Sink):
    """The usual way: raw frames into an `ffmpeg` process, which encodes and publishes them.

    Args:
        url: RTMP.
    """

    def __init__(self, url: str) -> None:
        self.name = "ffmpeg"
        self._url = url
        self._process: subprocess.Popen[bytes] | None = None

    def open(self, feed: StreamFormat) -> None:
        """Start the process."""
        program = shutil.which("ffmpeg")
        if program is None:
            raise SinkError("ffmpeg is not installed")
        source = ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{feed.width}x{feed.height}", "-r", str(feed.fps)]
        encoder = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-g", str(_KEY_SECONDS * feed.fps)]
        command = [program, "-loglevel", "error", *source, "-i", "-", *encoder, "-f", "flv", self._url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def write(self, frame: Frame) -> bool:
        """Write a frame into the pipe."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(frame.picture.data)
            self._process.stdin.flush()
        except OSError as error:
            raise SinkError("ffmpeg has ended") from error
        return True

    def close(self) -> None:
        """Wait for the process to end."""
        if self._process is not None:
            try:
                self._process.communicate(timeout=5)
            except (OSError, ValueError, subprocess.TimeoutExpired):
                self._process.kill()
                self._process.communicate()


def play(
    frames: NumberedFrames,
    generator: Generator,
    sink: Sink,
    *,
    fps: Fraction,
    seconds: float,
    on_air: Callable[[], object],
) -> None:
    """Run a show to one sink, and set a control twice a second: through the page if the sink is one.

    Args:
        frames: what is shown.
        generator: that makes them; without controls, none is set.
        sink: opened and closed here.
        fps: slots per second.
        seconds: length of the show.
        on_air: called once the sink has started.

    Raises:
        SinkError: the sink cannot be opened.
    """
    clock = SystemClock()
    fan_out = NotedFanOut([sink], frames)
    pacer = Pacer(clock, fps)
    show = Show(fan_out, pacer, clock)
    desk = ShowController()
    desk.attach(generator, "")
    feed = StreamFormat("live", generator.width, generator.height, fps, "i420", show.latest, desk)
    stop = threading.Event()
    controls = ((name, item) for name, item in generator.manifest.controls.items() if item.index is not None)
    name, control = next(controls, ("", None))

    def steer() -> None:
        assert control is not None
        values = (control.default, (control.default + control.maximum) / 2)
        with _control_setter(sink, frames) as set_control:
            turn = 0
            while not stop.wait(0.537):  # not a multiple of the interval, so that all its parts are met
                turn += 1
                set_control(name, values[turn % 2])

    fan_out.open(feed)
    try:
        fan_out.wait_ready()
        on_air()
        if control is not None:
            threading.Thread(target=steer, daemon=True).start()
        show.run(frames, num_slots=int(seconds * fps))
    finally:
        stop.set()
        fan_out.close()
        desk.close()
    frames.notes.late, frames.notes.dropped = pacer.num_late, pacer.num_dropped


@contextmanager
def _control_setter(sink: Sink, frames: NumberedFrames) -> Iterator[Callable[[str, float], None]]:
    """Yield a function that sets a control: as a slider on the page if the sink is one, else on the generator."""
    if not sink.name.startswith("http://"):
        yield frames.set_control
        return
    from websockets.sync.client import connect

    with connect(f"{sink.name.replace('http://', 'ws://')}/api/live", compression=None) as socket:

        def set_control(name: str, value: float) -> None:
            frames.expect_control()
            socket.send(json.dumps({"id": 1, "do": "set", "name": name, "value": value}))
            while "id" not in json.loads(socket.recv()):
                pass

        yield set_control


def read_timeline(file: Path) -> dict[int, tuple[int, int, int]]:
    """Return slot -> (arrived at the encoder, encoded, sent), from the file that `streaming.live.timeline` wrote."""
    if not file.exists():
        return {}
    rows = [[int(word) for word in line.split()] for line in file.read_text().splitlines()]
    return {row[0]: (row[1], row[2], row[3]) for row in rows if len(row) == 4}
