"""How loud a sound is, by bands, and when something is struck: values that controls can follow.

A block is 10 ms. Each value is the power of a band in dB, on a scale of 30 dB that ends at the loudest recent block:
the scale moves up at once and down by 3 dB in a second, so that quiet and loud music both use the whole range.
"""

from __future__ import annotations

from collections import deque
from math import exp, log10
from typing import Any

import numpy as np
import numpy.typing as npt

RATE = 48_000  # samples per second
BLOCK = 480  # samples: 10 ms
BANDS = {"bass": (0, 2), "middle": (2, 5), "high": (5, 9)}  # of `_FIRST_BINS`: below 250 Hz, up to 2000 Hz, above
NAMES = ("level", *BANDS, "onset")

_WINDOW = 1024  # samples: bins of 46.9 Hz
_FIRST_BINS = np.array([1, 3, 6, 12, 24, 43, 86, 171, 342])  # of nine narrow bands
_TAPER = np.blackman(_WINDOW).astype(np.float32)  # a tone is below -55 dB four bins away, so that bands stay apart
# A full-scale sine on both channels has the power 1.
_TO_POWER = 4 / (2 * _WINDOW * float((_TAPER.astype(np.float64) ** 2).sum()) * 32768.0**2)

_BLOCK_S = BLOCK / RATE
_SCALE_DB = 30.0  # from 0 to 1
_FALL_DB = 3.0 * _BLOCK_S  # by which the end of a scale falls in a block
_QUIETEST_DB = -40.0  # where a scale ends at least: noise of a silent room is not made loud
_TILT_DB = 20.0  # a band's scale ends at most so far below that of the whole
_RELEASE = exp(-_BLOCK_S / 0.15)
_SMALLEST = 0.001  # smaller values are 0

_ONSET_S = 0.2  # in which an onset falls from 1 to 0
_APART_S = 0.06  # between two onsets
_BEFORE = 3  # blocks that a block is compared with: more than a window
_RANGE_DB = 25.0  # below the whole; what is quieter in a narrow band starts nothing, e.g. the splash of a tone's end
_RISE_DB = 1.5  # mean over the narrow bands
_RISE_FACTOR = 3.0  # times the recent mean
_RISE_MEMORY = exp(-_BLOCK_S / 1.0)
_NOTHING_DB = -120.0


class LevelFollower:
    """Follows the level of a sound.

    `feed` is called by one thread, `values` by any. A source that stops is fed zeros, or the values stay.
    """

    def __init__(self) -> None:
        self._recent = np.zeros((2, _WINDOW), np.float32)
        self._rest = np.zeros((0, 2), np.int16)
        self._ends_db = dict.fromkeys(("level", *BANDS), _NOTHING_DB)
        self._before: deque[list[float]] = deque([[_NOTHING_DB] * len(_FIRST_BINS)] * _BEFORE, maxlen=_BEFORE)
        self._level_db = _NOTHING_DB
        self._mean_rise_db = 0.0
        self._onset_age_s = 1.0
        self._values = dict.fromkeys(NAMES, 0.0)

    def values(self) -> dict[str, float]:
        """Return the latest values, each 0 to 1.

        Returns:
            level, bass (below 250 Hz), middle (250 to 2000 Hz), high (above 2000 Hz), and onset (1 at an attack, 0
            after 0.2 s).
        """
        return dict(self._values)

    def feed(self, samples: npt.NDArray[np.int16]) -> None:
        """Take the next samples; the values change with each whole block.

        Args:
            samples: int16 (n, 2) at 48 kHz; n may differ from call to call.

        Raises:
            ValueError: they have another shape or type.
        """
        if samples.dtype != np.int16 or samples.ndim != 2 or samples.shape[1] != 2:
            raise ValueError(f"samples must be int16 (n, 2), got {samples.dtype} {samples.shape}")
        waiting = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        num_used = len(waiting) - len(waiting) % BLOCK
        for begin in range(0, num_used, BLOCK):
            self._follow(waiting[begin : begin + BLOCK])
        self._rest = waiting[num_used:].copy()

    def _follow(self, block: npt.NDArray[np.int16]) -> None:
        self._recent = np.concatenate((self._recent[:, BLOCK:], block.T.astype(np.float32)), axis=1)
        offset = self._recent @ _TAPER / _TAPER.sum()  # of the microphone; it would be taken for bass
        spectrum: npt.NDArray[Any] = np.fft.rfft((self._recent - offset[:, None]) * _TAPER)
        power = (spectrum.real**2 + spectrum.imag**2).sum(axis=0)
        narrow = (np.add.reduceat(power, _FIRST_BINS) * _TO_POWER).tolist()
        powers = {"level": sum(narrow), **{name: sum(narrow[slice(*band)]) for name, band in BANDS.items()}}
        values = {name: self._scale(name, _to_db(power)) for name, power in powers.items()}
        values["onset"] = self._find_onset([_to_db(power) for power in narrow], _to_db(powers["level"]))
        self._values = values  # replaced as a whole, for other threads

    def _scale(self, name: str, power_db: float) -> float:
        """Return a value of the band, 0 to 1; "level" is scaled first."""
        self._ends_db[name] = end_db = max(power_db, self._ends_db[name] - _FALL_DB, _NOTHING_DB)
        end_db = max(end_db, _QUIETEST_DB, self._ends_db["level"] - _TILT_DB)
        wanted = min(1.0, max(0.0, 1 + (power_db - end_db) / _SCALE_DB))
        value = max(wanted, wanted + (self._values[name] - wanted) * _RELEASE)
        return value if value >= _SMALLEST else 0.0

    def _find_onset(self, narrow_db: list[float], level_db: float) -> float:
        """Return the value of the onset: one begins where narrow bands rise together, and the whole does not fall."""
        floor_db = max(level_db, self._ends_db["level"], _QUIETEST_DB) - _RANGE_DB
        loudest_db = [max(blocks) for blocks in zip(*self._before, strict=True)]
        rises = (max(now, floor_db) - max(past, floor_db) for now, past in zip(narrow_db, loudest_db, strict=True))
        rise_db = sum(max(0.0, rise) for rise in rises) / len(narrow_db)
        is_sudden = rise_db >= max(_RISE_DB, _RISE_FACTOR * self._mean_rise_db) and level_db >= self._level_db - 1
        self._onset_age_s = 0.0 if is_sudden and self._onset_age_s >= _APART_S else self._onset_age_s + _BLOCK_S
        self._mean_rise_db = rise_db + (self._mean_rise_db - rise_db) * _RISE_MEMORY
        self._before.append(narrow_db)
        self._level_db = level_db
        return max(0.0, 1 - self._onset_age_s / _ONSET_S)


def _to_db(power: float) -> float:
    return max(_NOTHING_DB, 10 * log10(max(power, 1e-12)))
