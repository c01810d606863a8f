"""Pictures from texts and seeds: which bundles paint, and when a picture is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime import Generator
from runtime.bundle.reader import read_manifest
from runtime.painting import MAX_FRAMES, PaintedFrame, PicturePainter, kinds_painted
from tests import moving, painters, tiny
from tests.runtime import prompted, worded


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return painters.build(tmp_path_factory.mktemp("painting") / "painter")


def frames_of(bundle: Path, **words: Any) -> list[PaintedFrame]:
    with PicturePainter.open(bundle, engine="onnxruntime", threads=1) as painter:
        return list(painter.paint(**words))


@pytest.mark.parametrize(
    ("options", "kinds"),
    [({}, ("text", "seed")), ({"text": False}, ("seed",)), ({"seed": False}, ("text",))],
)
def test_it_paints_from_what_its_bundle_takes(options: dict[str, bool], kinds: tuple[str, ...], tmp_path: Path) -> None:
    assert kinds_painted(read_manifest(painters.build(tmp_path / "painter", **options))) == kinds


def test_bundles_that_cannot_paint_are_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="it changes the pictures of a live input; name a bundle that makes pictures"):
        PicturePainter.open(painters.build(tmp_path / "live", live=True))
    fixed = painters.build(tmp_path / "fixed", text=False, seed=False)
    with pytest.raises(ValueError, match="its frames depend neither on a text nor on a seed"):
        PicturePainter.open(fixed)
    with pytest.raises(ValueError, match="depend neither on a text nor on a seed"):
        kinds_painted(read_manifest(moving.build(tmp_path / "moving", paint=False)))


def test_words_and_seeds_decide_and_are_repeatable(bundle: Path) -> None:
    with PicturePainter.open(bundle, engine="onnxruntime", threads=1) as painter:
        made = [list(painter.paint(text, seed)) for text, seed in (("sea", 1), ("sea", 2), ("storm", 1), ("sea", 1))]
    assert [len(frames) for frames in made] == [1, 1, 1, 1], "without states one frame is the picture"
    first, second, third, again = (frames[-1].picture for frames in made)
    assert first.shape == (painters.HEIGHT, painters.WIDTH, 3)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_controls_hold_for_one_picture(bundle: Path) -> None:
    with PicturePainter.open(bundle, engine="onnxruntime", threads=1) as painter:
        shaded = next(painter.paint("sea", 1, {"shade": 1.0})).picture
        plain = next(painter.paint("sea", 1)).picture
        with pytest.raises(ValueError, match="shade must be from"):
            next(painter.paint("sea", 1, {"shade": 2.0}))
    assert np.all(shaded[:, -1] == 0)
    assert np.array_equal(plain[:, -1], plain[:, 0])


def test_a_stream_batch_is_complete_when_nothing_changes_any_more(bundle: Path, tmp_path: Path) -> None:
    staged = painters.build(tmp_path / "staged", stages=3)
    frames = frames_of(staged, text="sea", seed=1)
    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5], "full after 4, and at rest after one more"
    assert [frame.is_complete for frame in frames] == [False] * 4 + [True]
    assert np.all(frames[2].picture == 0), "frames alike that come first are not the picture"
    assert np.array_equal(frames[-1].picture, frames_of(bundle, text="sea", seed=1)[-1].picture)


def test_what_never_rests_ends(tmp_path: Path) -> None:
    folder = prompted.build(tmp_path / "prompted")
    frames = frames_of(folder, text="sea", seed=4)
    assert len(frames) == MAX_FRAMES
    assert frames[-1].is_complete
    with Generator.open(folder, engine="onnxruntime", threads=1, seed=4, renewal=False) as generator:
        generator.condition(text="sea", seed=4)
        expected = [next(generator).copy() for _ in range(MAX_FRAMES)]
    assert all(np.array_equal(frame.picture, one) for frame, one in zip(frames, expected, strict=True))


def test_the_next_picture_begins_anew_after_one_that_was_left(tmp_path: Path) -> None:
    staged = painters.build(tmp_path / "staged", stages=3)
    with PicturePainter.open(staged, engine="onnxruntime", threads=1) as painter:
        for frame in painter.paint("storm", 9):
            if frame.number == 4:
                break
        again = list(painter.paint("sea", 1))
    assert np.all(again[0].picture == 0), "the states are zeros again"
    assert len(again) == 5


def test_noise_of_frames_is_a_seed_too(tmp_path: Path) -> None:
    folder = tiny.build(tmp_path / "tiny", memories=False)
    assert kinds_painted(read_manifest(folder)) == ("seed",)
    with PicturePainter.open(folder, engine="onnxruntime", threads=1) as painter:
        one, two, again = (list(painter.paint(seed=seed))[-1].picture for seed in (1, 2, 1))
        with pytest.raises(ValueError, match="tiny takes no text: give a seed"):
            next(painter.paint(text="sea"))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)


def test_texts_as_tokens_and_the_empty_text(tmp_path: Path) -> None:
    with PicturePainter.open(worded.build(tmp_path / "worded", seeds=False), engine="onnxruntime") as painter:
        assert painter.takes == ("text",)
        red, empty = (next(painter.paint(text)).picture[0, 0] for text in ("red", None))
    pad = [worded.END] * worded.CLIP_LENGTH
    for colour, clip, t5 in ((red, [worded.BEGIN, 513, *pad], [4, 1]), (empty, [worded.BEGIN, *pad], [1])):
        wanted = worded.wanted_colour(clip[: worded.CLIP_LENGTH], t5)
        assert np.abs(colour - np.round(wanted * 255)).max() <= 1


def test_a_bundle_of_schema_2_paints_at_the_size_of_its_paint_graph(tmp_path: Path) -> None:
    frames = frames_of(moving.build(tmp_path / "moving"), seed=3)
    assert len(frames) == 1, "its first frame is the picture"
    assert frames[0].picture.shape == (*moving.PAINTED, 3)
    assert np.ptp(frames[0].picture.reshape(-1, 3), axis=0).max() <= 2, "one colour"
