"""The replay buffer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from training.model.generator import StepState
from training.stages.replay import AgedStates, ReplayedRollout, ReplayEntry

LAYOUT = (4, 3, 64, 64, 2)


def make_entry(number: int, age: int = 10, gap: int = 2, frames: int = 4) -> ReplayEntry:
    """Return an entry whose frames, flow, sway and state are its number."""
    clip = torch.full((frames, 3, 64, 64), number, dtype=torch.uint8)
    rollout = ReplayedRollout(
        clip, torch.full((2, 16, 16), float(number)), torch.full((1, 16, 16), float(number)), f"{number}", gap
    )
    state = StepState(torch.full((1, 8), float(number)), torch.rand(1, 2), torch.zeros(1, 32, 8, 8))
    return ReplayEntry(rollout, state, age)


def filled(count: int, size: int = 8, max_age: int = 100) -> AgedStates:
    aged = AgedStates(size, max_age)
    for number in range(count):
        aged.put(make_entry(number, age=number))
    return aged


def captions(aged: AgedStates) -> list[str]:
    return [entry.rollout.caption for entry in aged.entries]


def test_what_is_drawn_is_taken_out() -> None:
    torch.manual_seed(0)
    aged = filled(5)
    drawn = aged.draw(2, LAYOUT)
    assert len(drawn) == 2
    assert len(aged) == 3
    assert sorted([*captions(aged), *(entry.rollout.caption for entry in drawn)]) == ["0", "1", "2", "3", "4"]
    assert len(aged.draw(10, LAYOUT)) == 3, "no more than there are"
    assert aged.draw(1, LAYOUT) == []


def test_every_entry_has_the_same_chance() -> None:
    torch.manual_seed(0)
    counts = Counter(filled(4).draw(1, LAYOUT)[0].rollout.caption for _ in range(400))
    assert set(counts) == {"0", "1", "2", "3"}
    assert min(counts.values()) > 60  # of 100


def test_draws_follow_torchs_own_generator() -> None:
    names = []
    for _ in range(2):
        torch.manual_seed(7)
        names.append([entry.rollout.caption for entry in filled(8).draw(3, LAYOUT)])
    assert names[0] == names[1]


def test_only_clips_of_the_same_layout_are_drawn() -> None:
    aged = AgedStates(8, 100)
    for entry in (make_entry(0), make_entry(1, gap=3), make_entry(2, frames=7)):
        aged.put(entry)
    assert [entry.rollout.caption for entry in aged.draw(3, LAYOUT)] == ["0"]
    assert [entry.rollout.caption for entry in aged.draw(3, (7, 3, 64, 64, 2))] == ["2"]
    assert aged.draw(3, (4, 3, 32, 32, 3)) == []
    assert captions(aged) == ["1"]


def test_the_size_is_kept_and_the_first_that_came_goes() -> None:
    aged = filled(11)
    assert len(aged) == 8
    assert captions(aged) == [str(number) for number in range(3, 11)]
    assert aged.mean_age() == pytest.approx(6.5)
    nothing = filled(3, size=0)
    assert len(nothing) == 0
    assert nothing.mean_age() == 0
    assert nothing.draw(1, LAYOUT) == []


def test_what_is_too_old_or_not_finite_stays_out() -> None:
    aged = AgedStates(8, 100)
    aged.put(make_entry(0, age=100))
    aged.put(make_entry(1, age=101))
    for part, value in (("oscillators", torch.nan), ("clock", torch.inf), ("hidden", -torch.inf)):
        broken = make_entry(2)
        getattr(broken.state, part).view(-1)[3 % getattr(broken.state, part).numel()] = value
        aged.put(broken)
    assert captions(aged) == ["0"]


def test_a_checkpoint_gives_the_buffer_back(tmp_path: Path) -> None:
    aged = filled(5)
    torch.save(aged.state_dict(), tmp_path / "aged.pt")
    again = AgedStates(8, 100)
    again.put(make_entry(9))
    again.load_state_dict(torch.load(tmp_path / "aged.pt", weights_only=True))
    assert captions(again) == captions(aged)
    for one, two in zip(again.entries, aged.entries, strict=True):
        assert (one.age, one.rollout.gap, one.rollout.caption) == (two.age, two.rollout.gap, two.rollout.caption)
        assert isinstance(one.rollout, ReplayedRollout)
        assert isinstance(one.state, StepState)
        for mine, theirs in zip((*one.rollout[:3], *one.state), (*two.rollout[:3], *two.state), strict=True):
            assert torch.equal(mine, theirs)
            assert mine.dtype == theirs.dtype
    draws = []
    for buffer in (aged, again):
        torch.manual_seed(1)
        draws.append([entry.rollout.caption for entry in buffer.draw(2, LAYOUT)])
    assert draws[0] == draws[1]
