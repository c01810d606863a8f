"""One show in a process of its own, beside a keeper of this process."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleet import show_process
from fleet.config import to_show
from fleet.show_process import LOST, ShowProcess, ShowSettings
from streaming.errors import SinkError
from streaming.page.server import TOKEN_VARIABLE
from streaming.show.position import ShowPosition
from streaming.sinks.sink import Frame, Sink, StreamFormat
from tests import tiny
from tests.fakes import FakeClock
from tests.fleet.keepers import LocalKeeper
from tests.fleet.waiting import WAIT_S, wait_until

FPS = 30
LEASE_S = 60.0  # no show of these tests loses its lease by itself
NODE = ("a node", "127.0.0.1")
Start = Callable[..., ShowProcess]


@dataclass(frozen=True)
class Seen:
    """A frame that a sink got.

    Args:
        slot: its place in the show.
        number: that it shows, 0 to 255, off by one at most.
        unix_s: when it was written.
    """

    slot: int
    number: int
    unix_s: float

    def is_in_place(self, begun: int = 0) -> bool:
        """Whether the frame is the one of its slot.

        Args:
            begun: slot in which the bundle began.
        """
        return (self.number - self.slot + begun + 1) % 256 <= 2


class SeeingSink(Sink):
    """A sink that reads the numbers of its frames.

    Args:
        error: raised when it is opened; None for none.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.name = "seeing"
        self.seen: list[Seen] = []
        self._error = error

    def open(self, feed: StreamFormat) -> None:
        if self._error is not None:
            raise self._error

    def start(self) -> None:
        pass

    def write(self, frame: Frame) -> bool:
        luma = float(frame.picture[2:6, 2:6].mean())
        self.seen.append(Seen(frame.slot, round((luma - 16) * 255 / 219), time.time()))
        return True

    def close(self, *, keep: bool = True) -> None:
        pass


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny bundle, 64 x 48 at 30 frames per second."""
    return tiny.build(tmp_path_factory.mktemp("bundles") / "tiny", fps=str(FPS))


@pytest.fixture
def keeper() -> LocalKeeper:
    return LocalKeeper("lobby", LEASE_S)


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> list[SeeingSink]:
    """The sinks of all processes that a test starts, one of each."""
    made: list[SeeingSink] = []

    def make(specs: Any, pixels: str) -> list[SeeingSink]:
        made.append(SeeingSink())
        return made[-1:]

    monkeypatch.setattr(show_process, "make_sinks", make)
    return made


@pytest.fixture
def ends() -> list[int]:
    """Exit statuses with which processes wanted to end at once."""
    return []


@pytest.fixture
def start(bundle: Path, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts a process; the values are those of the show's table."""
    monkeypatch.setenv(TOKEN_VARIABLE, "")  # which the process sets
    started: list[ShowProcess] = []

    def begin(**values: Any) -> ShowProcess:
        table = {"bundle": str(bundle), "to": ["null"], "engine": "onnxruntime", "no_mark": True, **values}
        settings = ShowSettings(LEASE_S, 0.05)
        started.append(ShowProcess(to_show("lobby", table, {}), settings, keeper, NODE, ends.append))
        return started[-1]

    yield begin
    for process in started:
        process.stop(keep=False)
        for thread in process._threads:
            thread.join(WAIT_S)
            assert not thread.is_alive()


def is_on_air(keeper: LocalKeeper) -> bool:
    return bool(keeper.show()["state"] == "on air")


def test_a_show_goes_on_in_another_process_at_the_frame_that_the_clock_asks_for(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_process, "_BEATS", 600)  # ten a second
    first = start(seed=7)
    wait_until(lambda: keeper.position() and len(sinks[0].seen) > FPS, "a show on air")
    assert (keeper.show()["state"], keeper.show()["node"], keeper.show()["starts"]) == ("on air", "a node", 1)
    wait_until(lambda: any(frame.is_in_place() for frame in sinks[0].seen[-5:]))
    first.stop(keep=True)
    assert (keeper.show()["state"], keeper.show()["error"], keeper.url()) == ("moves", "", "")
    kept = ShowPosition.from_bytes(keeper.position())
    assert (kept.prompt["seed"], Path(kept.bundle).name) == (7, "tiny")
    last = sinks[0].seen[-1]
    assert 0 <= last.slot + 1 - kept.generator.frame_index <= FPS, "the last position"
    begins_s = time.time()
    start(seed=8)
    wait_until(lambda: len(sinks) == 2 and any(frame.is_in_place() for frame in sinks[1].seen), "a frame in place")
    frame = sinks[1].seen[0]
    assert begins_s <= kept.began_s + frame.slot / FPS + 0.001, "not before the process began"
    assert kept.began_s + frame.slot / FPS <= frame.unix_s + 0.001, "nor before its time"
    assert frame.slot > last.slot
    wait_until(lambda: ShowPosition.from_bytes(keeper.position()).generator.frame_index > frame.slot)
    again = ShowPosition.from_bytes(keeper.position())
    assert (again.began_s, again.prompt["seed"]) == (kept.began_s, 7), "what was on air comes in place of its prompt"
    assert keeper.show()["starts"] == 2


