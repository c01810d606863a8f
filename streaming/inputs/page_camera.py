"""The camera and the microphone of whoever opens the page, as a live input: `--input page`.

A child process, `streaming.inputs.page_camera_child`, receives and decodes. Nobody has to be there: the show goes on,
and the input has no picture yet.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import threading
from concurrent.futures import Future
from typing import Any

import numpy as np

from streaming.inputs.live_input import LiveInput, Rgb
from streaming.output.pacing import Clock
from streaming.process.child import ChildProcess, Data
from streaming.sound.timeline import OnSound, to_samples

PAGE = "page"  # the value of --input
MAX_OFFERS = 4  # devices that are about to be the camera
_NICENESS = 5  # the show has priority, but shows this
_SEND_S = 2.0  # for the child to take one message
_ANSWER_S = 25.0  # a new child needs a second of CPU time first, at low priority


class LatestFrame:
    """An `InputReader` that holds one frame until it is read; a newer one replaces it."""

    def __init__(self) -> None:
        self._frame: Rgb | None = None
        self._news = threading.Condition()

    def put(self, frame: Rgb) -> None:
        """Hold a frame; it must not change afterwards."""
        with self._news:
            self._frame = frame
            self._news.notify_all()

    def read(self, timeout_s: float) -> Rgb | None:
        """Return the frame, None if there is none in time."""
        with self._news:
            self._news.wait_for(lambda: self._frame is not None, timeout_s)
            frame, self._frame = self._frame, None
            return frame

    def close(self) -> None:
        """Do nothing: the next camera's frames come here, too."""


class PageCamera(LiveInput):
    """The camera of one page at a time.

    Args:
        width: of a frame in pixels.
        height: of a frame in pixels.
        stand_in: as for `LiveInput`.
        on_sound: called with int16 (n, 2) samples of 48 kHz, and with the `time.monotonic` of the first of them, on a
            thread of its own; None discards the sound.
        clock: as for `LiveInput`.
        frames: holds what has arrived; None for a new one.

    Attributes:
        on_sound: as above; may be set later.

    Raises:
        ValueError: aiortc is not installed.
    """

    def __init__(
        self,
        width: int,
        height: int,
        *,
        stand_in: Rgb | None = None,
        on_sound: OnSound | None = None,
        clock: Clock | None = None,
        frames: LatestFrame | None = None,
    ) -> None:
        if importlib.util.find_spec("aiortc") is None:
            raise ValueError("--input page needs aiortc: pip install everframe[webrtc]")
        self.on_sound = on_sound
        self._latest = latest = frames or LatestFrame()
        self._shape = height, width, 3
        self._lock = threading.Lock()
        self._child: ChildProcess | None = None
        self._listener: threading.Thread | None = None
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._num_offers = 0
        self._camera = 0  # the number of the offer that is connected
        self._is_closed = False
        with contextlib.suppress(OSError):  # an offer tries again
            self._start()
        super().__init__(PAGE, width, height, stand_in=stand_in, dial=lambda *_: latest, clock=clock, stall_s=math.inf)

    def answer(self, offer: str, *, is_local: bool) -> tuple[int, str]:
        """Answer a browser's offer; once connected it is the camera, and the one before is disconnected.

        Args:
            offer: SDP with all its candidates; video, and at most one sound.
            is_local: whether the browser is on this machine.

        Returns:
            The number of the offer, which `to_json` has as "camera" while it is connected; and SDP.

        Raises:
            ValueError: it cannot be answered.
            OSError: the child does not answer in time, or has ended.
        """
        answer: Future[dict[str, Any]] = Future()
        with self._lock:
            self._num_offers += 1
            number = self._num_offers
            self._answers[number] = answer
        try:
            child = self._start()
            child.send({"id": number, "sdp": offer, "is_local": is_local}, timeout_s=_SEND_S)
            reply = answer.result(_ANSWER_S)
        except TimeoutError:
            child.kill()  # it hangs; the next offer starts another one
            raise
        finally:
            with self._lock:
                del self._answers[number]
        if "error" in reply:
            raise ValueError(reply["error"])
        return number, str(reply["sdp"])

    def to_json(self) -> dict[str, Any]:
        """Return the input's status; "camera" is the number of the offer that is connected, 0 for none."""
        status = super().to_json()
        if not status["frames"]:
            status["state"] = "no camera yet"
        return {**status, "kind": PAGE, "camera": self._camera}

    def close(self) -> None:
        """End the child and the threads."""
        with self._lock:
            self._is_closed = True
            child, listener = self._child, self._listener
        if child is not None and listener is not None:
            child.close()
            listener.join()
        super().close()

    def _start(self) -> ChildProcess:
        """Return the child, which is started if there is none; raises OSError."""
        with self._lock:
            if self._is_closed:
                raise ConnectionAbortedError("the show has ended")
            if self._child is None or self._child.has_ended():
                height, width, _ = self._shape
                threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "1")  # each needs memory
                self._child = child = ChildProcess(
                    "streaming.inputs.page_camera_child",
                    {"width": width, "height": height},
                    environment=threads,
                    niceness=_NICENESS,
                    is_quiet=True,
                )
                self._listener = threading.Thread(target=self._listen, args=(child,), name="page camera", daemon=True)
                self._listener.start()
            return self._child

    def _listen(self, child: ChildProcess) -> None:
        """Use the child's messages until it ends; runs on its own thread."""
        with contextlib.suppress(OSError):
            while (message := child.receive()) is not None:
                self._hear(*message)
        child.close()
        with self._lock:
            if child is self._child:
                self._camera = 0
                for answer in self._answers.values():
                    if not answer.done():
                        answer.set_exception(ConnectionAbortedError("the process has ended"))

    def _hear(self, fields: dict[str, Any], data: Data) -> None:
        if "frame" in fields:
            self._latest.put(np.frombuffer(data, np.uint8).reshape(self._shape))
        elif "sound" in fields:
            if self.on_sound is not None:
                self.on_sound(to_samples(data), fields["at"])
        elif "camera" in fields:
            self._camera = fields["camera"]
        elif (answer := self._answers.get(fields["id"])) is not None:
            answer.set_result(fields)
