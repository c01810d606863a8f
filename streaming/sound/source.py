"""A microphone, a file or an address as the show's sound, read by a child process that is replaced when it fails."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Protocol

from runtime.masking import mask
from streaming.process.child import ChildProcess, Message
from streaming.sound.timeline import OnSound, to_samples

READY = "ready"
_OPEN_S = 15.0  # for the child to load and to open the source
_POLL_S = 0.25
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.25, 2.0


class SoundProcess(Protocol):
    """The child, e.g. a `ChildProcess` of `streaming.sound.source_child`."""

    def send(self, fields: dict[str, float]) -> None:
        """Send a message; raises OSError if the child has ended."""

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """Return the next message, None if there is none in time; raises OSError once it has ended."""

    def close(self) -> None:
        """End the child at once."""


class SoundSourceThread:
    """A source, read on its own thread until `close`.

    Args:
        spec: "mic", "mic:DEVICE", or a path or an address that FFmpeg can open.
        on_sound: called with samples and their time, by that thread.
        dial: makes the child.
        wait: waits for some seconds and returns whether the source is closed; None waits for `close`.

    Attributes:
        name: the source without secrets.
    """

    def __init__(
        self,
        spec: str,
        on_sound: OnSound,
        *,
        dial: Callable[[str], SoundProcess] | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> None:
        self.name = mask(spec) if "://" in spec else spec
        self._spec, self._on_sound, self._dial = spec, on_sound, dial or _start_child
        self._news = threading.Condition()
        self._is_ready = False
        self._error = ""
        self._start_s: float | None = None
        self._child: SoundProcess | None = None
        self._ending = threading.Event()
        self._wait = wait or self._ending.wait
        self._thread = threading.Thread(target=self._run, name=f"sound {self.name}", daemon=True)
        self._thread.start()

    def wait_ready(self) -> None:
        """Wait until the source is open.

        Raises:
            ValueError: it cannot be opened.
        """
        with self._news:
            self._news.wait_for(lambda: self._is_ready or self._error, _OPEN_S)
            if not self._is_ready:
                why = self._error or "it does not answer"
                raise ValueError(f"the sound {self.name} cannot be opened: {why}; choose another, or leave --sound out")

    def begin(self, start_s: float) -> None:
        """Tell the child when the show began; a file begins to play then."""
        with self._news:
            self._start_s = start_s
            if self._is_ready:
                self._send_start()

    def state(self) -> str:
        """Return the latest error, or ""."""
        return self._error

    def close(self) -> None:
        """End the child and the thread."""
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            has_played = self._read_to_the_end()
            wait_s = _FIRST_WAIT_S if has_played else min(_LONGEST_WAIT_S, 2 * wait_s)
            if self._ending.is_set() or self._wait(wait_s):
                return

    def _read_to_the_end(self) -> bool:
        """Read with one child until it ends or the source is closed; return whether there was sound."""
        has_played = False
        try:
            self._child = child = self._dial(self._spec)
        except OSError as error:
            self._note(error.strerror or str(error))
            return False
        try:
            while not self._ending.is_set():
                if (message := child.receive(_POLL_S)) is None:
                    continue
                fields, data = message
                if "error" in fields:
                    self._note(str(fields["error"]).replace(self._spec, self.name))
                elif fields.get("state") == READY:
                    self._note_ready()
                else:
                    has_played = True
                    self._on_sound(to_samples(data), fields["at"])
        except OSError:
            if not self._error:
                self._note("the process that reads it has ended")
        finally:
            with self._news:
                self._is_ready = False
            child.close()
        return has_played

    def _note(self, error: str) -> None:
        with self._news:
            self._error = error
            self._news.notify_all()

    def _note_ready(self) -> None:
        with self._news:
            self._is_ready, self._error = True, ""
            if self._start_s is not None:
                self._send_start()
            self._news.notify_all()

    def _send_start(self) -> None:
        """Needs the lock."""
        assert self._child is not None, "the source is not open"
        assert self._start_s is not None, "the show has not begun"
        with contextlib.suppress(OSError):  # the reading thread sees that the child has ended
            self._child.send({"start": self._start_s})


def _start_child(spec: str) -> SoundProcess:
    child: SoundProcess = ChildProcess("streaming.sound.source_child", {"spec": spec}, is_quiet=True)
    return child
