"""Whether a person is there: hysteresis in the share of the picture, and two seconds of patience."""

from __future__ import annotations

from fractions import Fraction

from streaming.show.presence import Presence


def test_a_person_who_leaves_is_away_after_two_seconds_and_back_at_once() -> None:
    presence = Presence()
    presence.update(0.2, Fraction(10))
    presence.update(0.0, Fraction("11.9"))
    assert presence.is_here
    presence.update(0.0, Fraction(12))
    assert not presence.is_here
    assert presence.away_s == 2.0
    presence.update(0.2, Fraction(13))
    assert presence.is_here
    assert presence.away_s == 0.0


def test_nobody_from_the_start_is_away_after_two_seconds() -> None:
    presence = Presence()
    presence.update(0.0, Fraction(0))
    assert presence.is_here
    presence.update(0.0, Fraction(2))
    assert not presence.is_here


def test_specks_bring_nobody_back_and_a_far_person_is_not_away() -> None:
    presence = Presence()
    for second in range(10):
        presence.update(0.005, Fraction(second))
    assert presence.is_here, "few pixels are enough for a person who was there"
    for second in range(10, 14):
        presence.update(0.001, Fraction(second))
    presence.update(0.005, Fraction(14))
    assert not presence.is_here, "and not for one who was not"
    presence.update(0.02, Fraction(15))
    assert presence.is_here