def test_the_page_of_a_show_is_on_air_with_it(start: Start, keeper: LocalKeeper) -> None:
    start()
    wait_until(lambda: is_on_air(keeper))
    with urllib.request.urlopen(f"{keeper.url()}/stats", timeout=WAIT_S) as answer:
        assert answer.status == 200
    [[_, url, token]] = keeper.made("on_air")
    assert url.startswith("http://127.0.0.1:")
    assert len(token) >= 32, "nobody guesses it"


def test_a_missing_bundle_is_one_sentence(start: Start, keeper: LocalKeeper, tmp_path: Path) -> None:
    start(bundle=str(tmp_path / "nowhere"))
    wait_until(lambda: keeper.show()["state"] == "failed")
    told = keeper.show()["error"]
    assert str(tmp_path / "nowhere") in told
    assert "\n" not in told
    assert not keeper.made("on_air")


def test_so_is_a_sink_that_cannot_be_opened(start: Start, keeper: LocalKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = SeeingSink(SinkError("sink srt://h needs libsrt,\nwhich this machine lacks"))
    monkeypatch.setattr(show_process, "make_sinks", lambda specs, pixels: [sink])
    start()
    wait_until(lambda: keeper.show()["state"] == "failed")
    assert keeper.show()["error"] == "sink srt://h needs libsrt, which this machine lacks"


def test_a_show_with_an_end_is_over(start: Start, keeper: LocalKeeper, ends: list[int]) -> None:
    start(seconds=0.2)
    wait_until(lambda: keeper.show()["state"] == "over")
    assert (keeper.show()["error"], ends) == ("", [])


def test_a_show_that_is_stopped_for_good_is_over(start: Start, keeper: LocalKeeper) -> None:
    process = start()
    wait_until(lambda: is_on_air(keeper))
    process.stop(keep=False)
    assert keeper.show()["state"] == "over"


def test_a_show_that_must_not_run_does_not(start: Start, keeper: LocalKeeper, sinks: list[SeeingSink]) -> None:
    keeper.keeper.add("lobby", "it has crashed 5 times in a minute")
    process = start()
    process._threads[0].join(WAIT_S)
    assert (keeper.show()["state"], keeper.show()["error"]) == ("failed", "it has crashed 5 times in a minute")
    assert not sinks


def test_nothing_is_sent_before_all_streams_are_free(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink]
) -> None:
    keeper.answers["lease"] = [0.05] * 3
    start()
    wait_until(lambda: is_on_air(keeper))
    names = [name for name, *_ in keeper.calls]
    assert names[:6] == ["enter", "lease", "lease", "lease", "lease", "on_air"]
    wait_until(lambda: sinks[0].seen)
    assert sinks[0].seen[0].slot == 0


def test_a_show_may_be_stopped_while_it_waits_for_its_stream(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink]
) -> None:
    keeper.answers["lease"] = [0.05] * 10_000
    process = start()
    wait_until(lambda: keeper.made("lease"))
    process.stop(keep=True)
    assert (keeper.show()["state"], sinks[0].seen) == ("moves", [])


def test_a_process_that_was_replaced_ends_without_a_frame(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink]
) -> None:
    keeper.answers["lease"] = [-1.0]
    process = start()
    process._threads[0].join(WAIT_S)
    assert not process._threads[0].is_alive()
    assert (sinks[0].seen, keeper.made("on_air")) == ([], [])
    assert keeper.show()["error"] == ""


def test_a_beat_that_is_refused_ends_the_process(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_process, "_BEATS", 600)
    start()
    wait_until(lambda: is_on_air(keeper))
    keeper.keeper.enter("lobby", "another node")
    wait_until(lambda: ends)
    assert ends == [LOST]
    assert keeper.show()["node"] == "another node"


