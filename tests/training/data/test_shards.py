from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from tests.training.full_disk import largest_file
from training.data import shard_packing, shard_pool, shards, video_spool
from training.data.shards import ShardIndex, ShardReader, read_index, shard_report, write_shards
from training.data.takes import ShardSettings, TakeRecord

SETTINGS = ShardSettings(short_side=48, max_frames=32, min_frames=8)


def moving(seed: int, count: int, height: int = 64, width: int = 80, step: int = 2) -> list[np.ndarray]:
    """Return frames of a coarse random texture that moves to the right; another seed looks altogether different."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(40, 250, (height // 8, width // 8, 3)).astype(np.uint8)
    scene = cv2.resize(cells, (width, height), interpolation=cv2.INTER_NEAREST)
    return [np.roll(scene, index * step, axis=1) for index in range(count)]


def flat(level: int, count: int, height: int = 64, width: int = 80) -> list[np.ndarray]:
    return [np.full((height, width, 3), level, np.uint8)] * count


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    rate: Fraction | int = 25,
    codec: str = "mpeg4",
    pixels: str = "yuv420p",
    rotation: int = 0,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        stream.bit_rate = 4_000_000
        stream.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def takes_of(index: ShardIndex, video: str) -> list[tuple[int, int]]:
    """Return (first frame, length) of a video's takes."""
    row = index.videos["file"].index(video)
    columns = (index.takes[key].tolist() for key in ("video", "first", "length"))
    return [(first, length) for owner, first, length in zip(*columns, strict=True) if owner == row]


def records_of(index: ShardIndex) -> list[TakeRecord]:
    reader = ShardReader(index.path, [shard["file"] for shard in index.shards])
    return [
        reader.read(shard, record)
        for shard, record in zip(index.takes["shard"].tolist(), index.takes["record"].tolist(), strict=True)
    ]


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir() if path.name != ".lock"}


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "height", "width", "rate"),
    [
        ("h264.mp4", "libx264", "yuv420p", 120, 64, 30),
        ("mpeg4.avi", "mpeg4", "yuv420p", 50, 90, 10),
        ("vp9.webm", "libvpx-vp9", "yuv420p", 67, 121, Fraction(24000, 1001)),
        ("mjpeg.mkv", "mjpeg", "yuvj420p", 31, 45, 15),
    ],
)
def test_any_codec_size_and_rate(
    tmp_path: Path, name: str, codec: str, pixels: str, height: int, width: int, rate: Fraction | int
) -> None:
    scene = np.random.default_rng(1).integers(0, 255, (8, 12, 3)).astype(np.uint8)
    frames = [
        np.roll(cv2.resize(scene, (width, height), interpolation=cv2.INTER_CUBIC), 2 * index, axis=1)
        for index in range(20)
    ]
    write_video(tmp_path / "in" / name, frames, rate, codec, pixels)
    index = write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, workers=0, progress=False)
    assert takes_of(index, name) == [(0, 20)]
    assert index.videos["frames"] == [20]
    assert index.videos["fps"][0] == pytest.approx(float(rate), abs=0.01)
    (record,) = records_of(index)
    assert min(record.height, record.width) == 48
    assert record.width / record.height == pytest.approx(width / height, rel=0.02)
    assert record.frame(19).shape == (record.height, record.width, 3)
    method = cv2.INTER_AREA if min(height, width) > 48 else cv2.INTER_CUBIC
    expected = cv2.resize(frames[7], (record.width, record.height), interpolation=method)
    assert np.abs(record.frame(7).astype(int) - expected).mean() < 16
    assert record.motion.shape == (19,)
    speed = 2 * record.width / width
    assert np.median(record.mean_flow(0, 10)[..., 0]) == pytest.approx(speed, rel=0.25)


def test_a_video_that_asks_to_be_turned_is_turned(tmp_path: Path) -> None:
    frames = moving(1, 20)
    write_video(tmp_path / "in" / "turned.mp4", frames, codec="libx264", rotation=90)
    (record,) = records_of(write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0, progress=False))
    assert (record.height, record.width) == (60, 48)
    upright = cv2.resize(np.rot90(frames[5], 1), (48, 60), interpolation=cv2.INTER_AREA)
    assert np.abs(record.frame(5).astype(int) - upright).mean() < 16


