from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.config import Footage
from training.footage import ClipSampler, load_footage

SETTINGS = Footage(fps=25, short_side=72, crop_min=64, crop_max=72, horizon_frames=8)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_scenes_are_on_one_side_only(footage: Path, cache: Path) -> None:
    train = {video.scene for video in load_footage(footage, SETTINGS, "train", cache)}
    held_out = {video.scene for video in load_footage(footage, SETTINGS, "heldout", cache)}
    assert train | held_out == {"right", "left", "down", "still"}
    assert not train & held_out
    assert held_out


def test_a_split_by_time_leaves_a_gap_of_one_horizon(footage: Path, cache: Path) -> None:
    settings = Footage(**{**SETTINGS.__dict__, "holdout": "time", "holdout_fraction": 0.5})
    train = load_footage(footage, settings, "train", cache)
    held_out = load_footage(footage, settings, "heldout", cache)
    assert [video.last for video in train] == [20] * 4
    assert [(video.first, video.last) for video in held_out] == [(28, 40)] * 4


def test_clips_depend_on_seed_and_iteration_alone(footage: Path, cache: Path) -> None:
    videos = load_footage(footage, SETTINGS, "train", cache)
    one, two = (ClipSampler(videos, SETTINGS, 64, 64, seed=3) for _ in range(2))
    one.draw(0, 4, [1, 2])  # what was drawn before must not matter
    first, second = one.draw(5, 4, [1, 8]), two.draw(5, 4, [1, 8])
    assert all(np.array_equal(a, b) for a, b in zip(first[:3], second[:3], strict=True))
    assert first.names == second.names
    assert not np.array_equal(first.first, two.draw(6, 4, [1, 8]).first)
    assert not np.array_equal(first.first, ClipSampler(videos, SETTINGS, 64, 64, seed=4).draw(5, 4, [1, 8]).first)


def test_shapes_ranges_and_the_direction_of_the_flow(footage: Path, cache: Path) -> None:
    videos = {
        video.name: video for split in ("train", "heldout") for video in load_footage(footage, SETTINGS, split, cache)
    }
    for name, sign_x, sign_y in (("right.mp4", 1, 0), ("left.mp4", -1, 0), ("down.mp4", 0, 1), ("still.mp4", 0, 0)):
        batch = ClipSampler([videos[name]], SETTINGS, 64, 64, seed=0).draw(0, 6, [1, 8])
        assert batch.first.shape == (6, 3, 64, 64)
        assert batch.frames.shape == (6, 2, 3, 64, 64)
        assert batch.flow.shape == (6, 2, 16, 16)
        assert batch.first.dtype == batch.frames.dtype == batch.flow.dtype == np.float32
        assert 0 <= batch.first.min() < batch.first.max() <= 1
        # The square moves 2 pixels of 80 per frame, so about 1.8 of 64 to 72; only its edges show it.
        fast_x, fast_y = (
            np.quantile(sign * batch.flow[:, axis], 0.98) if sign else 0.0 for axis, sign in ((0, sign_x), (1, sign_y))
        )
        assert not sign_x or fast_x > 1.0
        assert not sign_y or fast_y > 1.0
        if name == "still.mp4":
            assert np.abs(batch.flow).max() < 0.1


def test_flipped_clips_flow_the_other_way(footage: Path, cache: Path) -> None:
    videos = {
        video.name: video for split in ("train", "heldout") for video in load_footage(footage, SETTINGS, split, cache)
    }
    settings = Footage(**{**SETTINGS.__dict__, "flip": True})
    flows = ClipSampler([videos["right.mp4"]], settings, 64, 64, seed=0).draw(0, 16, [1]).flow[:, 0]
    directions = {bool(flow[np.unravel_index(np.abs(flow).argmax(), flow.shape)] > 0) for flow in flows}
    assert directions == {True, False}


def test_broken_and_short_files_are_skipped_by_name(
    footage: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for source in footage.glob("*.mp4"):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    (tmp_path / "broken.mp4").write_bytes(b"this is no video")
    from training.sampling import write_mp4

    write_mp4(tmp_path / "short.mp4", [np.zeros((80, 80, 3), np.uint8)] * 3, 25)
    names = {video.name for split in ("train", "heldout") for video in load_footage(tmp_path, SETTINGS, split, cache)}
    assert names == {"right.mp4", "left.mp4", "down.mp4", "still.mp4"}
    printed = capsys.readouterr().out
    assert "skipped broken.mp4" in printed
    assert "skipped short.mp4: 3 frames, the horizon needs 9" in printed


def test_a_folder_without_footage_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ValueError, match="no footage at"):
        load_footage(tmp_path / "absent", SETTINGS, "train", cache)
    with pytest.raises(ValueError, match="has no videos"):
        load_footage(tmp_path, SETTINGS, "train", cache)
    (tmp_path / "one.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no clip of 9 frames to train on"):
        load_footage(tmp_path, SETTINGS, "train", cache)


def test_captions_without_a_file_column_are_refused(footage: Path, tmp_path: Path, cache: Path) -> None:
    (tmp_path / "right.mp4").write_bytes((footage / "right.mp4").read_bytes())
    (tmp_path / "captions.csv").write_text("name,text\nright.mp4,hello\n")
    with pytest.raises(ValueError, match="expected one called file"):
        load_footage(tmp_path, SETTINGS, "train", cache)
