"""Live frames that are like the last one used are left out, and the frame before is returned again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from export.from_onnx.importer import ImportOptions, import_model
from runtime import Generator
from runtime.engines.engine import NullSession
from runtime.similar_frames import MAX_SKIPPED, SETTLE_FRAMES, SimilarFrames
from runtime.step_runner import StepRunner
from streaming.arguments import parse
from streaming.control.controller import ShowController
from streaming.show.player import Player
from tests.export.from_onnx import foreign
from tests.streaming.doubles import WAIT_S

SIZE = (32, 48)  # height, width


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose frame is the live frame, a level brighter with every run of the step graph, and a control."""
    folder = tmp_path_factory.mktemp("counting")
    body = """net (float[1,3,32,48] x, float[1] count, float[1] gain) => (float[1,3,32,48] y, float[1] next) {
      level = Constant <value = float {0.0039215688}> ()
      one = Constant <value = float[1] {1.0}> ()
      low = Constant <value = float {0.0}> ()
      high = Constant <value = float {1.0}> ()
      next = Add (count, one)
      added = Mul (count, level)
      scaled = Mul (x, gain)
      sum = Add (scaled, added)
      y = Clip (sum, low, high)
    }"""
    model = foreign.write(folder / "net.onnx", body)
    roles = ("x=live:0..1", "count=state:next", "gain=control:0.5", "y=frame:0..1")
    import_model(model, folder / "bundle", options=ImportOptions(roles=roles, loop_frames=8, preview=False))
    return folder / "bundle"