def test_a_keeper_that_does_not_answer_ends_the_process_before_its_lease_ends(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(clock, "monotonic", clock.now, raising=False)
    monkeypatch.setattr(show_process, "time", clock)
    monkeypatch.setattr(show_process, "_BEATS", 600)
    process = start()
    wait_until(lambda: is_on_air(keeper))
    clock.advance(0.8 * LEASE_S)
    wait_until(lambda: process._renewed_s == clock.now(), "a beat that is answered")
    keeper.is_silent = True
    asked = len(keeper.made("beat"))
    clock.advance(0.89 * LEASE_S)
    wait_until(lambda: len(keeper.made("beat")) > asked + 5, "beats that are not answered")
    assert not ends, "it asks again"
    clock.advance(0.02 * LEASE_S)
    wait_until(lambda: ends)
    assert ends == [LOST]
    assert clock.now() - process._renewed_s < LEASE_S


def test_a_keeper_that_does_not_answer_at_first_is_asked_again(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask, silences = keeper.lease, [True] * 3

    def answer_later(name: str, generation: int, keys: Any) -> float:
        keeper.is_silent = bool(silences and silences.pop())
        return ask(name, generation, keys)

    monkeypatch.setattr(keeper, "lease", answer_later)
    monkeypatch.setattr(show_process, "_ASK_S", 0.01)
    start()
    wait_until(lambda: is_on_air(keeper))
    assert (len(keeper.made("lease")), ends) == (4, [])


def test_a_process_that_cannot_say_that_it_begins_ends(start: Start, keeper: LocalKeeper, ends: list[int]) -> None:
    keeper.is_silent = True
    with pytest.raises(OSError, match="the head of the fleet does not answer"):
        start()
    assert ends == [LOST]


def test_an_answer_that_took_too_long_is_asked_for_again(
    start: Start, keeper: LocalKeeper, ends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = FakeClock()
    monkeypatch.setattr(clock, "monotonic", clock.now, raising=False)
    monkeypatch.setattr(show_process, "time", clock)
    answer, delays = keeper.lease, [0.95 * LEASE_S]

    def answer_late(name: str, generation: int, keys: Any) -> float:
        wait_s = answer(name, generation, keys)
        clock.advance(delays.pop() if delays else 0.0)
        return wait_s

    monkeypatch.setattr(keeper, "lease", answer_late)
    start()
    wait_until(lambda: is_on_air(keeper))
    assert len(keeper.made("lease")) == 2
    assert not ends


def test_a_bundle_is_changed_on_air_only(start: Start, keeper: LocalKeeper, bundle: Path) -> None:
    process = start(seconds=0.1)
    process._threads[0].join(WAIT_S)
    with pytest.raises(ValueError, match="lobby is not on air: try again when it is"):
        process.change_bundle(str(bundle), 0.0)
    assert not keeper.made("set_bundle")


def test_a_damaged_position_begins_anew(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink], capsys: pytest.CaptureFixture[str]
) -> None:
    generation = keeper.keeper.enter("lobby", "a node").generation
    keeper.keeper.beat("lobby", generation, b"no position")
    start()
    wait_until(lambda: sinks and sinks[0].seen)
    assert sinks[0].seen[0].slot == 0
    assert "the stored position of the show cannot be read" in capsys.readouterr().out


def test_another_bundle_of_the_same_size_is_faded_in(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink], tmp_path: Path
) -> None:
    other = tiny.build(tmp_path / "other", fps=str(FPS))
    process = start()
    wait_until(lambda: sinks and sinks[0].seen)
    process.change_bundle(str(other), 0.1)
    assert keeper.show()["bundle"] == str(other)
    wait_until(lambda: process._player is not None and process._player.bundle == other, "the other bundle on air")
    count = len(sinks[0].seen)
    wait_until(lambda: len(sinks[0].seen) > count + FPS, "frames of it")
    last = sinks[0].seen[-1]
    begun = last.slot - last.number
    process.stop(keep=True)
    again = start()
    wait_until(lambda: len(sinks) == 2 and any(frame.is_in_place(begun) for frame in sinks[1].seen), "it goes on")
    assert again._player is not None
    assert again._player.bundle == other
    assert sinks[1].seen[0].slot > sinks[0].seen[-1].slot


@pytest.mark.parametrize("kind", ["size", "rate", "missing"])
def test_one_that_does_not_fit_is_refused(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink], tmp_path: Path, kind: str
) -> None:
    shapes: dict[str, dict[str, Any]] = {"size": {"width": 80, "fps": str(FPS)}, "rate": {"fps": "25"}}
    other = tiny.build(tmp_path / "other", **shapes[kind]) if kind in shapes else tmp_path / "other"
    told = {
        "size": "makes frames of 80 x 48 at 30 fps, and the show has 64 x 48 at 30 fps: choose another bundle",
        "rate": "makes frames of 64 x 48 at 25 fps, and the show has 64 x 48 at 30 fps: choose another bundle",
        "missing": "other",
    }[kind]
    process = start()
    wait_until(lambda: sinks and sinks[0].seen)
    with pytest.raises(Exception, match=told) as caught:
        process.change_bundle(str(other), 0.1)
    assert "\n" not in str(caught.value)
    assert (keeper.show()["bundle"], keeper.show()["state"]) == ("", "on air")
    count = len(sinks[0].seen)
    wait_until(lambda: len(sinks[0].seen) > count + 5, "the show goes on")
