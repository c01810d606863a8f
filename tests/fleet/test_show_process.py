"""One show in a process of its own: on air, elsewhere, over, and with another bundle."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from fleet import show_process
from streaming.errors import SinkError
from streaming.show.position import ShowPosition
from tests import tiny
from tests.fleet.conftest import Start
from tests.fleet.keepers import LocalKeeper
from tests.fleet.seeing import FPS, SeeingSink
from tests.fleet.waiting import WAIT_S, wait_until


def test_a_show_goes_on_in_another_process_at_the_frame_that_the_clock_asks_for(
    start: Start, keeper: LocalKeeper, sinks: list[SeeingSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show_process, "_BEATS", 600)  # ten a second
    first = start(seed=7)
    wait_until(lambda: keeper.position() and len(sinks[0].seen) > 4 * FPS, "a show on air")
    assert (keeper.show()["state"], keeper.show()["node"], keeper.show()["starts"]) == ("on air", "a node", 1)
    wait_until(lambda: any(frame.is_in_place() for frame in sinks[0].seen[-5:]))
    first.stop(keep=True)
    assert (keeper.show()["state"], keeper.show()["error"], keeper.url()) == ("moves", "", "")
    kept = ShowPosition.from_bytes(keeper.position())
    assert (kept.prompt["seed"], Path(kept.bundle).name) == (7, "tiny")
    last = sinks[0].seen[-1]
    # A frame that was being made when the show was stopped is not shown.
    assert -1 <= last.slot + 1 - kept.generator.frame_index <= FPS, "the last position"
    begins_s = time.time()
    start(seed=8)
    wait_until(lambda: len(sinks) == 2 and any(frame.is_in_place() for frame in sinks[1].seen), "a frame in place")
    frame = sinks[1].seen[0]
    assert begins_s <= kept.began_s + frame.slot / FPS + 0.001, "not before the process began"
    assert kept.began_s + frame.slot / FPS <= frame.unix_s + 0.001, "nor before its time"
    assert frame.slot > last.slot
    assert (frame.slot - frame.number) % 256 <= 2 * FPS, "the first frame is in place but for slots that were dropped"
    wait_until(lambda: ShowPosition.from_bytes(keeper.position()).generator.frame_index > frame.slot)
    again = ShowPosition.from_bytes(keeper.position())
    assert (again.began_s, again.prompt["seed"]) == (kept.began_s, 7), "what was on air comes in place of its prompt"
    assert keeper.show()["starts"] == 2


def test_the_page_of_a_show_is_on_air_with_it(start: Start, keeper: LocalKeeper) -> None:
    start()
    wait_until(lambda: keeper.is_on_air())
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
    wait_until(lambda: keeper.is_on_air())
    process.stop(keep=False)
    assert keeper.show()["state"] == "over"


def test_a_show_that_must_not_run_does_not(start: Start, keeper: LocalKeeper, sinks: list[SeeingSink]) -> None:
    keeper.keeper.add("lobby", "it has crashed 5 times in a minute")
    process = start()
    process._threads[0].join(WAIT_S)
    assert (keeper.show()["state"], keeper.show()["error"]) == ("failed", "it has crashed 5 times in a minute")
    assert not sinks


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