@pytest.fixture(scope="module")
def delaying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose frame is the live frame of three runs before, as a stream batch of four steps shows it."""
    folder = tmp_path_factory.mktemp("delaying")
    picture = "float[1,3,32,48]"
    inputs = ", ".join(f"{picture} {name}" for name in ("x", "a", "b", "c"))
    outputs = ", ".join(f"{picture} {name}" for name in ("y", "next_a", "next_b", "next_c"))
    body = f"""net ({inputs}) => ({outputs}) {{
      next_a = Identity (x)
      next_b = Identity (a)
      next_c = Identity (b)
      y = Identity (c)
    }}"""
    model = foreign.write(folder / "net.onnx", body)
    roles = ("x=live:0..1", *(f"{name}=state:next_{name}" for name in "abc"), "y=frame:0..1")
    import_model(model, folder / "bundle", options=ImportOptions(roles=roles, loop_frames=8, preview=False))
    return folder / "bundle"


@pytest.fixture
def generator(counting: Path) -> Iterator[Generator]:
    with Generator.open(counting, engine="onnxruntime", precision="fp32") as opened:
        opened.skip_similar = 0.98
        yield opened


def picture(level: int) -> np.ndarray:
    """Return a frame: a grey gradient, brighter by a level."""
    row = np.linspace(0, 100, SIZE[1]).astype(np.uint8)
    return np.repeat(np.broadcast_to(row + np.uint8(level), SIZE)[..., np.newaxis], 3, axis=2)


def brightness(generator: Generator) -> float:
    return float(next(generator).mean())


def settle(generator: Generator) -> float:
    """Make frames of a still input until the next ones may be left out; return the brightness of the last one."""
    values = []
    for _ in range(1 + SETTLE_FRAMES):
        generator.feed_live(picture(0))
        values.append(brightness(generator))
    assert len(set(values)) == 1 + SETTLE_FRAMES, "none was left out"
    return values[-1]


def test_a_still_input_runs_the_graph_once_in_eleven_frames(generator: Generator) -> None:
    settle(generator)
    values = []
    for _ in range(2 * (MAX_SKIPPED + 1)):
        generator.feed_live(picture(0))
        values.append(brightness(generator))
    assert len(set(values)) == 3
    assert generator.skipped == 2 * MAX_SKIPPED
    assert generator.frame_index == 1 + SETTLE_FRAMES + 2 * (MAX_SKIPPED + 1)


def test_an_input_without_new_frames_is_still(generator: Generator) -> None:
    first = settle(generator)
    assert [brightness(generator) for _ in range(MAX_SKIPPED)] == [first] * MAX_SKIPPED
    assert brightness(generator) != first


def test_another_picture_is_used_at_once(generator: Generator) -> None:
    before = settle(generator)
    generator.feed_live(255 - picture(0))
    assert brightness(generator) > before + 20
    assert generator.skipped == 0


def test_a_control_is_used_at_once(generator: Generator) -> None:
    before = settle(generator)
    generator.set_control("gain", 1.0)
    assert brightness(generator) > before + 10


def test_skipped_frames_are_followed_by_a_new_one(generator: Generator) -> None:
    before = settle(generator)
    generator.skip(3, before_each=lambda: generator.feed_live(picture(0)))
    assert brightness(generator) > before


@pytest.mark.parametrize("how", ["reset", "go_to"])
def test_another_place_begins_with_a_new_frame(how: str, generator: Generator) -> None:
    begins = generator.position()
    settle(generator)
    if how == "reset":
        generator.reset()
    else:
        generator.go_to(begins)
    settle(generator)


def test_a_change_passes_through_the_states_before_frames_are_repeated(delaying: Path) -> None:
    with Generator.open(delaying, engine="onnxruntime", precision="fp32") as generator:
        generator.skip_similar = 0.98
        shown = []
        for level in (0, 100, 30):
            for _ in range(30):
                generator.feed_live(picture(level))
                shown.append(round(brightness(generator) - float(picture(0).mean())))
        assert shown[3:] == [*[0] * 30, *[100] * 30, *[30] * 27]
        assert generator.skipped == 3 * (30 - 1 - SETTLE_FRAMES - 1)


def test_slow_changes_do_not_add_up_while_one_settles() -> None:
    filter_ = SimilarFrames(0.9, settle=4)
    assert [filter_.may_skip(picture(level)) for level in (0, 8, 16, 24, 32)] == [False] * 5
    assert [filter_.may_skip(picture(32)) for _ in range(5)] == [False] * 4 + [True], "32 is another picture than 0"


def test_a_session_that_has_made_no_frame_is_not_asked_for_one() -> None:
    runner = StepRunner(NullSession(), [], open_half=NullSession)
    assert not runner.has_frame
    runner.run()
    assert runner.has_frame
    runner.use_half(True)
    assert runner._half is not None
    runner._half.result(WAIT_S)
    runner.use_half(True)
    assert not runner.has_frame
    runner.run()
    assert runner.has_frame


def test_without_the_option_every_frame_is_made(generator: Generator) -> None:
    generator.skip_similar = None
    values = []
    for _ in range(5):
        generator.feed_live(picture(0))
        values.append(brightness(generator))
    assert len(set(values)) == 5
    assert (generator.skipped, generator.skip_similar) == (0, None)


def test_what_is_less_alike_is_skipped_less_often() -> None:
    shares = []
    for step in (0, 2, 4, 40):
        filter_ = SimilarFrames(0.98)
        for number in range(200):
            filter_.may_skip(picture(step * (number % 2)))
        shares.append(filter_.skipped / 200)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9
    assert shares[1] > shares[2] > 0
    assert shares[3] < 0.5


def test_even_greys_are_alike_only_if_they_are_as_bright() -> None:
    filter_ = SimilarFrames(0.9)
    assert not filter_.may_skip(np.full((8, 8, 3), 130, np.uint8))
    assert filter_.may_skip(np.full((8, 8, 3), 130, np.uint8))
    assert not filter_.may_skip(np.full((8, 8, 3), 255, np.uint8))


def test_bundles_that_cannot_say_so(bundle: Path, live_bundle: Path, generator: Generator) -> None:
    for folder, why in ((bundle, "no live input"), (live_bundle, "takes a mask")):
        with Generator.open(folder, engine="onnxruntime") as other, pytest.raises(ValueError, match=why):
            other.skip_similar = 0.9
    for value in (0.0, 1.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0 and below 1"):
            generator.skip_similar = value


def test_the_show_has_the_option(counting: Path, bundle: Path) -> None:
    words = [str(counting), "--input", "testcard", "--skip-similar", "0.9", "--engine", "onnxruntime"]
    with Player(parse(words), counting, ShowController(), lambda _: None) as player:
        assert isinstance(player.generator, Generator)
        assert player.generator.skip_similar == 0.9
        assert player.repeated == 0
    words = [str(bundle), "--skip-similar", "0.9", "--engine", "onnxruntime"]
    with pytest.raises(ValueError, match="no live input"):
        Player(parse(words), bundle, ShowController(), lambda _: None)
    with pytest.raises(ValueError, match=r"similarity above 0 and below 1, e.g. 0.98"):
        parse([str(bundle), "--skip-similar", "98"])
