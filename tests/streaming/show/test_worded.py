"""Shows with a bundle that takes texts as tokens: options, cues, the controller, another machine, another bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.runtime import worded
from tests.streaming.control.test_controller import Waiting
from tests.streaming.show.changing import named, stage
from tests.streaming.show.relay import check_same, run

BEGIN, END = worded.BEGIN, worded.END
PAD = [END] * worded.CLIP_LENGTH
EMPTY = worded.wanted_colour([BEGIN, *PAD][:8], [1])
RED = worded.wanted_colour([BEGIN, 513, *PAD][:8], [4, 1])
BLUE = worded.wanted_colour([BEGIN, 516, *PAD][:8], [5, 1])
LONG = "red " * 6 + "blue sea"
CUT = 'the text is too long: clip leaves out "blue sea"'


@pytest.fixture(scope="module")
def wordy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of two encoders that takes no seed."""
    return worded.build(tmp_path_factory.mktemp("bundles") / "worded", seeds=False)


def is_colour(frame: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(frame - np.round(wanted * 255)).max() <= 1)


def test_a_show_begins_without_a_prompt_and_follows_its_cues(wordy: Path) -> None:
    with stage(wordy, "--cue", "0.2:text=red", "--cue", "0.4:text=blue", "--dissolve", "0") as show:
        frames = show.frames(20)
        assert [next(i for i, f in enumerate(frames) if is_colour(f, c)) for c in (EMPTY, RED, BLUE)] == [0, 6, 12]
        assert is_colour(frames[-1], BLUE)
        assert show.controller.state()["takes"] == ["text"]
        assert show.said == []


def test_the_page_says_what_is_not_read_of_a_long_text(wordy: Path) -> None:
    with stage(wordy, "--text", "red") as show:
        assert is_colour(show.frames(1)[0], RED)
        waiting = Waiting(show.controller)
        show.controller.prepare({"text": LONG}, take_s=0.0)
        (cue,) = waiting.until(lambda cues: cues[0]["state"] == "on air")
        assert cue["note"] == CUT
        assert show.said == [CUT]
        wanted = worded.wanted_colour([BEGIN, *[513] * 6, END], [*[4] * 6, 5, 6, 1])
        assert is_colour(show.frames(1)[0], wanted)
        with pytest.raises(ValueError, match="worded takes no seed for its scene"):
            show.controller.prepare({"seed": 4})


def test_an_option_says_it_too(wordy: Path) -> None:
    with stage(wordy, "--text", LONG) as show:
        show.frames(1)
        assert show.said == [CUT]


@pytest.mark.parametrize("words", [(), ("--text", "red")])
def test_another_machine_goes_on_with_the_text(
    wordy: Path, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [wordy, *words, "--no-mark", "--pixels", "rgb"]
    acts = {15: lambda controller: controller.prepare({"text": "blue"}, take_s=0.0)} if words else {}
    whole = run(monkeypatch, options, 60, acts=acts)
    assert is_colour(whole.frames[60], BLUE if words else EMPTY)
    second = run(monkeypatch, options, 60, position=whole.position_at(30), gap=10)
    check_same(second, whole, 15)


def test_a_bundle_that_takes_words_alone_comes_on_air_without_one(wordy: Path, tmp_path: Path) -> None:
    other = named(worded.build(tmp_path / "seeds"), "seeds")
    with stage(other) as show:
        show.frames(2)
        show.player.change_bundle(wordy, 0.0)
        assert is_colour(show.frames(4)[-1], EMPTY)
        show.player.change_bundle(other, 0.0)
        assert not is_colour(show.frames(4)[-1], EMPTY)
