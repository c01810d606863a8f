"""Packs: they fit, keep frames, rates and captions, go on where they were stopped, and refuse what cannot be packed."""

from __future__ import annotations

import csv
import json
import os
import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from training.__main__ import main, parser, run
from training.data import pack as packing
from training.data import recoding
from training.data.shards import find_videos
from training.data.takes import small_frames

FRAMES = 12


def write_video(path: Path, rate: Fraction, size: tuple[int, int], codec: str = "libx264", seed: int = 0) -> None:
    """Write FRAMES frames of drifting blobs and noise: enough detail for the CRF to matter."""
    height, width = size
    rng = np.random.default_rng(seed)
    scene = np.kron(rng.integers(0, 255, (height // 8 + 1, width // 8 + 1, 3)), np.ones((8, 8, 1)))[:height, :width]
    scene += rng.normal(0, 12, scene.shape)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": "6"} if codec == "libx264" else {"qscale": "1"})
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for number in range(FRAMES):
            frame = np.clip(np.roll(scene, 2 * number, axis=1), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of three rates, sizes and containers, one of them deeper, and captions with columns of their own."""
    folder = tmp_path_factory.mktemp("videos")
    (folder / "deep").mkdir()
    write_video(folder / "a.mp4", Fraction(30000, 1001), (96, 160), seed=1)
    write_video(folder / "b.avi", Fraction(25), (64, 96), "mpeg4", seed=2)
    write_video(folder / "deep" / "c.mkv", Fraction(24), (120, 82), seed=3)
    (folder / "captions.csv").write_text(
        'file,caption,kind,mood\na.mp4,"blobs, drifting",drawn,calm\nb.avi,more blobs,drawn,\n'
        "deep/c.mkv,tall blobs,drawn,calm\n"
    )
    return folder


def start(videos: Path, out: Path, *more: str) -> None:
    run(parser().parse_args(["pack", str(videos), "--out", str(out), "--workers", "2", *more]))


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.fixture(scope="module")
def packed(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "pack"
    start(videos, out, "--megabytes", "0.04", "--short-side", "64")
    return out


def test_a_pack_fits_and_says_how_good_it_is(packed: Path, videos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0.5 * 40_000 < size_of(packed) <= 40_000
    content = json.loads((packed / "pack.json").read_text())
    assert all(row["psnr"] > 20 for row in content["videos"])
    assert {row["frames"] for row in content["videos"]} == {FRAMES}
    assert not list(packed.parent.rglob("*.partial*"))
    before = {path: path.stat().st_mtime_ns for path in packed.rglob("*")}
    start(videos, packed, "--megabytes", "0.04", "--short-side", "64")
    said = capsys.readouterr().out
    assert "is finished" in said
    assert "PSNR against the originals at that size" in said
    assert f"{size_of(packed) / 1e6:.2f} MB of 0.04" in said
    assert before == {path: path.stat().st_mtime_ns for path in packed.rglob("*")}


def test_frames_rates_scenes_and_captions_stay(packed: Path, videos: Path) -> None:
    old, new = find_videos([videos]), find_videos([packed])
    assert [source.name for source in new] == ["a.mp4", "b.mp4", "deep/c.mkv"]
    for before, after in zip(old, new, strict=True):
        with av.open(str(before.path)) as one, av.open(str(after.path)) as two:
            rates = [round(float(container.streams.video[0].average_rate), 4) for container in (one, two)]
        assert rates[0] == rates[1]
        frames = [frame for frame, _ in small_frames(after.path, 64, [])]
        assert len(frames) == FRAMES
        assert min(frames[0].shape[:2]) == 64
        kept = {key: value for key, value in before.row.items() if key != "file"}
        assert kept == {key: value for key, value in after.row.items() if key != "file"}
    with (packed / "captions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.mp4", "b.mp4", "deep/c.mkv"]
    assert rows[0]["caption"] == "blobs, drifting"
    assert rows[0]["mood"] == "calm"


def test_pictures_are_those_of_the_original(packed: Path, videos: Path) -> None:
    for before, after in zip(find_videos([videos]), find_videos([packed]), strict=True):
        pairs = zip(small_frames(before.path, 64, []), small_frames(after.path, 64, []), strict=True)
        for number, ((one, _), (two, _)) in enumerate(pairs):
            height, width = two.shape[:2]
            error = float(np.square(one[:height, :width].astype(float) - two).mean())
            assert recoding.psnr(error) > 20, f"frame {number} of {before.name}"


def test_a_stopped_pack_goes_on(videos: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "pack"
    made, encode = [], packing.encode

    def stop_after_two(video: recoding.Video, quality: int, file: Path, stop: object) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        encode(video, quality, file, stop)  # type: ignore[arg-type]
        made.append(file.name)

    monkeypatch.setattr(packing, "encode", stop_after_two)
    arguments = ["--megabytes", "0.04", "--short-side", "64", "--workers", "1"]
    with pytest.raises(KeyboardInterrupt):
        start(videos, out, *arguments)
    assert not out.exists()

    def note(video: recoding.Video, quality: int, file: Path, stop: object) -> None:
        encode(video, quality, file, stop)  # type: ignore[arg-type]
        made.append(file.name)

    monkeypatch.setattr(packing, "encode", note)
    start(videos, out, *arguments)
    assert len(made) == len(set(made))
    one, two = (json.loads((folder / "pack.json").read_text()) for folder in (packed, out))
    assert one["crf"] == two["crf"]
    assert [row["file"] for row in one["videos"]] == [row["file"] for row in two["videos"]]
    assert not list(tmp_path.glob("*.partial"))


def test_what_is_small_and_smaller_as_it_is_stays(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "tiny.avi", Fraction(25), (64, 64), "mpeg4")
    with av.open(str(folder / "tiny.avi")) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
    start(folder, tmp_path / "pack", "--megabytes", "5", "--short-side", "64")
    content = json.loads((tmp_path / "pack" / "pack.json").read_text())
    (row,) = content["videos"]
    if row["bytes"] == row["bytes_of"]:
        assert (tmp_path / "pack" / "tiny.avi").read_bytes() == (folder / "tiny.avi").read_bytes()
    else:
        assert row["bytes"] < row["bytes_of"]
    start(tmp_path / "pack", tmp_path / "again", "--megabytes", "5", "--short-side", "64")
    (path,) = [path for path in (tmp_path / "again").iterdir() if path.stem == "tiny"]
    assert path.stat().st_size <= row["bytes"]


def test_a_broken_video_costs_itself(videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes((videos / "a.mp4").read_bytes())
    (folder / "broken.mp4").write_bytes(b"no video at all")
    start(folder, tmp_path / "pack", "--megabytes", "0.03", "--short-side", "64")
    assert "skipped broken.mp4: " in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "pack").iterdir()) == ["a.mp4", "pack.json"]


def test_odd_files_and_playlists_cost_themselves(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    footage = tmp_path / "footage"
    footage.mkdir()
    shutil.copy(videos / "a.mp4", footage)
    os.mkfifo(footage / "fifo.mp4")
    (footage / "nowhere.mp4").symlink_to("gone.mp4")
    (footage / "list.mp4").write_text("ffconcat version 1.0\nfile a.mp4\n")
    start(footage, tmp_path / "pack", "--megabytes", "1")
    assert {path.name for path in (tmp_path / "pack").iterdir()} == {"a.mp4", "pack.json"}
    printed = capsys.readouterr().out
    for name, reason in (
        ("fifo.mp4", "it is not a regular file"),
        ("nowhere.mp4", "it cannot be opened: No such file or directory"),
        ("list.mp4", "it is a playlist, or of a kind that is not read here: convert it to MP4"),
    ):
        assert f"skipped {name}: {reason}\n" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--megabytes", "0.003"], "lower --short-side or raise --megabytes"),
        (["--megabytes", "-1"], "expected more than 0"),
        (["--megabytes", "nan"], "expected more than 0"),
        (["--short-side", "8"], "expected 32 to 4096"),
        (["--workers", "0"], "expected 1 or more"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    said: str,
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["training", "pack", str(videos), "--out", str(tmp_path / "pack"), *arguments])
    assert main() == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "pack").exists()


def test_another_folder_in_the_way_is_left_alone(videos: Path, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("mine")
    for out in (tmp_path / "mine", packed):
        with pytest.raises(ValueError, match="is no pack of this footage with these settings"):
            start(videos, out, "--megabytes", "1")
    with pytest.raises(ValueError, match="is the footage or inside it"):
        start(videos, videos / "pack")
    with pytest.raises(ValueError, match="no footage at"):
        start(tmp_path / "nowhere", tmp_path / "pack")


def test_two_videos_with_one_name_are_told_apart(videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "b.avi").write_bytes((videos / "b.avi").read_bytes())
    (folder / "b.mp4").write_bytes((videos / "a.mp4").read_bytes())
    with pytest.raises(ValueError, match=r"would both be called b\.mp4"):
        start(folder, tmp_path / "pack")


def test_only_broken_videos_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "broken.mp4").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match=r"no video below .* can be decoded"):
        start(folder, tmp_path / "pack")


def test_the_best_quality_that_fits_is_found() -> None:
    asked: list[int] = []

    def total(quality: int) -> int:
        asked.append(quality)
        return round(90e6 * 2 ** (-(quality / 4 - 8) / 5.3) + 2e5)  # not quite the sample's slope

    quality, size = recoding.choose_quality(20_000_000, lambda q: round(6e7 * 2 ** (-(q / 4 - 8) / 6)), total, 32, 204)
    assert size == total(quality) <= 20_000_000
    assert size >= recoding.FULL * 20_000_000
    assert len(asked) - 1 <= 4
    with pytest.raises(ValueError, match="lower --short-side"):
        recoding.choose_quality(1000, lambda q: 300 - q, lambda q: 5000 - q, 32, 204)
    assert recoding.choose_quality(10**9, lambda q: 300 - q, lambda q: 5000 - q, 32, 204) == (32, 4968)