def test_takes_end_at_cuts_and_leave_out_black_and_static_stretches(tmp_path: Path) -> None:
    parts = [moving(1, 30), moving(2, 25), flat(0, 10), moving(3, 20), [moving(4, 1)[0]] * 40, moving(4, 20)]
    write_video(tmp_path / "in" / "film.mp4", [frame for part in parts for frame in part])
    index = write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0, progress=False)
    # 0 first scene, 30 second scene, 55 black, 65 third scene, 85 something that rests, 125 and moves at last.
    takes = takes_of(index, "film.mp4")
    assert takes[:3] == [(0, 30), (30, 25), (65, 20)]
    assert len(takes) == 4
    assert takes[3][0] in (125, 126)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    detail = report["details"]["film.mp4"]
    assert {30, 85} <= set(detail["cuts"])
    black, static = detail["dropped"]
    assert black == {"first": 55, "last": 65, "why": "black"}
    assert (static["first"], static["why"]) == (85, "static")
    assert static["last"] in (125, 126)
    assert report["dropped"]["black"]["stretches"] == 1
    assert report == shard_report(index)


def test_motion_alone_is_no_cut_and_nothing_is_dropped(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    flicker = [np.clip(frame * rng.uniform(0.8, 1.1), 0, 255).astype(np.uint8) for frame in moving(5, 60, step=8)]
    write_video(tmp_path / "in" / "fast.mp4", flicker)
    index = write_shards([tmp_path / "in"], tmp_path / "out", replace(SETTINGS, max_frames=64), 0, progress=False)
    assert takes_of(index, "fast.mp4") == [(0, 60)]


def test_long_takes_are_split_evenly_and_short_ones_dropped(tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "long.mp4", moving(1, 100) + moving(2, 5) + moving(3, 33))
    index = write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0, progress=False)
    takes = takes_of(index, "long.mp4")
    assert takes[0][0] == 0
    assert sum(length for _, length in takes) == 133
    assert all(16 <= length <= 32 for _, length in takes)
    assert index.videos["dropped"][0] == [[100, 105, "short"]]


def test_captions_from_any_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = tmp_path / "in"
    for name in ("one.mp4", "deep/er/two.mp4", "deep/three.mp4"):
        write_video(videos / name, moving(len(name), 20))
    (videos / "captions.csv").write_text(
        "file,caption,scene,class,licence,source\none.mp4,a first one,s1,water,CC0-1.0,here\ndeep/three.mp4,outer,,,,\n"
    )
    (videos / "deep" / "captions.csv").write_text("file,caption\nthree.mp4,inner\ner/two.mp4,second\n")
    index = write_shards([videos], tmp_path / "out", SETTINGS, 0, progress=False)
    rows = {
        name: {key: index.videos[key][row] for key in ("caption", "scene", "label", "licence", "source")}
        for row, name in enumerate(index.videos["file"])
    }
    assert rows["one.mp4"] == {
        "caption": "a first one", "scene": "s1", "label": "water", "licence": "CC0-1.0", "source": "here",
    }  # fmt: skip
    assert rows["deep/three.mp4"]["caption"] == "inner"
    assert rows["deep/er/two.mp4"]["caption"] == "second"
    assert rows["deep/er/two.mp4"]["scene"] == "deep/er/two"
    # New words for old videos are taken over without decoding anything.
    (videos / "deep" / "captions.csv").write_text("file,caption\nthree.mp4,rewritten\n")
    before = [shard["sha256"] for shard in index.shards]
    index = write_shards([videos], tmp_path / "out", SETTINGS, 0, progress=False)
    assert index.videos["caption"][index.videos["file"].index("deep/three.mp4")] == "rewritten"
    assert [shard["sha256"] for shard in index.shards] == before


