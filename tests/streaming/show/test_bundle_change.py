"""Another bundle for a show on air: the cross-fade, what is refused, and what is freed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from runtime import BundleError, EngineError, Generator
from streaming.show.keeping import PositionTaker
from tests import moving, tiny
from tests.runtime import trailing
from tests.streaming.doubles import WAIT_S
from tests.streaming.show.changing import FADE, FADE_S, HOW, named, stage
from tests.streaming.show.relay import MemoryKeeper
from tests.streaming.show.test_chain import PlainInput


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle like `bundle` in its size, rate and controls, with a picture of its own and without prompts."""
    return named(tiny.build(tmp_path_factory.mktemp("plain") / "plain", memories=False), "plain")


@pytest.fixture(scope="module")
def painting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of schema 2 with the size and the rate of `bundle` that takes pictures and seeds."""
    return moving.build(tmp_path_factory.mktemp("painting") / "moving", frame=(64, 48))


def mixed(first: np.ndarray, second: np.ndarray, share: float) -> np.ndarray:
    weight = round(256 * share)
    return ((first.astype(int) * (256 - weight) + second.astype(int) * weight) >> 8).astype(np.uint8)


def test_one_bundle_fades_into_another(bundle: Path, plain: Path) -> None:
    with (
        stage(bundle, "--seed", 7, "--control", "sway=3") as show,
        Generator.open(bundle, seed=7, **HOW) as first,
        Generator.open(plain, seed=7, **HOW) as second,
    ):
        for generator in (first, second):
            generator.set_control("sway", 3)
        assert all(np.array_equal(frame, next(first)) for frame in show.frames(4))
        show.player.change_bundle(plain, FADE_S)
        second.go_to(replace(second.position(), frame_index=4))
        shown = show.frames(FADE)
        for number, frame in enumerate(shown[:-1], 1):
            one, two = next(first), next(second)
            assert np.array_equal(frame, mixed(one, two, number / FADE))
            assert np.abs(one.astype(int) - two).mean() > 10, "both look alike"
        assert np.array_equal(shown[-1], next(second)), "the last frame shows the other bundle alone"
        assert all(np.array_equal(frame, next(second)) for frame in show.frames(5))
        assert show.waits_closed.acquire(timeout=WAIT_S)
        assert show.closed == ["tiny"]
        assert show.player.bundle == plain
        assert show.said == [f"plain: {plain} is on air"]
        assert show.controller.state()["controls"][0]["value"] == 3
    assert show.closed == ["tiny", "plain"]


@pytest.mark.parametrize("seconds", [0.0, 0.01, 1 / 30])
def test_a_short_cross_fade_is_a_cut(bundle: Path, plain: Path, seconds: float) -> None:
    with stage(bundle, "--seed", 7) as show, Generator.open(plain, seed=7, **HOW) as second:
        show.frames(4)
        show.player.change_bundle(plain, seconds)
        assert show.player.bundle == bundle, "until the next frame"
        second.go_to(replace(second.position(), frame_index=4))
        assert all(np.array_equal(frame, next(second)) for frame in show.frames(3))
        assert show.waits_closed.acquire(timeout=WAIT_S)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"width": 96}, "makes frames of 96 x 48 at 30 fps, and the show has 64 x 48 at 30 fps: choose another bundle"),
        ({"fps": "25"}, "makes frames of 64 x 48 at 25 fps, and the show has 64 x 48 at 30 fps: choose another bundle"),
        ({"live": True}, "does not fit the show: one of the two needs a live input, the other has none"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused_and_the_show_goes_on(
    bundle: Path, tmp_path: Path, words: dict[str, Any], sentence: str
) -> None:
    other = named(tiny.build(tmp_path / "other", **words), "other")
    with stage(bundle, "--seed", 7) as show, Generator.open(bundle, seed=7, **HOW) as first:
        show.frames(3)
        first.skip(3)
        with pytest.raises(ValueError, match=f"^{other} {sentence}$"):
            show.player.change_bundle(other, FADE_S)
        assert show.closed == ["other"]
        assert all(np.array_equal(frame, next(first)) for frame in show.frames(5))
        assert show.controller.kept()[0] == {"seed": 7}


@pytest.mark.parametrize("seconds", [-1.0, 3601.0, float("nan")])
def test_a_cross_fade_has_a_length(bundle: Path, plain: Path, seconds: float) -> None:
    with stage(bundle) as show:
        show.frames(1)
        with pytest.raises(ValueError, match=f"^a cross-fade lasts 0 to 3600 seconds, got {seconds}$"):
            show.player.change_bundle(plain, seconds)
        assert show.closed == ["plain"]


def test_what_cannot_be_opened_is_refused_and_the_show_goes_on(bundle: Path, tmp_path: Path) -> None:
    with stage(bundle) as show:
        show.frames(1)
        with pytest.raises(BundleError, match="is no folder"):
            show.player.change_bundle(tmp_path / "nothing", FADE_S)
        assert len(show.frames(3)) == 3
        assert show.player.bundle == bundle


def test_one_bundle_after_the_other(bundle: Path, plain: Path, painting: Path) -> None:
    with stage(bundle) as show:
        show.frames(1)
        show.player.change_bundle(plain, FADE_S)
        show.frames(2)
        with pytest.raises(ValueError, match=r"^another bundle fades in just now: try again when it is on air$"):
            show.player.change_bundle(painting, FADE_S)
        assert len(show.opened) == 2, "it was not opened"
        show.frames(FADE)
        show.player.change_bundle(painting, FADE_S)
        show.frames(FADE)
        assert show.player.bundle == painting


@pytest.mark.parametrize("shown", [0, 3])
def test_closing_in_the_middle_frees_both(bundle: Path, plain: Path, shown: int) -> None:
    with stage(bundle) as show:
        show.frames(2)
        show.player.change_bundle(plain, FADE_S)
        show.frames(shown)
        assert show.closed == []
    assert sorted(show.closed) == ["plain", "tiny"]


@pytest.mark.parametrize("seconds", [0.0, FADE_S])
def test_an_engine_that_fails_in_the_cross_fade_leaves_the_bundle_on_air(
    bundle: Path, plain: Path, tmp_path: Path, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise EngineError("the device is gone")

    Image.new("RGB", (64, 48), (255, 255, 255)).save(tmp_path / "white.png")
    with stage(bundle, "--seed", 7, "--fallback", tmp_path / "white.png") as show:
        show.frames(2)
        show.player.change_bundle(plain, seconds)
        other = show.opened[-1]
        assert isinstance(other, Generator)
        monkeypatch.setattr(other._step, "run", fail)
        assert np.all(next(show.source) == 255)
        show.player._reopen()
        assert show.player.bundle == bundle
        assert show.player.generator.scene.seed == 7  # type: ignore[union-attr]
        assert show.controller.state()["takes"], "the other one takes no prompts"
        assert show.said[-1] == f"{plain} is left out: an engine failed while it faded in"
    assert sorted(show.closed) == ["plain", "tiny", "tiny"]


def test_an_engine_that_fails_at_once_is_freed(bundle: Path, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise EngineError("the device is gone")

    with stage(bundle) as show:
        show.frames(2)
        show.player.change_bundle(plain, 0.0)
        other = show.opened[-1]
        assert isinstance(other, Generator)
        monkeypatch.setattr(other._step, "run", fail)
        with pytest.raises(EngineError, match="the device is gone"):
            next(show.source)
    assert sorted(show.closed) == ["plain", "tiny"]


def test_the_live_input_is_fed_to_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it shows the same picture all the time."""
    monkeypatch.setattr("streaming.show.player.LiveInput", PlainInput)
    first, second = (trailing.build(tmp_path / name, width=64, height=48, name=name) for name in ("first", "second"))
    with stage(first, "--input", "testcard", "--control", "share=1") as show:
        picture = show.frames(3)[-1].astype(int)
        show.player.change_bundle(second, FADE_S)
        for frame in show.frames(FADE + 3):
            assert np.abs(frame - picture).max() <= 1
        assert show.player.bundle == second
    assert picture[:, :30].min() > 250 > 90 > picture[:, 34:].max(), "the input"


