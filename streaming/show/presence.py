"""Whether there is a person in the live input, from the share of the picture that the matte finds."""

from __future__ import annotations

from fractions import Fraction

_APPEARS, _VANISHES = 0.01, 0.003  # shares of the picture: more than the first is a person, less than the second none
GONE_S = 2.0  # without a person until "away"


class Presence:
    """Decides with hysteresis; it begins with a person.

    Attributes:
        is_here: whether there is a person, or was one in the last `GONE_S`.
        away_s: seconds since a person was seen.
    """

    def __init__(self) -> None:
        self.is_here = True
        self.away_s = 0.0
        self._seen_s: Fraction | None = None

    def update(self, share: float, now_s: Fraction) -> None:
        """Note the share of the picture that the person takes, 0 to 1, at a time of the show in seconds."""
        if self._seen_s is None or share >= (_VANISHES if self.is_here else _APPEARS):
            self._seen_s, self.is_here = now_s, True
        self.away_s = float(now_s - self._seen_s)
        if self.away_s >= GONE_S:
            self.is_here = False