@pytest.mark.parametrize(
    ("text", "got"), [("name,text\none.mp4,hello\n", "name,text"), ("one.mp4,a calm lake\n", "one.mp4,a calm lake")]
)
def test_captions_without_a_header_are_refused(text: str, got: str, tmp_path: Path) -> None:
    write_video(tmp_path / "in" / "one.mp4", moving(1, 20))
    (tmp_path / "in" / "captions.csv").write_text(text)
    said = rf'the first line of .*captions\.csv is "{got}": expected the names of its columns, one of them called file'
    with pytest.raises(ValueError, match=said):
        write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0)


def test_captions_of_missing_files_are_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_video(tmp_path / "in" / "deep" / "one.mp4", moving(1, 20))
    rows = ["file,caption", "deep/one.mp4,hello", *(f"gone{number}.mp4,lost" for number in range(7))]
    (tmp_path / "in" / "captions.csv").write_text("\n".join(rows))
    (tmp_path / "in" / "deep" / "captions.csv").write_text("file,scene\none.mp4,sea\n")
    (source,) = shards.find_videos([tmp_path / "in"])
    assert source.row == {"file": "one.mp4", "scene": "sea"}
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"warning: {tmp_path / 'in' / 'captions.csv'} names 7 files that are not among the videos ")
    assert line.endswith(
        "('gone0.mp4', 'gone1.mp4', 'gone2.mp4', 'gone3.mp4', 'gone4.mp4', ...); its other rows are used"
    )


def test_captions_that_are_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "captions.csv").mkdir()
    with pytest.raises(ValueError, match=r"captions\.csv is not a file: expected a table in CSV"):
        shards.read_captions(tmp_path)


