"""Where a show is: its bytes, its options, its slots, and whole shows that go on on another machine."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import Generator
from runtime.position import Position
from runtime.prompts.hints import to_hints
from streaming.arguments import parse
from streaming.control.controller import ShowController
from streaming.control.cues import ListedCue
from streaming.output.pacing import Pacer
from streaming.show.keeping import PositionTaker
from streaming.show.player import Player
from streaming.show.position import ShowPosition, go_to, next_slot
from tests import moving
from tests.fakes import FakeClock
from tests.runtime.clips.clip_of_waves import waves
from tests.streaming.show.relay import BEGAN_S, MemoryKeeper

RIGHT = {"vectors": [[0.3, 0.5, 0.05, 0.0]], "strokes": [{"kind": "moving", "radius": 0.5, "points": [[0.5, 0.5]]}]}
PICTURE = moving.picture_of(64, 48)
FPS = Fraction(30)


def position_of(**parts: Any) -> ShowPosition:
    states = {"clock": np.array([[7.0]], np.float32), "wave": np.arange(4, dtype=np.float32).reshape(1, 2, 2)}
    generator = parts.pop("generator", Position(90, 2**64 - 1, states, "b", 12.5, 8, None))
    return ShowPosition(
        parts.pop("began_s", BEGAN_S + 0.25), "bundles/tiny", generator, parts.pop("prompt", {}), **parts
    )


def back(position: ShowPosition) -> ShowPosition:
    return ShowPosition.from_bytes(position.to_bytes())


# Bytes.


def test_everything_comes_back_from_bytes() -> None:
    cues = (
        ListedCue(2, "the storm", {"text": "storm", "seed": 4}),
        ListedCue(21, "a picture", {"image": PICTURE, "moving": PICTURE[..., 0], "hints": to_hints(RIGHT)}),
    )
    prompt = {"image": PICTURE, "text": None, "clip": Path("films/a.mkv"), "hints": to_hints(RIGHT)}
    position = position_of(prompt=prompt, is_in_turn=True, controls={"sway": 1.1, "drift": -3}, cues=cues)
    read = back(position)
    assert (read.began_s, read.bundle, read.is_in_turn) == (BEGAN_S + 0.25, "bundles/tiny", True)
    assert read.controls == {"sway": 1.1, "drift": -3.0}
    was, now = position.generator, read.generator
    for name in ("frame_index", "seed", "side", "renewal_age", "picture_age", "clip"):
        assert getattr(now, name) == getattr(was, name)
    assert now.states.keys() == was.states.keys()
    for name, value in was.states.items():
        assert now.states[name].dtype == value.dtype
        assert np.array_equal(now.states[name], value)
    assert read.prompt.keys() == {"image", "clip", "hints"}
    assert np.array_equal(read.prompt["image"], PICTURE)
    assert read.prompt["clip"] == str(Path("films/a.mkv"))
    assert to_hints(read.prompt["hints"]) == to_hints(RIGHT)
    assert [(cue.number, cue.label) for cue in read.cues] == [(2, "the storm"), (21, "a picture")]
    assert read.cues[0].parts == {"text": "storm", "seed": 4}
    assert read.cues[1].parts.keys() == {"image", "moving", "hints"}
    assert np.array_equal(read.cues[1].parts["image"], PICTURE)
    assert np.array_equal(read.cues[1].parts["moving"], PICTURE[..., 0])


def test_a_place_in_a_clip_comes_back_from_bytes(tmp_path: Path) -> None:
    folder = moving.build(tmp_path / "moving")
    with Generator.open(folder, engine="onnxruntime", seed=3) as generator:
        generator.condition(clip=waves(120, period=31.7))
        generator.skip(300)
        place = generator.position().clip
        assert place is not None
        assert place["_made"], "it has not jumped yet"
        read = back(position_of(generator=generator.position())).generator.clip
    assert read == place
    assert read is not None
    assert all(isinstance(number, int) for number in read["_made"])  # type: ignore[attr-defined]


def test_a_position_without_anything_comes_back_from_bytes() -> None:
    read = back(position_of(generator=Position(0, 3)))
    assert (read.generator.states, read.generator.clip, read.prompt, read.cues) == ({}, None, {}, ())


def as_npz(value: Any = None, /, **arrays: Any) -> bytes:
    file = io.BytesIO()
    if value is not None:
        arrays["content"] = np.frombuffer(json.dumps(value).encode(), np.uint8)
    np.savez(file, **arrays)
    return file.getvalue()


def damaged() -> Iterator[tuple[str, bytes]]:
    whole = position_of(prompt={"image": PICTURE}).to_bytes()
    with np.load(io.BytesIO(whole)) as file:
        content = json.loads(file["content"].tobytes())
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 255
    yield "empty", b""
    yield "cut", whole[: len(whole) // 2]
    yield "changed", bytes(changed)
    yield "foreign", b"#!/bin/sh\nexit\n"
    yield "array", (lambda file: (np.save(file, PICTURE), file.getvalue())[1])(io.BytesIO())
    yield "nothing in it", as_npz(other=PICTURE)
    yield "a list", as_npz([1, 2])
    yield "another version", as_npz({**content, "version": 2})
    yield "no seed", as_npz({name: value for name, value in content.items() if name != "seed"})
    yield "no number", as_npz({**content, "frame_index": "soon"})
    yield "no cue", as_npz({**content, "cues": [{}]})


@pytest.mark.parametrize(("what", "data"), list(damaged()), ids=[name for name, _ in damaged()])
def test_bytes_that_are_no_position_are_refused_in_one_sentence(what: str, data: bytes) -> None:
    with pytest.raises(
        ValueError, match=r"^the stored position of the show cannot be read: .+; the show begins anew$"
    ) as info:
        ShowPosition.from_bytes(data)
    assert "\n" not in str(info.value), what


class Trap:
    """Leaves a mark when it is read from a pickle."""

    was_read = False

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return _spring, ("was_read", "")


def _spring(*_: object) -> Trap:
    Trap.was_read = True
    return Trap()


def test_no_pickle_is_read() -> None:
    trap = np.array([Trap()], object)
    with np.load(io.BytesIO(position_of().to_bytes())) as file:
        arrays = dict(file)
    for data in (pickle.dumps(Trap()), as_npz(**{**arrays, "state.clock": trap}), as_npz(content=trap)):
        with pytest.raises(ValueError, match="the stored position of the show cannot be read"):
            ShowPosition.from_bytes(data)
    assert not Trap.was_read
    pickle.loads(pickle.dumps(Trap()))
    assert Trap.was_read, "the trap works"


# Options.


def test_the_prompt_on_air_takes_the_place_of_that_of_the_options() -> None:
    words = ["BUNDLE", "--image", "a.png", "--moving", "m.png", "--seed", "3", "--hint", "0.5,0.5,0.1,0"]
    options = parse(words)
    before = dict(vars(options))
    changed = position_of(prompt={"text": "storm", "seed": 9}).applied_to(options, FPS)
    assert (changed.image, changed.moving, changed.text, changed.seed) == (None, None, "storm", 9)
    assert (changed.hint, changed.hints) == ([], None)
    assert vars(options) == before, "they are the caller's"
    changed = position_of(prompt={"image": PICTURE, "hints": RIGHT}).applied_to(options, FPS)
    assert changed.image is PICTURE
    assert (changed.seed, changed.hints) == (3, RIGHT)


def test_scenes_in_turn_keep_the_options() -> None:
    options = parse(["BUNDLE", "--scene", "all", "--every", "4"])
    changed = position_of(prompt={"scene": "red"}, is_in_turn=True).applied_to(options, FPS)
    assert (changed.scene, changed.every) == ("all", 4)
    chosen = position_of(prompt={"scene": "red"}).applied_to(options, FPS)
    assert chosen.scene == "red"


def test_controls_are_those_of_the_position() -> None:
    """One for a seed is left out: the prompt has it. One that the bundle on air lacks is left out as well."""
    options = parse(["BUNDLE", "--control", "sway=3", "--control", "seed=5", "--control", "gone=1"])
    changed = position_of(controls={"sway": 1.0, "drift": 2.0}).applied_to(options, FPS)
    assert changed.control == [("sway", 1.0), ("drift", 2.0)]


def test_cues_that_are_over_are_left_out() -> None:
    options = parse(["BUNDLE", *(f"--cue={at_s}:sway=1" for at_s in (1, 2.9, 3, 3.1))])
    changed = position_of().applied_to(options, FPS)  # it begins with frame 90
    assert [float(cue.at_s) for cue in changed.cue] == [3, 3.1]


# Slots.


class CountingSource:
    """Notes where it is sent; see `FrameSource`."""

    fps = FPS

    def __init__(self, *, has_live_input: bool = False) -> None:
        self.has_live_input = has_live_input
        self.calls: list[tuple[str, int]] = []
        self.states: list[object] = []

    def go_to(self, position: Position) -> None:
        self.calls.append(("go to", position.frame_index))
        self.states.append(position.states)

    def skip(self, frames: int) -> None:
        self.calls.append(("skip", frames))


@pytest.mark.parametrize(
    ("slot", "is_live", "calls"),
    [
        (90, False, [("go to", 90), ("skip", 0)]),
        (91, False, [("go to", 90), ("skip", 1)]),
        (90 + 1800, False, [("go to", 90), ("skip", 1800)]),  # a minute
        (90 + 1801, False, [("go to", 90 + 1801)]),
        (10**9, False, [("go to", 10**9)]),
        (80, False, [("go to", 80)]),  # the clocks of two machines differ
        (91, True, [("go to", 91)]),
    ],
)
def test_a_gap_is_played_through_if_it_is_short(slot: int, is_live: bool, calls: list[tuple[str, int]]) -> None:
    source, position = CountingSource(has_live_input=is_live), position_of().generator
    go_to(source, position, slot)  # type: ignore[arg-type]
    assert source.calls == calls
    assert source.states == [position.states]


@pytest.mark.parametrize(
    ("later_s", "slot", "waits_s"), [(0.0, 0, 0.0), (3.0, 30, 0.0), (3.01, 31, 0.09), (-2.0, 0, 2.0), (1e6, 10**7, 0.0)]
)
def test_the_next_slot_is_that_of_the_wall_clock(later_s: float, slot: int, waits_s: float) -> None:
    clock = FakeClock(0.5)  # of a machine that was just started
    pacer = Pacer(clock, Fraction(10))
    assert next_slot(pacer, clock, BEGAN_S, lambda: BEGAN_S + later_s) == pacer.next_slot == slot
    assert pacer.pace() == slot
    assert clock.now() - 0.5 == pytest.approx(waits_s, abs=1e-6)
    assert (pacer.num_late, pacer.num_dropped) == (0, 0)
    assert float(pacer.deadline(0)) == pytest.approx(0.5 - later_s, abs=1e-6)


def test_positions_are_taken_now_and_then(live_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a show with a live input have the number of the slot, as no frame is made for a dropped one."""
    monkeypatch.setattr("streaming.show.keeping.time.time", lambda: BEGAN_S + clock.now() - 1000)
    clock, controller, keeper = FakeClock(), ShowController(), MemoryKeeper(None)
    keeper.every_s = 1.0  # type: ignore[misc]
    pacer = Pacer(clock, FPS)
    options = parse([str(live_bundle), "--engine", "onnxruntime", "--input", "testcard"])
    with Player(options, live_bundle, controller, lambda _: None) as player:
        taker = PositionTaker(keeper, player, controller, pacer, clock)  # type: ignore[arg-type]
        frames = player.frames(pacer, clock)
        for number in range(70):
            next(frames)
            if number == 20:
                clock.advance(0.5)
            pacer.pace()
            taker.update()
        assert player.generator.frame_index == 70
    assert [position.generator.frame_index for position in keeper.kept] == [1, 35, 65]
    assert pacer.num_dropped == 14
    assert {position.began_s for position in keeper.kept} == {BEGAN_S}
    assert keeper.kept[0].bundle == str(live_bundle)
