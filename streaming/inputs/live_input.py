"""A live input beside the show: its latest frame, whatever becomes of the camera or the network.

frames come -> the latest one; none for a while -> it stands still; none for long -> the stand-in; back -> the latest
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from streaming.masking import mask
from streaming.output.pacing import Clock, SystemClock
from streaming.process.children import command, environment

Rgb = npt.NDArray[np.uint8]
FROZEN_S, LOST_S = 1.0, 5.0  # without a frame: it is called frozen, and then lost
STALL_S = 6.0  # without a frame a reader is given up, and another one begins
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 2.0


class InputReader(Protocol):
    """What reads an input; `ChildInputReader` is one."""

    def read(self, timeout_s: float) -> Rgb | None:
        """Return the next frame, None if there is none in time; raises OSError with the reason once it has ended."""

    def close(self) -> None:
        """End it, at once."""


class ChildInputReader:
    """A child process that reads an input; see `streaming.inputs.live_input_child`.

    Args:
        spec: the input.
        width: of a frame in pixels.
        height: of a frame in pixels.
    """

    def __init__(self, spec: str, width: int, height: int) -> None:
        self._shape = height, width, 3
        self._part = bytearray()
        self._process = subprocess.Popen(
            command("streaming.inputs.live_input_child"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
            start_new_session=True,  # Ctrl-C is for the show
        )
        assert self._process.stdin is not None
        with self._process.stdin as inlet, contextlib.suppress(BrokenPipeError):
            inlet.write(json.dumps({"spec": spec, "width": width, "height": height}).encode() + b"\n")

    def read(self, timeout_s: float) -> Rgb | None:
        """Return the next frame, None if there is none in time; raises OSError with the reason once it has ended."""
        outlet, size = self._process.stdout, int(np.prod(self._shape))
        assert outlet is not None
        while len(self._part) < size:
            if not select.select([outlet], [], [], timeout_s)[0]:
                return None
            if not (data := os.read(outlet.fileno(), size - len(self._part))):
                assert self._process.stderr is not None
                lines = self._process.stderr.read().decode(errors="replace").strip().splitlines()
                raise ConnectionError(lines[-1] if lines else "its reader has ended")
            self._part += data
        frame = np.frombuffer(bytes(self._part), np.uint8).reshape(self._shape)
        self._part.clear()
        return frame

    def close(self) -> None:
        """End it, at once."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


class LiveInput:
    """An input that is read on a thread of its own from now on.

    Args:
        spec: "testcard", "webcam", "webcam:DEVICE", or the address or path of something that FFmpeg opens.
        width: of a frame in pixels.
        height: of a frame in pixels.
        stand_in: (height, width, 3) RGB, given while the input is lost; None for black.
        dial: makes a reader.
        clock: measures how old the latest frame is.
        wait: waits for some seconds and returns whether the input is closed; None for the real thing.

    Attributes:
        name: for people, without what may be secret.
    """

    def __init__(
        self,
        spec: str,
        width: int,
        height: int,
        *,
        stand_in: Rgb | None = None,
        dial: Callable[[str, int, int], InputReader] = ChildInputReader,
        clock: Clock | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.name = mask(spec) if "://" in spec else spec
        self._spec, self._size, self._dial = spec, (width, height), dial
        self._stand_in: Rgb = np.zeros((height, width, 3), np.uint8) if stand_in is None else stand_in
        self._clock = clock or SystemClock()
        self._news = threading.Condition()
        self._frame: Rgb | None = None
        self._frame_s = 0.0
        self._num_frames = 0
        self._trouble = ""
        self._ending = threading.Event()
        self._wait = wait or self._ending.wait
        self._thread = threading.Thread(target=self._run, name=f"input {self.name}", daemon=True)
        self._thread.start()

    @property
    def num_frames(self) -> int:
        """How many frames have come."""
        return self._num_frames

    def frame(self) -> Rgb:
        """Return the latest frame, or the stand-in while the input is lost."""
        latest = self._frame
        return self._stand_in if latest is None or self._age_s() >= LOST_S else latest

    def picture(self) -> Rgb:
        """Return what the input shows now.

        Raises:
            ValueError: it shows nothing.
        """
        if self._frame is None or self._age_s() >= LOST_S:
            raise ValueError(f"the input {self.name} shows nothing: {self._trouble or 'no frame has come yet'}")
        return self._frame

    def wait_picture(self, timeout_s: float) -> Rgb:
        """Return the first frame as soon as it is there.

        Raises:
            ValueError: none has come within `timeout_s` seconds, or the first attempt has failed.
        """
        with self._news:
            self._news.wait_for(lambda: self._frame is not None or self._trouble, timeout_s)
        return self.picture()

    def to_json(self) -> dict[str, Any]:
        """Return how it is doing."""
        age_s = self._age_s()
        if self._frame is None:
            state = self._trouble or "opening"
        elif age_s < FROZEN_S:
            state = "on"
        else:
            state = f"{'lost' if age_s >= LOST_S else 'stands still'} for {age_s:.0f} s"
            state += f" ({self._trouble})" if self._trouble else ""
        is_up = self._frame is not None and age_s < FROZEN_S
        return {"name": self.name, "state": state, "is_up": is_up, "frames": self._num_frames}

    def close(self) -> None:
        """End the reader and the thread."""
        self._ending.set()
        self._thread.join()

    def _age_s(self) -> float:
        return self._clock.now() - self._frame_s

    def _note(self, trouble: str) -> None:
        with self._news:
            self._trouble = trouble
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
        """Read with one reader until that has ended, stalls, or is not wanted any more."""
        try:
            reader = self._dial(self._spec, *self._size)
        except OSError as error:
            self._note(error.strerror or str(error))
            return
        try:
            since_s = self._clock.now()
            while not self._ending.is_set():
                frame = reader.read(FROZEN_S / 4)
                now_s = self._clock.now()
                if frame is not None:
                    since_s = now_s
                    with self._news:
                        self._frame, self._frame_s = frame, now_s
                        self._num_frames += 1
                        self._trouble = ""
                        self._news.notify_all()
                elif now_s - since_s >= STALL_S:
                    self._note("no frame comes")
                    return
        except OSError as error:
            self._note(str(error).replace(self._spec, self.name))
        finally:
            reader.close()