@pytest.fixture
def five(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five videos; a shard holds two of them."""
    for number in range(5):
        write_video(tmp_path / "in" / f"{number}.mp4", moving(number, 24))
    monkeypatch.setattr(shard_packing, "SHARD_BYTES", 250_000)
    return tmp_path / "in"


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the name of every video is added that is decoded from now on, in this process."""
    calls: list[str] = []
    decode = video_spool._shard_video

    def counted(path: str, name: str, *rest: object) -> dict[str, object]:
        calls.append(name)
        return decode(path, name, *rest)

    monkeypatch.setattr(video_spool, "_shard_video", counted)
    return calls


def test_the_number_of_workers_changes_nothing(five: Path, tmp_path: Path) -> None:
    one = write_shards([five], tmp_path / "one", SETTINGS, 0, progress=False)
    assert 2 <= len(one.shards) <= 4
    write_shards([five], tmp_path / "two", SETTINGS, 2, progress=False)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_finished_folder_is_left_alone(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    shards.add_arguments(parser)
    command = [str(five), "--out", str(tmp_path / "out"), "--workers", "0", "--short-side", "48"]
    shards.run(parser.parse_args(command))
    printed = capsys.readouterr().out
    assert "is finished" not in printed
    assert "5 videos -> 5 takes" in printed
    before = contents(tmp_path / "out")
    calls = count_calls(monkeypatch)
    shards.run(parser.parse_args(command))
    assert "is finished: every video is in it already" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before
    assert calls == []


def test_a_killed_run_goes_on_where_it_was(five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_shards([five], tmp_path / "whole", SETTINGS, 0, progress=False)
    out = tmp_path / "out"
    # The process ends, as by SIGKILL, when the second shard is written but not yet renamed.
    script = f"""
    import os
    from pathlib import Path
    from training.data import shard_packing, shards
    from training.data import takes
    shard_packing.SHARD_BYTES = 250_000
    finish, calls = shard_packing.Packer._finish, []
    def killed(self, file):
        calls.append(file)
        if len(calls) == 2:
            os._exit(9)
        return finish(self, file)
    shard_packing.Packer._finish = killed
    settings = takes.ShardSettings(short_side=48, max_frames=32, min_frames=8)
    shards.write_shards([Path({str(five)!r})], Path({str(out)!r}), settings, 0, progress=False)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], cwd=Path(__file__).parents[3], timeout=120, check=False
    )
    assert done.returncode == 9
    assert list(out.glob("*.partial"))
    with pytest.raises(ValueError, match="unfinished: run the same shard command again"):
        read_index(out)
    with (out / "journal.jsonl").open("a") as journal:
        journal.write('{"videos": {"4.mp4"')  # as if the machine went down in the middle of a line
    finished = {
        name
        for line in (out / "journal.jsonl").read_text().splitlines()[1:-1]
        for name in json.loads(line).get("videos", ())
    }
    spooled = len(list((out / "work").glob("*.json")))
    assert finished
    calls = count_calls(monkeypatch)
    write_shards([five], out, SETTINGS, 0, progress=False)
    assert len(calls) == 5 - len(finished) - spooled
    assert not finished & set(calls)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_shard_cut_short_is_named_and_made_anew(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    index = write_shards([five], out, SETTINGS, 0, progress=False)
    before = contents(out)
    damaged = out / index.shards[0]["file"]
    damaged.write_bytes(damaged.read_bytes()[:123])
    with pytest.raises(ValueError, match=r"00000.array_record is 123 bytes, the index says \d+; run the same shard"):
        read_index(out)
    calls = count_calls(monkeypatch)
    write_shards([five], out, SETTINGS, 0, progress=False)
    assert "it is rebuilt" in capsys.readouterr().out
    inside = {
        index.videos["file"][v] for v, s in zip(index.takes["video"], index.takes["shard"], strict=True) if s == 0
    }
    assert set(calls) == inside
    assert contents(out) == before
    damaged.unlink()
    with pytest.raises(ValueError, match="is missing"):
        read_index(out)


def test_a_full_disk_is_told_and_the_same_command_goes_on(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, out = shard_packing.Packer._write, tmp_path / "out"

    def write_on_a_full_disk(packer: shard_packing.Packer) -> None:
        with largest_file(4096):
            write(packer)

    with monkeypatch.context() as patch:
        patch.setattr(shard_packing.Packer, "_write", write_on_a_full_disk)
        with pytest.raises(OSError, match=r"the shards at .*out cannot be written .*: make room and start the same"):
            write_shards([five], out, SETTINGS, 0, progress=False)
    write_shards([five], out, SETTINGS, 0, progress=False)
    write_shards([five], tmp_path / "straight", SETTINGS, 0, progress=False)
    assert contents(out) == contents(tmp_path / "straight")


def test_a_video_larger_than_a_shard_has_shards_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "in" / "a.mp4", moving(1, 20))
    write_video(tmp_path / "in" / "b.mp4", moving(2, 200))
    write_video(tmp_path / "in" / "c.mp4", moving(3, 20))
    monkeypatch.setattr(shard_packing, "SHARD_BYTES", 300_000)
    index = write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0, progress=False)
    owners: dict[int, set[int]] = {}
    for video, shard in zip(index.takes["video"].tolist(), index.takes["shard"].tolist(), strict=True):
        owners.setdefault(shard, set()).add(video)
    assert len(index.shards) >= 4
    assert all(len(videos) == 1 for videos in owners.values() if 1 in videos)
    assert sum(length for _, length in takes_of(index, "b.mp4")) == 200
    assert [len(record) for record in records_of(index)] == index.takes["length"].tolist()


def test_new_changed_and_vanished_videos(five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_shards([five], out, SETTINGS, 0, progress=False)
    write_video(five / "new.mp4", moving(9, 20))
    write_video(five / "1.mp4", moving(10, 30))
    (five / "0.mp4").unlink()
    calls = count_calls(monkeypatch)
    index = write_shards([five], out, SETTINGS, 0, progress=False)
    assert sorted(calls) == ["1.mp4", "new.mp4"]
    assert takes_of(index, "1.mp4") == [(0, 30)]
    assert "0.mp4" in index.videos["file"]
    assert [len(record) for record in records_of(index)] == index.takes["length"].tolist()
    index = write_shards([five], out, SETTINGS, 0, progress=False, prune=True)
    assert "0.mp4" not in index.videos["file"]


def test_other_settings_are_refused(five: Path, tmp_path: Path) -> None:
    write_shards([five], tmp_path / "out", SETTINGS, 0, progress=False)
    with pytest.raises(ValueError, match="were made with short_side 48 and not 64: name another --out"):
        write_shards([five], tmp_path / "out", replace(SETTINGS, short_side=64), 0)


def test_settings_are_bound_from_the_first_video_on(
    five: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shard_packing.Packer, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_shards([five], tmp_path / "out", SETTINGS, 0, progress=False)
    with pytest.raises(ValueError, match="unfinished"):
        read_index(tmp_path / "out")
    with pytest.raises(ValueError, match="were made with short_side 48 and not 64"):
        write_shards([five], tmp_path / "out", replace(SETTINGS, short_side=64), 0)


def test_broken_and_short_videos_are_skipped_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos = tmp_path / "in"
    write_video(videos / "good.mp4", moving(1, 20))
    write_video(videos / "still.mp4", moving(1, 1) * 60)
    write_video(videos / "short.mp4", moving(1, 3))
    write_video(videos / "thin.mp4", moving(1, 20, height=16, width=800))
    (videos / "broken.mp4").write_bytes(b"this is no video")
    (videos / "cut.mkv").write_bytes(b"")
    (videos / "notes.txt").write_text("no video either")
    index = write_shards([videos], tmp_path / "out", SETTINGS, 0, progress=False)
    shards.print_report(index)
    printed = capsys.readouterr().out
    assert {entry["file"] for entry in index.skipped} == {"broken.mp4", "cut.mkv", "thin.mp4"}
    assert "skipped broken.mp4: " in printed
    assert "skipped short.mp4: 3 frames, nothing left (short)" in printed
    assert "skipped still.mp4: 60 frames, nothing left (static)" in printed
    assert "notes.txt" not in printed
    assert index.takes["video"].tolist() == [index.videos["file"].index("good.mp4")]


def test_the_readable_part_of_a_damaged_video_is_kept(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "whole.avi", moving(1, 60), codec="mjpeg", pixels="yuvj420p")
    data = (tmp_path / "whole.avi").read_bytes()
    (tmp_path / "in" / "part.avi").write_bytes(data[: len(data) // 2])
    index = write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0, progress=False)
    assert 20 <= index.videos["frames"][0] < 60
    assert takes_of(index, "part.avi")


ODD = {
    "fifo.mp4": "it is not a regular file",
    "nowhere.mp4": "it cannot be opened: No such file or directory",
    "circle.mp4": "it cannot be opened: Too many levels of symbolic links",
    "caf\\xe9.mp4": "its name is not in UTF-8: rename it",
    "caf\\xe9/one.mp4": "its name is not in UTF-8: rename it",
}


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A folder with one video, and everything else that can be called one."""
    folder = tmp_path / "odd"
    write_video(folder / "good.mp4", moving(1, 20))
    os.mkfifo(folder / "fifo.mp4")
    (folder / "nowhere.mp4").symlink_to("gone.mp4")
    (folder / "circle.mp4").symlink_to("circle.mp4")
    (folder / "dir.mp4").mkdir()
    strange = os.fsencode(folder) + b"/caf\xe9"
    Path(os.fsdecode(strange)).mkdir()
    for name in (strange + b".mp4", strange + b"/one.mp4"):
        shutil.copy(folder / "good.mp4", os.fsdecode(name))
    return folder


def test_odd_files_are_skipped_and_listed(odd: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    index = write_shards([odd], tmp_path / "out", SETTINGS, 0, progress=False)
    assert index.videos["file"] == ["good.mp4"]
    assert {entry["file"]: entry["reason"] for entry in index.skipped} == ODD
    shards.print_report(index)
    printed = capsys.readouterr().out
    for name, reason in ODD.items():
        assert f"skipped {name}: {reason}\n" in printed
    before = contents(tmp_path / "out")
    write_shards([odd], tmp_path / "out", SETTINGS, 0, progress=False)
    assert contents(tmp_path / "out") == before
    # What has become a video since is taken.
    (odd / "fifo.mp4").unlink()
    write_video(odd / "fifo.mp4", moving(2, 20))
    index = write_shards([odd], tmp_path / "out", SETTINGS, 0, progress=False)
    assert index.videos["file"] == ["fifo.mp4", "good.mp4"]


@pytest.mark.parametrize("name", ["list.mp4", "list.ts", "list.mkv"])
@pytest.mark.parametrize("playlist", ["ffconcat version 1.0\nfile private.dat\n", "#EXTM3U\n#EXTINF:1,\nprivate.dat\n"])
def test_playlists_read_no_other_file(playlist: str, name: str, tmp_path: Path) -> None:
    write_video(tmp_path / "private.mp4", moving(1, 20))
    (tmp_path / "in").mkdir()
    (tmp_path / "private.mp4").rename(tmp_path / "in" / "private.dat")
    (tmp_path / "in" / name).write_text(playlist)
    with pytest.raises(ValueError, match=r"no video below .* has a take of 8 frames to keep"):
        write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0, progress=False)


def test_workers_end_with_whoever_started_them(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo.mp4"
    os.mkfifo(fifo)
    script = f"""
    from pathlib import Path
    from training.data import shard_pool, sources, takes, video_spool
    if __name__ == "__main__":
        source = sources.Source(Path({str(fifo)!r}), "fifo.mp4", 0, 0, {{}})
        job = video_spool.Job(0, source, Path({str(tmp_path / "spool")!r}))
        list(shard_pool.decode([job], takes.ShardSettings(), workers=1))
    """
    (tmp_path / "parent.py").write_text(textwrap.dedent(script))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen([sys.executable, str(tmp_path / "parent.py")], env=environment) as parent:
        try:
            writer = open_for_writing(fifo, parent)  # the worker reads it now, and gets nothing
        finally:
            parent.kill()
    with os.fdopen(writer, "wb"):
        poll = select.poll()
        poll.register(writer, 0)
        assert poll.poll(60_000) == [(writer, select.POLLERR)], "the worker still reads"


def open_for_writing(fifo: Path, reader: subprocess.Popen[bytes]) -> int:
    """Open a FIFO as soon as somebody reads from it."""
    for _ in range(1200):
        with contextlib.suppress(OSError):
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        assert reader.poll() is None, "the process that was to read has ended"
        time.sleep(0.05)
    raise AssertionError("nobody reads the FIFO")


class _Deadly(str):
    """A name that ends the process that unpickles it, as a crashing decoder would."""

    __slots__ = ()

    def __reduce__(self) -> tuple[object, ...]:
        return os._exit, (9,)


def test_a_worker_that_dies_costs_its_own_video_alone(five: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    sources = shards.find_videos([five])
    sources[2] = replace(sources[2], name=_Deadly("2.mp4"))
    jobs = [video_spool.Job(number, source, tmp_path / "work" / str(number)) for number, source in enumerate(sources)]
    results = dict(shard_pool.decode(jobs, SETTINGS, workers=2))
    assert results.keys() == set(range(5))
    assert results[2] == {"error": "its decoder took the whole process down"}
    assert all(len(results[number]["takes"]) == 1 for number in (0, 1, 3, 4))


def test_several_folders_may_use_one_name(tmp_path: Path) -> None:
    for number, folder in enumerate(("a", "b")):
        write_video(tmp_path / folder / "001.mp4", moving(number, 20))
    index = write_shards([tmp_path / "a", tmp_path / "b"], tmp_path / "out", SETTINGS, 0, progress=False)
    assert index.videos["file"] == ["001.mp4", "b/001.mp4"]


def test_what_cannot_be_sharded_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="no footage at"):
        write_shards([tmp_path / "absent"], tmp_path / "out", SETTINGS, 0)
    with pytest.raises(ValueError, match="has no videos: expected files such as"):
        write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0)
    (tmp_path / "in" / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"has a take of 8 frames to keep \(broken.mp4: "):
        write_shards([tmp_path / "in"], tmp_path / "out", SETTINGS, 0, progress=False)
    with pytest.raises(ValueError, match="the folder of videos itself"):
        write_shards([tmp_path / "in"], tmp_path / "in", SETTINGS, 0)
    with pytest.raises(ValueError, match=r"no .*shards.json"):
        read_index(tmp_path / "in")
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "shards.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        read_index(tmp_path / "odd")
