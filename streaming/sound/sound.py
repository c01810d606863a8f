"""The sound of a show: one source, a gain, and readers for the sinks. Without a source a stream is silent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Protocol

import numpy as np

from runtime.bundle.controls import ControlSpec
from runtime.control_values import ControlValues
from streaming.output.pacing import Clock, SystemClock
from streaming.sound.levels import LevelFollower
from streaming.sound.reader import SoundReader
from streaming.sound.timeline import CHANNELS, RATE, Samples, SoundTimeline

INPUT = "input"  # the source that is part of the show's live input
SILENT_S = 1.0  # without a block, the source counts as silent
_QUIET_S = 0.3  # after so long without a block, levels fall
_AWAY_S = 5.0  # after so long a silence the sound is placed anew
_LATE = RATE // 10  # what comes later than this is shifted; streams wait for sound a little longer
_MARGIN = RATE // 20
_SPECS = (
    ControlSpec("sound.gain", "loudness of the sound", "times that of the source", 0.0, 4.0, 1.0, "step", 0),
    ControlSpec("sound.mute", "1 mutes the sound", "0 or 1", 0.0, 1.0, 0.0, "step", 1),
)


class SoundSource(Protocol):
    """What records or plays, on a thread of its own."""

    def begin(self, start_s: float) -> None:
        """Tell it when the show began, on the clock of its blocks."""
        ...

    def wait_ready(self) -> None:
        """Wait until it is open; raises ValueError if it cannot be opened."""
        ...

    def state(self) -> str:
        """Return an error, or "" if all is well."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class Sound:
    """The sound of one show. Everything may be called from any thread.

    Args:
        name: of the source, for people.
        delay_s: by which the sound comes later than it was recorded, to match the picture.
        clock: the show's.
        follower: measures levels.

    Attributes:
        name: as above.
    """

    def __init__(
        self, name: str, *, delay_s: float = 0.0, clock: Clock | None = None, follower: LevelFollower | None = None
    ) -> None:
        self.name = name
        self.timeline = SoundTimeline()
        self._delay = round(delay_s * RATE)
        self._clock = clock or SystemClock()
        self._follower = follower or LevelFollower()
        self._values = ControlValues(_SPECS)
        self._source: SoundSource | None = None
        self._start_s: float | None = None
        self._heard_s = -math.inf  # when the last block came
        self._shift = 0  # samples by which late sound is shifted
        self._seen, self._least = 0, math.inf  # samples of this second, and the least lateness of its blocks
        self._followed = self._quiet_until = 0  # positions up to which levels are known, and known to be silent

    def use(self, source: SoundSource) -> None:
        """Take a source of the show's own, which is closed with this object."""
        self._source = source
        if self._start_s is not None:
            source.begin(self._start_s)

    def wait_ready(self) -> None:
        """Wait until the show's own source is open; raises ValueError if it cannot be opened."""
        if self._source is not None:
            self._source.wait_ready()

    @property
    def has_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._start_s is not None

    def begin(self, start_s: float) -> None:
        """Set when the show's first frame was due, in seconds of the clock; sound before it is left out."""
        self._start_s = start_s
        if self._source is not None:
            self._source.begin(start_s)

    def write(self, samples: Samples, at_s: float) -> None:
        """Add a block.

        Args:
            samples: int16 (n, 2), 48 kHz.
            at_s: when its first sample was recorded or is to be heard, in seconds of the clock.
        """
        now_s = self._clock.now()
        if now_s - self._heard_s > _AWAY_S:  # it begins anew
            self._shift, self._seen, self._least = 0, 0, math.inf
        self._heard_s = now_s
        if self._start_s is not None:
            position = round((at_s - self._start_s) * RATE) + self._delay
            self._follow_lateness(len(samples), round((now_s - self._start_s) * RATE) - position - len(samples))
            self.timeline.write(samples, position + self._shift)

    def _follow_lateness(self, length: int, late: int) -> None:
        """Shift the sound if all of it comes too late for its place, e.g. through a slow network.

        Args:
            length: of a block in samples.
            late: by how many samples it came after its end was to be heard.
        """
        self._least, self._seen = min(self._least, late - self._shift), self._seen + length
        if self._seen >= RATE:
            if self._least > _LATE:
                self._shift += round(self._least) + _MARGIN
            self._seen, self._least = 0, math.inf

    def follow(self) -> None:
        """Measure the levels of what is heard now; called by the show before each frame."""
        if self._start_s is None:
            return
        now = min(round((self._clock.now() - self._start_s) * RATE), self.timeline.end)
        if now > self._followed:
            self._follower.feed(self.timeline.read(max(self._followed, now - RATE), now))
            self._followed = self._quiet_until = now
        elif self._clock.now() - self._heard_s > _QUIET_S:
            late = round((self._clock.now() - self._start_s) * RATE)
            self._follower.feed(np.zeros((min(RATE, max(0, late - self._quiet_until)), CHANNELS), np.int16))
            self._quiet_until = late

    def levels(self) -> Mapping[str, float]:
        """Return the latest levels: level, bass, middle, high and onset, each 0 to 1."""
        return self._follower.values()

    def reader(self, fps: Fraction, *, ahead_s: float = 0.0) -> SoundReader:
        """Return a reader for one stream; arguments as `SoundReader` has them."""
        return SoundReader(self.timeline, fps, self._gain, ahead_s=ahead_s)

    @property
    def control_specs(self) -> tuple[ControlSpec, ...]:
        """The controls."""
        return _SPECS

    @property
    def controls(self) -> dict[str, float]:
        """A copy of the controls' values."""
        return self._values.copy()

    def check_control(self, name: str, value: float) -> None:
        """Raise ValueError unless there is such a control and the value is in its range."""
        self._values.check(name, value)

    def set_control(self, name: str, value: float) -> None:
        """Set a control; it is heard from the next block on.

        Raises:
            ValueError: see `check_control`.
        """
        self._values.set(name, value)

    def to_json(self) -> dict[str, Any]:
        """Return the source's status and the levels."""
        error = "" if self._source is None else self._source.state()
        is_up = self._is_heard()
        state = "on" if is_up else error or "no sound arrives: the stream is silent"
        levels = {name: round(value, 3) for name, value in self.levels().items()}
        return {"name": self.name, "state": state, "is_up": is_up, "levels": levels}

    def close(self) -> None:
        """End the source."""
        if self._source is not None:
            self._source.close()

    def _is_heard(self) -> bool:
        return self._clock.now() - self._heard_s < SILENT_S

    def _gain(self) -> float:
        values = self._values.copy()
        return 0.0 if values["sound.mute"] >= 0.5 else values["sound.gain"]
