"""When live streams have key frames."""

from __future__ import annotations

from fractions import Fraction

from streaming.live.h264 import KeyFrames


def test_key_frames_come_first_then_by_the_clock_and_on_request() -> None:
    keys = KeyFrames(Fraction(10))
    found = []
    for slot in [7, *range(20, 100)]:  # after dropped slots
        if slot in (52, 53):
            keys.request()
        if keys.is_key(slot):
            found.append(slot)
    assert found == [7, 27, 47, 52, 57, 77, 97], "requests count half a second after the last key frame"
    assert keys.last == 97
