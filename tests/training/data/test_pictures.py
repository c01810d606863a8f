"""Pairs for the enlarger: which pictures, which scenes, and what is done to them."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from training.data.pictures import PairSampler, damaged, read_pictures, split_pictures


def write_photo(path: Path, seed: int, size: tuple[int, int] = (160, 96)) -> None:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for number in range(10):
        write_photo(tmp_path / f"{number}.png", number)
    rows = [f"{number}.png,place {number // 2},CC0-1.0,a camera" for number in range(8)]
    (tmp_path / "photos.csv").write_text("\n".join(["file,scene,licence,source", *rows]))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "broken.jpg").write_bytes(b"no picture either")
    return tmp_path


def test_photographs_and_first_frames_are_found_with_their_rows(photos: Path) -> None:
    with av.open(str(photos / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for packet in (*stream.encode(av.VideoFrame(128, 96, "yuv420p")), *stream.encode(None)):
            container.mux(packet)
    write_photo(photos / "small.png", 0, (64, 32))
    found = {picture.name: picture for picture in read_pictures([photos], 96)}
    assert sorted(found) == [*(f"{number}.png" for number in range(10)), "clip.mp4"]
    assert (found["3.png"].scene, found["3.png"].licence, found["3.png"].source) == ("place 1", "CC0-1.0", "a camera")
    assert found["9.png"].scene == "9"
    assert found["clip.mp4"].pixels.shape == (96, 128, 3)


def test_large_photographs_are_reduced(tmp_path: Path) -> None:
    write_photo(tmp_path / "wide.png", 0, (2400, 320))
    assert read_pictures([tmp_path], 96)[0].pixels.shape == (256, 1920, 3)


def test_scenes_are_held_out_whole(photos: Path) -> None:
    trained, held = split_pictures(read_pictures([photos], 96))
    assert [picture.name for picture in held] == ["4.png", "5.png"]
    assert not {picture.scene for picture in trained} & {picture.scene for picture in held}
    assert len(trained) == 8


def test_folders_without_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no picture with sides of at least 96 pixels"):
        read_pictures([tmp_path], 96)
    with pytest.raises(ValueError, match="no folder"):
        read_pictures([tmp_path / "none"], 96)


def test_pairs_belong_together_and_depend_on_their_number_alone(photos: Path) -> None:
    sampler = PairSampler(read_pictures([photos], 96), 64, seed=1)
    small, large = sampler.batch(5, 6)
    assert (small.shape, large.shape) == ((6, 3, 16, 16), (6, 3, 64, 64))
    again = sampler.batch(5, 6)
    assert np.array_equal(again[0], small)
    assert np.array_equal(again[1], large)
    assert not np.array_equal(sampler.batch(6, 6)[1], large)
    reduced = np.stack(
        [cv2.resize(row.permute(1, 2, 0).numpy(), (16, 16), interpolation=cv2.INTER_AREA) for row in large]
    )
    errors = np.abs(small.permute(0, 2, 3, 1).numpy() - reduced).mean(axis=(1, 2, 3))
    assert errors.max() < 0.1
    assert np.abs(small.permute(0, 2, 3, 1).numpy() - reduced[::-1]).mean() > 0.15


def test_small_pictures_are_soft_and_dotted() -> None:
    random = np.random.default_rng(0)
    plain = np.full((64, 64, 3), 128, np.uint8)
    noise = [float(damaged(plain, random).std()) for _ in range(40)]
    assert min(noise) < 1 < max(noise) < 12
    dots = np.zeros((64, 64, 3), np.uint8)
    dots[::8, ::8] = 255
    peaks = [int(damaged(dots, random).max()) for _ in range(40)]
    assert min(peaks) < 0.5 * max(peaks)
