"""Paints pictures in a child process of low priority: seconds to minutes on a CPU, while the show goes on.

The bundle is opened for the first picture. If the child ends, e.g. for lack of memory, the next picture starts another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtime import EngineError
from runtime.bundle.controls import ControlSpec
from runtime.bundle.manifest import Manifest
from runtime.noise import check_seed
from runtime.painting import kinds_painted
from runtime.prompts.tokenizer import check_text
from streaming.control.cues import MAX_SEED
from streaming.process.child import ChildProcess
from streaming.sinks.sink import Picture

FAMILY = "painter."  # the names of its controls begin with it
EVERY = f"{FAMILY}every"
MAX_EVERY_S = 3600
_NICENESS = 10
_OTHERS = ("image", "clip", "past", "scene")  # parts of a prompt for which nothing is painted
_LIMIT_S = 1800.0  # for one frame, or for opening the bundle
_LOST = "its process ended, perhaps for lack of memory"
_CLOSED = "the show has ended"
_SHOWN = 60  # characters of a text in messages


class Painted(NamedTuple):
    """A picture.

    Args:
        picture: uint8 (H, W, 3) RGB of the bundle's size.
        took_s: seconds that it took, without waiting for the picture before it.
        note: what of its text was not read; "" for nothing.
    """

    picture: Picture
    took_s: float
    note: str = ""


class Painter:
    """Paints one picture after the other; thread-safe. Has controls, as `ControlHolder`.

    Args:
        bundle: folder of the bundle.
        manifest: of the bundle.
        engine: as of `Generator.open`.
        threads: of the child.
        idle_s: for so many seconds of each picture the child hardly gets anything while other programs use all cores,
            then a small share; None for no lower priority of its session. See `LowPriority`.
        seed: of pictures without a seed of their own; None for the bundle's default.
        every_s: the first value of the control `painter.every`.
        limit_s: the process is ended if one frame, or opening the bundle, takes so many seconds.
        clock: returns seconds.

    Attributes:
        name: of the bundle.
        takes: "text", "seed" or both.
        last_s: seconds that the last picture took; None before the first one.

    Raises:
        ValueError: the bundle cannot paint.
    """

    def __init__(
        self,
        bundle: Path,
        manifest: Manifest,
        *,
        engine: str = "auto",
        threads: int = 1,
        seed: int | None = None,
        every_s: float = 0.0,
        idle_s: float | None = 20.0,
        limit_s: float = _LIMIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.takes = kinds_painted(manifest)
        self.name, self.seed = manifest.name, manifest.default_seed if seed is None else seed
        self.last_s: float | None = None
        self._config = {"bundle": str(bundle), "engine": engine, "threads": threads, "idle_s": idle_s}
        self._environment = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), str(threads))
        own = [spec for spec in manifest.controls.values() if spec.target == "step"]
        about = "how long a painted picture is shown until one of the next seed follows; 0: until another prompt"
        every = ControlSpec(EVERY, about, "seconds", 0.0, float(MAX_EVERY_S), every_s, "step", None)
        first = [every] if "seed" in self.takes else []  # else pictures of a text are all the same
        self._specs = {spec.name: spec for spec in (*first, *(replace(one, name=FAMILY + one.name) for one in own))}
        self._values = {name: spec.default for name, spec in self._specs.items()}
        self._clock, self._limit_s = clock, limit_s
        self._turn = threading.Lock()  # of the picture that is being painted
        self._lock = threading.Lock()  # of what follows
        self._child: ChildProcess | None = None
        self._is_closed = False
        self._label, self._began_s, self._frames = "", 0.0, 0
        self._painted = self._failed = self._num_waiting = 0
        self._error = ""

    @property
    def controls(self) -> dict[str, float]:
        """A copy of the controls' values."""
        with self._lock:
            return dict(self._values)

    @property
    def control_specs(self) -> Sequence[ControlSpec]:
        """The controls: `painter.every` if it takes a seed, then those of the bundle."""
        return tuple(self._specs.values())

    @property
    def is_closed(self) -> bool:
        """Whether the show has ended."""
        return self._is_closed

    @property
    def num_waiting(self) -> int:
        """How many pictures are being painted, or wait for that."""
        return self._num_waiting

    def check_control(self, name: str, value: float) -> None:
        """Raise ValueError unless there is such a control and the value is in its range."""
        if name not in self._specs:
            raise ValueError(f'{self.name} has no control "{name}"; it has {", ".join(self._specs)}')
        spec = self._specs[name]
        if not spec.minimum <= value <= spec.maximum:
            raise ValueError(f"{name} must be from {spec.minimum} to {spec.maximum}, got {value}")

    def set_control(self, name: str, value: float) -> None:
        """Set a control from the next picture on; raises ValueError as `check_control` does."""
        self.check_control(name, value)
        with self._lock:
            self._values[name] = float(value)

    def paints(self, parts: Mapping[str, Any]) -> bool:
        """Return whether the picture of a prompt is painted: it has a text or a seed, and no picture of its own."""
        given = {name for name, value in parts.items() if value is not None}
        return bool(given & {"text", "seed"}) and not given & set(_OTHERS)

    def check(self, parts: Mapping[str, Any]) -> None:
        """Raise ValueError if a prompt that is painted has a bad value, or one that the bundle does not take."""
        for kind in ("text", "seed"):
            if parts.get(kind) is not None and kind not in self.takes:
                raise ValueError(f"{self.name} takes no {kind}: give a {self.takes[0]}")
        if (text := parts.get("text")) is not None:
            check_text(text)
        if (seed := parts.get("seed")) is not None:
            check_seed(seed)

    def words(self, parts: Mapping[str, Any], *, following: int = 0) -> dict[str, Any]:
        """Return the text and the seed of a picture, the default seed where a prompt has none.

        Args:
            parts: of the prompt.
            following: how many seeds later.
        """
        seed = parts.get("seed")
        used = ((self.seed if seed is None else seed) + following) % (MAX_SEED + 1)
        text = {} if parts.get("text") is None else {"text": parts["text"]}
        return {**text, "seed": used} if "seed" in self.takes else text

    def paint(self, words: Mapping[str, Any], is_wanted: Callable[[], bool] = lambda: True) -> Painted | None:
        """Paint a picture; blocks for seconds to minutes, and waits for the picture before it.

        Args:
            words: as `words` returns them.
            is_wanted: called before the picture is begun and between its frames; may be called by any thread.

        Returns:
            The picture; None if it is not wanted any more.

        Raises:
            EngineError: the bundle cannot be opened, the engine failed, or its process ended; or the show has ended.
        """
        with self._lock:
            self._num_waiting += 1
        try:
            with self._turn:
                return self._paint(words, is_wanted) if is_wanted() else None
        finally:
            with self._lock:
                self._num_waiting -= 1

    def describe(self, words: Mapping[str, Any]) -> str:
        """Return the words of a picture for people: the text in quotation marks, else the seed."""
        text = words.get("text")
        if text is None:
            return f"seed {words.get('seed', self.seed)}"
        return f'"{text}"' if len(text) <= _SHOWN else f'"{text[: _SHOWN - 3]}..."'

    def to_json(self) -> dict[str, Any]:
        """Return what the page, `/stats` and the metrics show."""
        with self._lock:
            is_painting = self._label != ""
            return {
                "name": self.name,
                "takes": list(self.takes),
                "painting": self._label,
                "seconds": round(self._clock() - self._began_s, 1) if is_painting else 0.0,
                "frames": self._frames if is_painting else 0,
                "last_s": None if self.last_s is None else round(self.last_s, 1),
                "painted": self._painted,
                "failed": self._failed,
                "error": self._error,
            }

    def close(self) -> None:
        """End the child; whoever waits for a picture gets an EngineError."""
        with self._lock:
            self._is_closed = True
            child = self._child
        if child is not None:
            child.kill()  # who waits for it closes it, too
            with self._turn:
                self._end_child()

    def _paint(self, words: Mapping[str, Any], is_wanted: Callable[[], bool]) -> Painted | None:
        with self._lock:
            if self._is_closed:
                raise EngineError(_CLOSED)
            self._label, self._began_s, self._frames = self.describe(words), self._clock(), 0
            controls = {name.removeprefix(FAMILY): value for name, value in self._values.items() if name != EVERY}
        try:
            made = self._ask({**words, "controls": controls}, is_wanted)
        except EngineError as error:
            sentence = f"{self.name} could not paint {self.describe(words)}: {error}"
            with self._lock:
                if self._is_closed:
                    raise EngineError(_CLOSED) from error
                self._failed, self._error = self._failed + 1, sentence
            raise EngineError(sentence) from error
        else:
            if made is None:
                return None
            took_s = self._clock() - self._began_s
            with self._lock:
                self._painted, self._error, self.last_s = self._painted + 1, "", took_s
            return Painted(made[0], took_s, made[1])
        finally:
            with self._lock:
                self._label = ""

    def _ask(self, job: Mapping[str, Any], is_wanted: Callable[[], bool]) -> tuple[Picture, str] | None:
        """Send a picture's words to the child and take its frames, until one is complete; return it and its note."""
        try:
            child = self._open_child()
            child.send({"paint": job})
            while True:
                fields, pixels = self._answer(child)
                shape = int(fields["height"]), int(fields["width"]), 3
                with self._lock:
                    self._frames = int(fields["frame"])
                if fields["is_complete"]:
                    return np.frombuffer(pixels, np.uint8).reshape(shape), str(fields["note"])
                if not is_wanted():
                    return None
                child.send({"go_on": True})
        except (OSError, KeyError, ValueError) as error:  # the process has ended, or says what it never should
            self._end_child()
            raise EngineError(_LOST) from error

    def _open_child(self) -> ChildProcess:
        if self._child is not None:
            return self._child
        child = ChildProcess(
            "streaming.painting.painter_child", self._config, environment=self._environment, niceness=_NICENESS
        )
        with self._lock:
            self._child, is_closed = child, self._is_closed
        if is_closed:
            child.kill()
        try:
            self._answer(child)
        except EngineError:
            self._end_child()
            raise
        return child

    def _answer(self, child: ChildProcess) -> tuple[dict[str, Any], Any]:
        """Return the child's next message; raises EngineError for an error, ConnectionError if it has ended."""
        message = child.receive(self._limit_s)
        if message is None:
            self._end_child()
            raise EngineError(f"its process made no frame in {self._limit_s:g} s and was ended")
        if "error" in message[0]:
            raise EngineError(str(message[0]["error"]))
        return message

    def _end_child(self) -> None:
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            with suppress(OSError):
                child.close()
