from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import moving_square
from training.config import FootageConfig
from training.data.footage import ClipSampler, FootageLibrary, cache_folder, open_footage, split, zoomed
from training.data.shards import write_shards
from training.data.takes import ShardSettings, TakeRecord, UnreadableTakeError
from training.sampling import write_mp4

SETTINGS = FootageConfig(fps=25, short_side=72, crop_min=64, crop_max=72, horizon_frames=8)
MOVES = {"right": (2, 0), "left": (-2, 0), "down": (0, 2), "up": (0, -2), "slow": (1, 0), "twice": (2, 1)}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of 40 frames in five scenes (`right` and `slow` share one), and captions.csv."""
    folder = tmp_path_factory.mktemp("videos")
    rows = ["file,caption,scene,class,licence,source"]
    for name, move in MOVES.items():
        write_mp4(folder / f"{name}.mp4", list(moving_square(*move)), 25)
        scene = "right" if name == "slow" else name
        rows.append(f"{name}.mp4,a square that moves {name},{scene},{name[0]},CC0-1.0,the tests")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def library(videos: Path, cache: Path) -> FootageLibrary:
    return open_footage(videos, SETTINGS, cache, workers=0)


def both(library: FootageLibrary, config: FootageConfig = SETTINGS) -> list[set[str]]:
    """Return the scenes on each side of the split."""
    return [{library.take(span.take).scene for span in split(library, config, side)} for side in ("train", "heldout")]


def sampler(library: FootageLibrary, config: FootageConfig = SETTINGS, seed: int = 3) -> ClipSampler:
    return ClipSampler(split(library, config, "train"), config, 64, 64, seed)


def test_takes_know_their_video(library: FootageLibrary) -> None:
    takes = {library.take(index).video: library.take(index) for index in range(len(library))}
    assert takes.keys() == {f"{name}.mp4" for name in MOVES}
    slow = takes["slow.mp4"]
    assert (slow.scene, slow.caption, slow.label) == ("right", "a square that moves slow", "s")
    assert (slow.first, slow.length, slow.total, slow.height, slow.width, slow.fps) == (0, 40, 40, 72, 72, 25.0)
    assert library.provenance() == sorted((f"{name}.mp4", "CC0-1.0", "the tests") for name in MOVES)


def test_frames_and_flow_of_a_take(library: FootageLibrary) -> None:
    index = next(index for index in range(len(library)) if library.take(index).video == "right.mp4")
    frames = library.frames(index, [0, 5])
    assert frames.shape == (2, 72, 72, 3)
    assert frames.dtype == np.uint8
    assert np.abs(frames[1].astype(int) - np.roll(frames[0], 9, axis=1)).mean() < 6  # 2 of 80 are 1.8 of 72 pixels
    flow = library.mean_flow(index, 0, 8)
    assert flow.shape == (18, 18, 2)
    assert flow.dtype == np.float32
    assert np.quantile(flow[..., 0], 0.98) > 1


def test_a_pickled_library_opens_its_shards_again(library: FootageLibrary) -> None:
    library.frames(0, [0])
    again = pickle.loads(pickle.dumps(library))
    assert np.array_equal(again.frames(0, [0, 7]), library.frames(0, [0, 7]))
    one, two = sampler(library), sampler(again)
    assert torch.equal(one.draw(1, 4, [0, 8]).frames, two.draw(1, 4, [0, 8]).frames)


def test_shards_and_videos_are_opened_alike(videos: Path, library: FootageLibrary, tmp_path: Path) -> None:
    write_shards([videos], tmp_path / "shards", ShardSettings(short_side=72), 0, progress=False)
    direct = open_footage(tmp_path / "shards", SETTINGS)
    assert torch.equal(sampler(direct).draw(0, 4, [0, 8]).frames, sampler(library).draw(0, 4, [0, 8]).frames)
    small = replace(SETTINGS, short_side=96, crop_max=96)
    with pytest.raises(ValueError, match=r"have a short side of 72 pixels, footage.crop_max is 96"):
        open_footage(tmp_path / "shards", small)


def test_footage_that_changes_is_picked_up(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("right", "left"):
        (folder / f"{name}.mp4").write_bytes((videos / f"{name}.mp4").read_bytes())
    assert len(open_footage(folder, SETTINGS, tmp_path / "cache", workers=0)) == 2
    assert "2 videos -> 2 takes" in capsys.readouterr().out
    assert len(open_footage(folder, SETTINGS, tmp_path / "cache", workers=0)) == 2
    assert capsys.readouterr().out == ""
    (folder / "down.mp4").write_bytes((videos / "down.mp4").read_bytes())
    (folder / "left.mp4").unlink()
    changed = open_footage(folder, SETTINGS, tmp_path / "cache", workers=0)
    assert [changed.take(index).video for index in range(len(changed))] == ["down.mp4", "right.mp4"]


def test_scenes_are_on_one_side_only(library: FootageLibrary) -> None:
    train, held_out = both(library)
    assert train | held_out == {"right", "left", "down", "up", "twice"}
    assert not train & held_out
    assert held_out


def test_one_scene_holds_nothing_out(videos: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "only.mp4").write_bytes((videos / "right.mp4").read_bytes())
    library = open_footage(tmp_path / "in", SETTINGS, tmp_path / "cache", workers=0)
    assert both(library) == [{"only"}, set()]
    empty = ClipSampler(split(library, SETTINGS, "heldout"), SETTINGS, 64, 64, 0)
    assert not empty.scenes
    with pytest.raises(ValueError, match="this side of the split is empty"):
        empty.draw(0, 1, [0])


def test_a_split_by_time_leaves_a_gap_of_one_horizon(library: FootageLibrary) -> None:
    settings = replace(SETTINGS, holdout="time", holdout_fraction=0.5)
    train, held_out = (split(library, settings, side) for side in ("train", "heldout"))
    assert [(span.first, span.last) for span in train] == [(0, 20)] * 6
    assert [(span.first, span.last) for span in held_out] == [(28, 40)] * 6


def test_a_split_by_time_counts_in_the_whole_video(videos: Path, tmp_path: Path) -> None:
    write_shards([videos], tmp_path / "out", ShardSettings(72, max_frames=20, min_frames=10), 0, progress=False)
    library = open_footage(tmp_path / "out", SETTINGS)  # two takes of 20 frames each
    settings = replace(SETTINGS, holdout="time", holdout_fraction=0.25)  # border at 30, a gap until 38
    train = split(library, settings, "train")
    spans = {(library.take(span.take).first, span.first, span.last) for span in train}
    assert spans == {(0, 0, 20), (20, 0, 10)}
    assert not split(library, settings, "heldout")


def test_short_takes_are_left_out_and_counted(library: FootageLibrary, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="has no clip of 41 frames to train on"):
        split(library, replace(SETTINGS, horizon_frames=40), "train")
    assert capsys.readouterr().out.endswith("takes are left out: shorter than 41 frames\n")
    assert split(library, replace(SETTINGS, horizon_frames=39), "train")
    with pytest.raises(ValueError, match='expected "train" or "heldout"'):
        split(library, SETTINGS, "test")


def test_an_epoch_visits_every_scene_once_and_takes_take_turns(library: FootageLibrary) -> None:
    clips = sampler(library)
    every = clips.num_scenes
    epochs = [
        [clips.spans.library.take(clips.span(epoch * every + position).take) for position in range(every)]
        for epoch in range(12)
    ]
    for epoch in epochs:
        assert sorted(take.scene for take in epoch) == clips.scenes
    assert len({tuple(take.scene for take in epoch) for epoch in epochs}) > 6
    counts = Counter(take.video for epoch in epochs for take in epoch)
    by_scene: dict[str, list[int]] = {}
    for take in {take for epoch in epochs for take in epoch}:
        by_scene.setdefault(take.scene, []).append(counts[take.video])
    assert all(sum(numbers) == 12 and len(set(numbers)) == 1 for numbers in by_scene.values())


def test_takes_that_move_more_are_drawn_more_often(library: FootageLibrary) -> None:
    config = replace(SETTINGS, motion_weight=2.0, holdout="time")
    clips = sampler(library, config)
    drawn = Counter(library.take(clips.span(index).take).video for index in range(4000))
    fast = clips._speed(next(span for span in clips.spans if library.take(span.take).video == "right.mp4"))
    slow = clips._speed(next(span for span in clips.spans if library.take(span.take).video == "slow.mp4"))
    assert fast > 1.2 * slow
    assert drawn["right.mp4"] / drawn["slow.mp4"] == pytest.approx((fast / slow) ** 2, rel=0.25)
    again = sampler(library, config)
    assert [again.span(index) for index in (3999, 5)] == [clips.span(index) for index in (3999, 5)]
    assert [sampler(library, config, 4).span(index) for index in range(20)] != [
        clips.span(index) for index in range(20)
    ]
    assert torch.equal(pickle.loads(pickle.dumps(clips)).draw(1, 4, [0]).frames, clips.draw(1, 4, [0]).frames)


def test_a_take_that_cannot_be_read_counts_as_slow(library: FootageLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(*_: object) -> TakeRecord:
        raise UnreadableTakeError("a damaged record")

    monkeypatch.setattr(library, "record", unreadable)
    clips = sampler(library, replace(SETTINGS, motion_weight=1.0))
    assert len({clips.span(index).take for index in range(100)}) == len(clips.spans), "all are equally slow"


def test_clips_depend_on_seed_and_number_alone(library: FootageLibrary) -> None:
    one, two = sampler(library), sampler(library)
    one.draw(0, 4, [1, 2])  # what was drawn before must not matter
    first, second = one.draw(5, 4, [1, 8]), two.draw(5, 4, [1, 8])
    assert torch.equal(first.frames, second.frames)
    assert torch.equal(first.flow, second.flow)
    assert torch.equal(first.sway, second.sway)
    assert first[2:6] == second[2:6]
    assert not torch.equal(first.frames, two.draw(6, 4, [1, 8]).frames)
    assert not torch.equal(first.frames, sampler(library, seed=4).draw(5, 4, [1, 8]).frames)
    single = two.clip(22, [8])  # 5 * 4 + 2
    assert np.array_equal(single.frames[0], first.frames[2, 1].numpy())
    assert (single.name, single.caption, single.scene, single.label) == tuple(column[2] for column in (
        first.names, first.captions, first.scenes, first.labels,
    ))  # fmt: skip


def test_shapes_types_and_the_direction_of_the_flow(library: FootageLibrary) -> None:
    whole = replace(SETTINGS, holdout="time", holdout_fraction=0.01)
    spans = split(library, whole, "train")
    for name, sign_x, sign_y in (("right", 1, 0), ("left", -1, 0), ("down", 0, 1), ("up", 0, -1)):
        batch = ClipSampler(spans.of([f"{name}.mp4"]), SETTINGS, 64, 64, seed=0).draw(0, 6, [0, 1, 8])
        assert batch.frames.shape == (6, 3, 3, 64, 64)
        assert batch.frames.dtype == torch.uint8
        assert batch.flow.shape == (6, 2, 16, 16)
        assert batch.flow.dtype == torch.float32
        assert batch.captions == [f"a square that moves {name}"] * 6
        # The square moves 2 pixels of 80 per frame, so about 1.8 of 64 to 72; only its edges show it.
        for axis, sign in ((0, sign_x), (1, sign_y)):
            if sign:
                assert np.quantile(sign * batch.flow[:, axis].numpy(), 0.98) > 1.0


def test_flipped_clips_flow_the_other_way(library: FootageLibrary) -> None:
    settings = replace(SETTINGS, flip=True, holdout="time", holdout_fraction=0.01)
    spans = split(library, settings, "train").of(["right.mp4"])
    flows = ClipSampler(spans, settings, 64, 64, seed=0).draw(0, 16, [1]).flow[:, 0].numpy()
    directions = {bool(flow[np.unravel_index(np.abs(flow).argmax(), flow.shape)] > 0) for flow in flows}
    assert directions == {True, False}


def test_sway_is_in_pixels_of_the_clip_and_mirrored_with_it(
    library: FootageLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    ramp = np.broadcast_to(np.arange(18, dtype=np.float32), (18, 18))  # more of it on the right
    monkeypatch.setattr(TakeRecord, "sway", lambda self, start, horizon: np.ascontiguousarray(ramp))
    settings = replace(SETTINGS, crop_min=72, crop_max=72)  # the whole of a take: 72 pixels become 64
    straight = ClipSampler(split(library, settings, "train"), settings, 64, 64, seed=0).draw(0, 8, [0]).sway
    assert straight.shape == (8, 1, 16, 16)
    assert straight.dtype == torch.float32
    assert torch.allclose(straight.mean(), torch.tensor(8.5 * 64 / 72), rtol=1e-3)
    assert (straight[..., 1:] > straight[..., :-1]).all()
    flipped = replace(settings, flip=True)
    seen = ClipSampler(split(library, flipped, "train"), flipped, 64, 64, seed=0).draw(0, 16, [0]).sway
    is_mirrored = torch.tensor([torch.equal(one, straight[0].flip(-1)) for one in seen])
    assert 0 < is_mirrored.sum() < 16
    assert all(torch.equal(one, straight[0]) for one in seen[~is_mirrored])


def test_crops_of_a_part_are_as_much_smaller_as_the_part() -> None:
    assert zoomed(SETTINGS, 0.5) == replace(SETTINGS, crop_min=32, crop_max=36)
    assert zoomed(SETTINGS, 1.0) == SETTINGS
    with pytest.raises(ValueError, match="expected 32 <= crop_min <= crop_max <= short_side"):
        zoomed(SETTINGS, 0.25)


def test_of_several_starts_the_one_that_moves_more_is_taken(tmp_path: Path) -> None:
    frames = moving_square(1, 0)
    film = [frames[0]] * 20 + list(frames[1:]) + [frames[-1]] * 20  # rests for less than a second at either end
    (tmp_path / "in").mkdir()
    write_mp4(tmp_path / "in" / "film.mp4", film, 25)
    library = open_footage(tmp_path / "in", SETTINGS, tmp_path / "cache", workers=0)
    assert library.take(0).length == len(film)
    means = {
        candidates: sampler(library, replace(SETTINGS, candidates=candidates)).draw(0, 32, [0]).flow.abs().mean().item()
        for candidates in (1, 4)
    }
    assert means[4] > 1.2 * means[1]


def test_a_wide_picture_keeps_its_proportions(library: FootageLibrary) -> None:
    config = replace(SETTINGS, crop_min=72)
    clip = ClipSampler(split(library, config, "train"), config, 32, 64, 0).clip(0, [0])
    assert clip.frames.shape == (1, 3, 32, 64)
    assert clip.flow.shape == (2, 8, 16)
    assert clip.sway.shape == (1, 8, 16)


def test_offsets_are_checked(library: FootageLibrary) -> None:
    for offsets in ([], [-1], [9]):
        with pytest.raises(ValueError, match="expected one or more from 0 to 8"):
            sampler(library).clip(0, offsets)


def test_a_folder_without_footage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no footage at"):
        open_footage(tmp_path / "absent", SETTINGS, tmp_path / "cache")
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="has no videos"):
        open_footage(tmp_path / "in", SETTINGS, tmp_path / "cache")
    (tmp_path / "in" / "one.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no video below .* has a take of 16 frames"):
        open_footage(tmp_path / "in", SETTINGS, tmp_path / "cache", workers=0)


def test_the_cache_follows_the_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "everframe" / "footage"