def test_a_show_with_a_mask_keeps_its_bundle(live_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streaming.show.player.LiveInput", PlainInput)
    with stage(live_bundle, "--input", "testcard") as show:
        show.frames(1)
        with pytest.raises(
            ValueError, match=r"^a show with --matte or a mask keeps its bundle: stop it and start it with"
        ):
            show.player.change_bundle(live_bundle, FADE_S)
        assert len(show.opened) == 1, "no other was opened"
        show.frames(1)


def test_a_position_is_that_of_what_fades_in(bundle: Path, painting: Path) -> None:
    keeper = MemoryKeeper(None)
    with stage(bundle, "--seed", 7) as show:
        taker = PositionTaker(keeper, show.player, show.controller, show.pacer, show.clock)
        show.frames(3)
        show.player.change_bundle(painting, 1.0)
        taker.update()
        show.frames(10)
        taker.update()
        before, during = keeper.kept
        assert (before.bundle, before.generator.states.keys()) == (str(bundle), {"clock", "wave"})
        assert (during.bundle, during.generator.states.keys()) == (str(painting), {"count"})
        assert [position.generator.frame_index for position in (before, during)] == [3, 13]
        assert during.controls.keys() == show.opened[-1].controls.keys()


def test_the_first_bundle_of_a_chain_is_changed(bundle: Path, plain: Path, tmp_path: Path) -> None:
    trail = trailing.build(tmp_path / "trailing", width=64, height=48)
    words = ("--then", trail, "--seed", 7, "--control", "trailing.share=0.25")
    with (
        stage(bundle, *words) as show,
        Generator.open(plain, seed=7, **HOW) as first,
        Generator.open(trail, seed=7, **HOW) as second,
    ):
        show.frames(4)
        show.player.change_bundle(plain, 0.0)
        first.go_to(replace(first.position(), frame_index=4))
        second.set_control("share", 0.25)
        for frame in show.frames(6):
            second.feed_live(next(first))
            assert np.array_equal(frame, next(second))
        assert list(show.player.link_ms) == ["plain", "trailing"]
        assert show.waits_closed.acquire(timeout=WAIT_S)
