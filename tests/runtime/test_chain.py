"""Chains of generators: the same frames as by hand, bit for bit, and what belongs to which link."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from runtime import EngineError, Generator
from runtime.bundle.reader import read_manifest
from runtime.chain import Chain
from runtime.chaining.checks import size_for
from runtime.pixels.fitting import FrameFitter
from runtime.prompts.hints import Hints, Vector
from tests import flowing, tiny
from tests.runtime import trailing
from tests.runtime.compositing.test_composite import build_matte

ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(scope="session")
def trail(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 32 x 16 whose state is a moving average of its live frames."""
    return trailing.build(tmp_path_factory.mktemp("bundles") / "trailing")


@pytest.fixture(scope="session")
def matte(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 32 x 24 without states whose frames are its live input."""
    return build_matte(tmp_path_factory.mktemp("chain") / "matte")


class ByHand:
    """Two generators, the second fed by hand with the frames of the first."""

    def __init__(self, first: Path, second: Path, *, pixels: str = "rgb", **options: object) -> None:
        self.first = Generator.open(first, **options)  # type: ignore[arg-type]
        self.second = Generator.open(second, pixels=pixels, **options)  # type: ignore[arg-type]
        self.fit: Callable[[np.ndarray], np.ndarray] = lambda frame: frame

    def frame(self) -> np.ndarray:
        self.second.feed_live(self.fit(next(self.first)))
        return next(self.second).copy()

    def __enter__(self) -> ByHand:
        return self

    def __exit__(self, *_: object) -> None:
        self.first.close()
        self.second.close()


def check_same(chain: Chain, hand: ByHand, count: int = 12) -> None:
    """Compare the next frames."""
    for frame in islice(chain, count):
        assert np.array_equal(frame, hand.frame())


def fail(*_: object) -> None:
    """Be an engine that is gone."""
    raise EngineError("the device is gone")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_frames_are_those_of_feeding_by_hand(prompted_bundle: Path, trail: Path, engine: str, pixels: str) -> None:
    options = {"engine": engine, "precision": "fp32", "seed": 3}
    with (
        Chain.open([prompted_bundle, trail], pixels=pixels, **options) as chain,
        ByHand(prompted_bundle, trail, pixels=pixels, **options) as hand,
    ):
        check_same(chain, hand)
        assert chain.frame_index == 12

        chain.set_control("gain", 2)
        chain.set_control("trailing.share", 0.1)
        hand.first.set_control("gain", 2)
        hand.second.set_control("share", 0.1)
        check_same(chain, hand)

        scene = chain.prepare(seed=8)
        chain.take(scene, dissolve_s=0.2)
        hand.first.take(hand.first.prepare(seed=8), dissolve_s=0.2)
        check_same(chain, hand, 30)

        chain.skip(5)
        for _ in range(5):
            hand.frame()
        assert chain.frame_index == 59
        check_same(chain, hand)

        chain.reset()
        hand.first.reset()
        hand.second.reset()
        check_same(chain, hand)

        chain.reset(seed=9)
        hand.first.reset(seed=9)
        hand.second.reset(seed=9)
        chain.condition(text="the storm")
        hand.first.condition(text="the storm")
        check_same(chain, hand)
        assert chain.text == "the storm"


@pytest.mark.parametrize("engine", ENGINES)
def test_frames_of_another_size_are_fitted(bundle: Path, trail: Path, engine: str) -> None:
    options = {"engine": engine, "precision": "fp32"}
    with Chain.open([bundle, trail], **options) as chain, ByHand(bundle, trail, **options) as hand:
        hand.fit = FrameFitter((64, 48), (32, 16)).fit
        assert (chain.width, chain.height, chain.fps) == (32, 16, Fraction(30))
        check_same(chain, hand)
        chain.skip(3)
        for _ in range(3):
            hand.frame()
        check_same(chain, hand)


def test_a_link_without_states_may_be_skipped_alone(bundle: Path, matte: Path) -> None:
    options = {"engine": "onnxruntime"}
    with Chain.open([bundle, matte], **options) as chain, ByHand(bundle, matte, **options) as hand:
        hand.fit = FrameFitter((64, 48), (32, 24)).fit
        chain.skip(7)
        for _ in range(7):
            hand.frame()
        assert chain.links[0].frame_index == chain.links[1].frame_index == 7
        assert list(chain.link_ms.values()) == [0.0, 0.0], "no frame was made"
        check_same(chain, hand)


def test_a_live_input_with_a_mask_is_used_everywhere(bundle: Path, live_bundle: Path) -> None:
    options = {"engine": "onnxruntime"}
    with Chain.open([bundle, live_bundle], **options) as chain, ByHand(bundle, live_bundle, **options) as hand:
        check_same(chain, hand)
        chain.reset()
        hand.first.reset()
        hand.second.reset()
        check_same(chain, hand)


def test_a_view_of_a_live_frame_is_checked_and_shown_everywhere(bundle: Path, live_bundle: Path) -> None:
    light, dark = (np.full((48, 64, 3), level, np.uint8) for level in (200, 20))
    with Generator.open(live_bundle, engine="onnxruntime") as generator:
        assert generator.live_size == (64, 48)
        generator.feed_view(light)
        generator.feed_view(dark)  # the mask that waits is not forgotten
        assert np.all(next(generator)[8:] == 20)
        generator.feed_live(light, np.zeros((48, 64), np.uint8))
        assert not np.all(next(generator)[8:] == 200)
        generator.feed_view(light)
        assert np.all(next(generator)[8:] == 200)
        for wrong in (light[:, :32], light.astype(np.float32), light[..., 0]):
            with pytest.raises(ValueError, match=r"a live frame must be uint8 \(48, 64, 3\), got"):
                generator.feed_view(wrong)
    with Generator.open(bundle, engine="onnxruntime") as generator:
        assert generator.live_size is None
        with pytest.raises(ValueError, match="tiny has no live input"):
            generator.feed_view(light)


def test_three_links_and_a_bundle_that_follows_itself(prompted_bundle: Path, trail: Path) -> None:
    with (
        Chain.open([prompted_bundle, trail, trail], engine="onnxruntime") as chain,
        ByHand(prompted_bundle, trail, engine="onnxruntime") as hand,
        Generator.open(trail, engine="onnxruntime") as third,
    ):
        names = ["gain", "drift", "seed", "trailing.share", "trailing-2.share"]
        assert list(chain.controls) == [spec.name for spec in chain.control_specs] == names
        chain.set_control("trailing-2.share", 0.25)
        third.set_control("share", 0.25)
        assert chain.controls["trailing.share"] == 0.5
        assert chain.controls["trailing-2.share"] == 0.25
        for frame in islice(chain, 10):
            third.feed_live(hand.frame())
            assert np.array_equal(frame, next(third))
        assert list(chain.link_ms) == ["prompted", "trailing", "trailing-2"]
        assert all(ms > 0 for ms in chain.link_ms.values())


def test_the_first_link_takes_prompts_and_the_live_input(prompted_bundle: Path, live_bundle: Path, trail: Path) -> None:
    with Chain.open([prompted_bundle, trail], engine="onnxruntime") as chain:
        assert chain.takes == ("text", "image", "clip", "past", "seed")
        assert not chain.has_live_input
        assert chain.manifest.name == "prompted"
        with pytest.raises(ValueError, match="prompted has no live input"):
            chain.feed_live(np.zeros((16, 32, 3), np.uint8))
        chain.fit = "contain"
        assert chain.links[0].fit == chain.fit == "contain"
        chain.check(text="the storm")
        assert (chain.engine, chain.precision, chain.detail) == ("onnxruntime", "fp32", "full")
        assert not chain.has_half_detail
        assert "prompted: " in chain.engine_reason
        assert "; trailing: " in chain.engine_reason
        with pytest.raises(ValueError, match="ask for one"):
            chain.device_frame()
    with Chain.open([live_bundle, trail], engine="onnxruntime") as chain:
        assert chain.has_live_input
        chain.set_control("trailing.share", 1)
        chain.feed_live(np.full((48, 64, 3), 200, np.uint8))
        assert abs(int(next(chain)[12, 16, 0]) - 200) <= 1


def test_a_bad_control_is_one_sentence(prompted_bundle: Path, trail: Path) -> None:
    with Chain.open([prompted_bundle, trail], engine="onnxruntime") as chain:
        for name, value, sentence in (
            ("share", 1, r'there is no control "share" \(known: drift, gain, seed, trailing.share\)'),
            ("trailing.shar", 1, r'there is no control "trailing.shar" \(did you mean "trailing.share"\?\)'),
            ("trailing.share", 2, "^trailing.share must be from 0 to 1, got 2$"),
            ("gain", 3, "^gain must be from 0 to 2, got 3$"),
        ):
            for call in (chain.check_control, chain.set_control):
                with pytest.raises(ValueError, match=sentence):
                    call(name, value)
        assert chain.controls == {"gain": 1, "drift": 1, "seed": 0, "trailing.share": 0.5}


def test_what_does_not_fit_is_refused(bundle: Path, trail: Path, matte: Path, tmp_path: Path) -> None:
    grey = tiny.build(tmp_path / "tiny")
    with pytest.raises(ValueError, match="tiny cannot follow trailing, as it has no live input: use it as the first"):
        Chain.open([trail, grey], engine="onnxruntime")
    with pytest.raises(ValueError, match="trailing makes frames of 32x16 only, and is the last bundle of the chain"):
        Chain.open([bundle, trail], engine="onnxruntime", size=(64, 48))
    with pytest.raises(ValueError, match="a chain has at least one bundle, got none"):
        Chain.open([])
    with Chain.open([bundle, trail], engine="onnxruntime", size=(32, 16)) as chain:
        assert next(chain).shape == (16, 32, 3)
    with (
        Generator.open(bundle, engine="onnxruntime", pixels="i420") as first,
        Generator.open(matte, engine="onnxruntime") as second,
        pytest.raises(ValueError, match='tiny was opened with "i420", expected "rgb"'),
    ):
        Chain([first, second])


def test_everything_is_closed(bundle: Path, trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[str] = []
    close, open_one = Generator.close, Generator.open
    monkeypatch.setattr(Generator, "close", lambda self: (closed.append(self.manifest.name), close(self))[1])
    with Chain.open([bundle, trail], engine="onnxruntime") as chain:
        next(chain)
    assert sorted(closed) == ["tiny", "trailing"]
    with pytest.raises(ValueError, match="closed"):
        next(chain)
    chain.close()

    closed.clear()

    def open_first(path: Path, **options: object) -> Generator:
        if path == trail:
            raise EngineError("refused")
        return open_one(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Generator, "open", open_first)
    with pytest.raises(EngineError, match="refused"):
        Chain.open([bundle, trail], engine="onnxruntime")
    assert closed == ["tiny"]


def test_another_engine_takes_over_in_one_link(
    prompted_bundle: Path, trail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with (
        Chain.open([prompted_bundle, trail], engine="onnxruntime,openvino", precision="fp32") as chain,
        ByHand(prompted_bundle, trail, engine="onnxruntime", precision="fp32") as hand,
    ):
        chain.on_fall_back = said.append
        check_same(chain, hand)
        monkeypatch.setattr(chain.links[1]._step, "run", fail)
        for frame in islice(chain, 12):
            assert np.abs(frame.astype(int) - hand.frame()).max() <= 1
        assert (chain.engine, chain.precision) == ("onnxruntime, openvino", "fp32")
    assert said == [
        "trailing: openvino fp32 took over from onnxruntime fp32 (the device is gone); the show continues where it was"
    ]


def failing_chain(paths: list[Path], number: int, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Open a chain; from its fourth frame on, no engine runs one of its links."""
    chain = Chain.open(paths, engine="onnxruntime", pixels="i420" if paths[-1].name == "trailing" else "rgb")
    for _ in islice(chain, 3):
        pass
    monkeypatch.setattr(chain.links[number]._step, "run", fail)
    return chain


def frames(chain: Chain, count: int) -> Iterator[np.ndarray]:
    """Yield copies."""
    for frame in islice(chain, count):
        yield frame.copy()


def test_a_failed_link_ends_the_frames_unless_somebody_wants_it_left_out(
    prompted_bundle: Path, trail: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing_chain([prompted_bundle, trail], 1, monkeypatch) as chain, pytest.raises(EngineError, match="is gone"):
        next(chain)
    with failing_chain([prompted_bundle, trail], 0, monkeypatch) as chain:
        chain.on_left_out = fail
        with pytest.raises(EngineError, match="is gone"):
            next(chain)
        assert len(chain.links) == 2, "nothing replaces the first link"


def test_the_chain_goes_on_without_its_last_link(bundle: Path, trail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with failing_chain([bundle, trail], 1, monkeypatch) as chain, Generator.open(bundle, engine="onnxruntime") as alone:
        chain.on_left_out = said.append
        fitter = FrameFitter((64, 48), (32, 16), "i420")
        alone.skip(3)
        for frame in frames(chain, 5):
            assert frame.shape == (24, 32)
            assert np.array_equal(frame, fitter.fit(next(alone)))
        assert list(chain.controls) == ["sway", "drift"]
        assert list(chain.link_ms) == ["tiny"]
        with pytest.raises(ValueError, match="the last link was left out"):
            chain.device_frame()
    assert len(said) == 1
    assert said[0].startswith("trailing is left out from now on: the device is gone")


def test_the_chain_goes_on_without_a_link_in_the_middle(
    bundle: Path, trail: Path, matte: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with failing_chain([bundle, trail, matte], 1, monkeypatch) as chain:
        said: list[str] = []
        chain.on_left_out = said.append
        left = list(frames(chain, 5))
    with Chain.open([bundle, matte], engine="onnxruntime") as short:
        short.skip(3)
        assert all(np.array_equal(one, other) for one, other in zip(left, frames(short, 5), strict=True))
    assert len(said) == 1


def test_a_bundle_of_any_size_makes_frames_that_fit_the_next_one(trail: Path) -> None:
    landscape = read_manifest(Path(__file__).parents[2] / "bundles" / "landscape")
    then = read_manifest(trail)
    live = then.step.only_input("live")
    assert live is not None
    assert size_for(landscape, then) == (live.shape[2], live.shape[1])
    assert size_for(then, then) is None, "schema 1 has one size"
    assert size_for(landscape, landscape) is None, "no live input"


def test_motion_is_drawn_over_the_scenes_of_the_first_link(tmp_path: Path) -> None:
    drawn = Hints((Vector(0.5, 0.5, 0.1, 0.0),))
    last = tiny.build(tmp_path / "last", memories=False, live=True)
    with Chain.open([flowing.build(tmp_path / "first"), last], engine="onnxruntime") as chain:
        assert chain.takes_hints
        assert chain.shown_scene is None
        next(chain)
        chain.condition(hints=drawn)
        assert chain.shown_scene is not None
        assert chain.shown_scene.hints == drawn
        assert not chain.redraw(chain.shown_scene, Hints()).hints
