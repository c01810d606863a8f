"""A live input of the show: its latest frame, even while the camera or the network fails.

Frames arrive: the latest one is used. None for 1 s: the last one stays. None for 5 s: the stand-in is used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.masking import mask
from streaming.output.pacing import Clock, SystemClock
from streaming.process.child import ChildProcess
from streaming.sound.timeline import OnSound, to_samples

Rgb = npt.NDArray[np.uint8]
FROZEN_S, LOST_S = 1.0, 5.0  # without a frame, the input counts as frozen, then as lost
STALL_S = 6.0  # without a frame, the reader is replaced
OPEN_S = 20.0  # for a reader's first frame, on a busy machine
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 2.0


class InputReader(Protocol):
    """Reads an input, e.g. a `ChildInputReader`."""

    def read(self, timeout_s: float) -> Rgb | None:
        """Return the next frame, None if there is none in time; raises OSError with the reason once it has ended."""

    def close(self) -> None:
        """End the reader at once."""


class ChildInputReader:
    """A child process that reads an input; see `streaming.inputs.live_input_child`.

    Args:
        spec: the input.
        width: of a frame in pixels.
        height: of a frame in pixels.
        on_sound: called with samples and their time, by the thread that reads; None leaves the sound out.
        fit: how pictures of another shape fit the frame, one of `runtime.prompts.images.FITS`.
    """

    def __init__(
        self, spec: str, width: int, height: int, on_sound: OnSound | None = None, *, fit: str = "cover"
    ) -> None:
        self._shape, self._on_sound = (height, width, 3), on_sound
        config = {
            "spec": spec,
            "width": width,
            "height": height,
            "fit": fit,
            "with_sound": on_sound is not None,
        }
        self._child = ChildProcess("streaming.inputs.live_input_child", config, is_quiet=True)

    def read(self, timeout_s: float) -> Rgb | None:
        """Return the next frame, None if there is none in time; raises OSError with the reason once it has ended."""
        ends_s = time.monotonic() + timeout_s  # sound alone does not make it wait longer
        while (message := self._child.receive(max(0.0, ends_s - time.monotonic()))) is not None:
            fields, data = message
            if "error" in fields:
                raise ConnectionError(fields["error"])
            if "at" not in fields:
                return np.frombuffer(data, np.uint8).reshape(self._shape)
            if self._on_sound is not None:
                self._on_sound(to_samples(data), fields["at"])
            if time.monotonic() >= ends_s:
                break
        return None

    def close(self) -> None:
        """End the child at once."""
        self._child.close()


class LiveInput:
    """An input, read on its own thread until `close`.

    Args:
        spec: "testcard", "webcam", "webcam:DEVICE", or an address or a path that FFmpeg can open.
        width: of a frame in pixels.
        height: of a frame in pixels.
        stand_in: uint8 (height, width, 3) RGB, used while the input is lost; None for black.
        on_sound: called with the input's sound and its time, by the input's thread; None leaves the sound out.
        dial: makes a reader.
        clock: measures how old the latest frame is.
        wait: waits for some seconds and returns whether the input is closed; None waits for `close`.
        stall_s: without a frame for so long, the reader is replaced.

    Attributes:
        name: the input without secrets.
        on_frame: called without arguments by the input's thread when there is a new frame.
    """

    def __init__(
        self,
        spec: str,
        width: int,
        height: int,
        *,
        stand_in: Rgb | None = None,
        on_sound: OnSound | None = None,
        dial: Callable[[str, int, int], InputReader] | None = None,
        clock: Clock | None = None,
        wait: Callable[[float], bool] | None = None,
        stall_s: float = STALL_S,
    ) -> None:
        self.name = mask(spec) if "://" in spec else spec
        self.on_frame: Callable[[], object] = lambda: None
        self._spec, self._size, self._stall_s = spec, (width, height), stall_s
        self._dial = dial or partial(ChildInputReader, on_sound=on_sound)
        self._stand_in: Rgb = np.zeros((height, width, 3), np.uint8) if stand_in is None else stand_in
        self._clock = clock or SystemClock()
        self._news = threading.Condition()
        self._frame: Rgb | None = None
        self._frame_s = 0.0
        self._num_frames = 0
        self._error = ""
        self._ending = threading.Event()
        self._wait = wait or self._ending.wait
        self._thread = threading.Thread(target=self._run, name=f"input {self.name}", daemon=True)
        self._thread.start()

    @property
    def num_frames(self) -> int:
        """The number of frames received."""
        return self._num_frames

    def frame(self) -> Rgb:
        """Return the latest frame, or the stand-in while the input is lost."""
        latest = self._frame
        return self._stand_in if latest is None or self._age_s() >= LOST_S else latest

    @property
    def is_lost(self) -> bool:
        """Whether no frame has arrived for 5 s, or none ever."""
        return self._frame is None or self._age_s() >= LOST_S

    def picture(self) -> Rgb:
        """Return the latest frame.

        Raises:
            ValueError: the input is lost, or no frame has arrived yet.
        """
        if self._frame is None or self._age_s() >= LOST_S:
            raise ValueError(f"the input {self.name} has no picture: {self._error or 'no frame has arrived yet'}")
        return self._frame

    def wait_picture(self, timeout_s: float) -> Rgb:
        """Wait for the first frame and return it.

        Raises:
            ValueError: none has arrived within `timeout_s` seconds, or the first attempt has failed.
        """
        with self._news:
            self._news.wait_for(lambda: self._frame is not None or self._error, timeout_s)
        return self.picture()

    def to_json(self) -> dict[str, Any]:
        """Return the input's status."""
        age_s = self._age_s()
        if self._frame is None:
            state = self._error or "opening"
        elif age_s < FROZEN_S:
            state = "on"
        else:
            state = f"{'lost' if age_s >= LOST_S else 'frozen'} for {age_s:.0f} s"
            state += f" ({self._error})" if self._error else ""
        is_up = self._frame is not None and age_s < FROZEN_S
        return {"name": self.name, "state": state, "is_up": is_up, "frames": self._num_frames}

    def close(self) -> None:
        """End the reader and the thread."""
        self._ending.set()
        self._thread.join()

    def _age_s(self) -> float:
        return self._clock.now() - self._frame_s

    def _note(self, error: str) -> None:
        with self._news:
            self._error = error
            self._news.notify_all()

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while True:
            before = self._num_frames
            self._read_to_the_end()
            if self._num_frames > before:
                wait_s = FIRST_WAIT_S
            if self._ending.is_set() or self._wait(wait_s):
                return
            wait_s = min(LONGEST_WAIT_S, 2 * wait_s)

    def _read_to_the_end(self) -> None:
        """Read with one reader until it ends or stalls, or the input is closed."""
        try:
            reader = self._dial(self._spec, *self._size)
        except OSError as error:
            self._note(error.strerror or str(error))
            return
        try:
            since_s, has_frames = self._clock.now(), False
            while not self._ending.is_set():
                frame = reader.read(FROZEN_S / 4)
                now_s = self._clock.now()
                if frame is not None:
                    since_s, has_frames = now_s, True
                    with self._news:
                        self._frame, self._frame_s = frame, now_s
                        self._num_frames += 1
                        self._error = ""
                        self._news.notify_all()
                    self.on_frame()
                elif now_s - since_s >= (self._stall_s if has_frames else max(self._stall_s, OPEN_S)):
                    self._note("no frames arrive")
                    return
        except OSError as error:
            self._note(str(error).replace(self._spec, self.name))
        finally:
            reader.close()
