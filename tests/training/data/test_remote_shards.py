"""Footage and shards at addresses: a store of objects on this machine (S3), and one in memory."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.data.s3 import Store, serving, without_times
from tests.training.data.test_shards import SETTINGS, contents, count_calls, moving, write_video
from training.config import FootageConfig
from training.data import remote_files, shard_packing, shards
from training.data.footage import open_footage
from training.data.remote_files import Address, local_copy, path_to_place, temporary_folder, to_place
from training.data.shards import read_index, write_shards

BUCKET = Address("s3://bucket")


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with serving(monkeypatch) as running:
        yield running


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four videos and a damaged one, with captions; a shard holds two."""
    for number, name in enumerate(("a.mp4", "deep/b c.mp4", "deep/c.mkv", "deep/er/d.mp4")):
        write_video(tmp_path / "in" / name, moving(number, 24))
    (tmp_path / "in" / "broken.mp4").write_bytes(b"this is no video")
    (tmp_path / "in" / "captions.csv").write_text("file,caption,scene\na.mp4,a calm sea,sea\ndeep/c.mkv,outer,\n")
    (tmp_path / "in" / "deep" / "captions.csv").write_text("file,caption\nc.mkv,inner\n")
    monkeypatch.setattr(shard_packing, "SHARD_BYTES", 250_000)
    return tmp_path / "in"


@pytest.mark.live
def test_s3_in_and_out_make_the_shards_of_this_machine(
    store: Store, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards([videos], tmp_path / "here", SETTINGS, 0, progress=False)
    expected = contents(tmp_path / "here")
    store.put(videos, "footage")
    parser = argparse.ArgumentParser()
    shards.add_arguments(parser)
    options = ["--workers", "1", "--short-side", "48", "--max-frames", "32", "--min-frames", "8"]
    command = parser.parse_args(["s3://bucket/footage/", "--out", "s3://bucket/out/shards", *options])
    shards.run(command)
    assert without_times(store.contents("out/shards")) == without_times(expected)
    printed = capsys.readouterr().out
    assert "4 videos -> 4 takes" in printed
    assert "skipped broken.mp4: Invalid data found" in printed
    assert "dropped stretches: s3://bucket/out/shards/report.json" in printed
    assert not list((remote_files.cache_folder().parent / "sharding").rglob("*partial*"))
    before = store.contents("out/shards")
    shards.run(command)
    assert "s3://bucket/out/shards is finished: every video is in it already" in capsys.readouterr().out
    assert store.contents("out/shards") == before
    # What was sharded from here goes to the store as the same bytes, times and all.
    write_shards([videos], BUCKET / "from-here", SETTINGS, 0, progress=False)
    assert store.contents("from-here") == expected


@pytest.mark.live
def test_an_interrupted_upload_leaves_no_index_and_resumes(
    store: Store, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards([videos], tmp_path / "here", SETTINGS, 0, progress=False)
    upload, out = remote_files.upload, BUCKET / "out"
    sent: list[Address] = []

    def broken_off(source: Path, address: Address) -> None:
        sent.append(address)
        if len(sent) == 2:
            store.client.put_object(Bucket="bucket", Key=f"out/{address.name}", Body=source.read_bytes()[:99])
            raise KeyboardInterrupt
        upload(source, address)

    with monkeypatch.context() as patch:
        patch.setattr("training.data.shard_folder.upload", broken_off)
        with pytest.raises(KeyboardInterrupt):
            write_shards([videos], out, SETTINGS, 0, progress=False)
    assert "shards.json" not in store.contents("out")
    with pytest.raises(ValueError, match="the shards at s3://bucket/out are unfinished: run the same shard command"):
        read_index(out)
    with pytest.raises(ValueError, match="unfinished"):
        open_footage(Path("s3://bucket/out"), FootageConfig(crop_max=40, crop_min=32))
    # Another machine goes on: it has the journal in the store, but nothing of the first one's cache.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    calls = count_calls(monkeypatch)
    write_shards([videos], out, SETTINGS, 0, progress=False)
    assert 0 < len(calls) < 5
    assert store.contents("out") == contents(tmp_path / "here")
    # A shard that was damaged since is made again.
    (name, data), *_ = sorted((name, data) for name, data in store.contents("out").items() if "shard-" in name)
    store.client.put_object(Bucket="bucket", Key=f"out/{name}", Body=data[:99])
    with pytest.raises(ValueError, match=rf"s3://bucket/out/{name} is 99 bytes, the index says {len(data)}"):
        read_index(out)
    write_shards([videos], out, SETTINGS, 0, progress=False)
    assert store.contents("out") == contents(tmp_path / "here")


@pytest.mark.live
def test_training_copies_shards_of_a_store_once(
    store: Store, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards([videos], tmp_path / "here", SETTINGS, 0, progress=False)
    store.put(tmp_path / "here", "shards")
    config = FootageConfig(crop_max=40, crop_min=32)
    near = open_footage(tmp_path / "here", config)
    far = open_footage(Path("s3://bucket/shards"), config, tmp_path / "cache")
    assert len(far) == len(near) == 4
    assert np.array_equal(far.frames(3, [0, 5]), near.frames(3, [0, 5]))
    assert "copying s3://bucket/shards/shard-00000.array_record" in capsys.readouterr().out
    open_footage(Path("s3://bucket/shards"), config, tmp_path / "cache")
    assert "copying" not in capsys.readouterr().out
    # Another shard of the same name and size is noticed.
    index = json.loads(store.contents("shards")["shards.json"])
    data = bytearray(store.contents("shards")[index["shards"][0]["file"]])
    data[200] ^= 255
    store.client.put_object(Bucket="bucket", Key=f"shards/{index['shards'][0]['file']}", Body=bytes(data))
    with pytest.raises(ValueError, match=r"shard-00000\.array_record is damaged: its SHA-256 is not the one"):
        open_footage(Path("s3://bucket/shards"), config, tmp_path / "other")
    with pytest.raises(ValueError, match=r"s3://bucket/footage has no shards\.json, expected shards there: shard"):
        open_footage(Path("s3://bucket/footage"), config, tmp_path / "cache")


@pytest.mark.live
def test_stores_that_refuse_are_told_in_one_sentence(
    store: Store, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shard(source: Any, out: Any) -> None:
        write_shards([source], out, SETTINGS, 0, progress=False)

    with pytest.raises(OSError, match="s3://absent/footage does not exist: check the bucket and the path"):
        shard(Address("s3://absent/footage"), tmp_path / "out")
    with pytest.raises(OSError, match=r"s3://absent/out/.* cannot be written, because its bucket does not exist"):
        shard(videos, Address("s3://absent/out"))
    store.put(videos, "footage")
    with pytest.raises(ValueError, match=r"s3://bucket/footage/a\.mp4 is a file: name the address of a folder"):
        shard(BUCKET / "footage/a.mp4", tmp_path / "out")
    with pytest.raises(ValueError, match="s3://bucket/footage is the folder of videos itself"):
        shard(BUCKET / "footage", BUCKET / "footage")
    listed = shards.find_videos([BUCKET / "footage"])
    store.remove("footage/a.mp4")  # since it was listed
    with monkeypatch.context() as patch:
        patch.setattr(shards, "find_videos", lambda *_: listed)
        with pytest.raises(OSError, match=r"s3://bucket/footage/a\.mp4 does not exist"):
            shard(BUCKET / "footage", tmp_path / "out")
    store.check_credentials(True)
    with pytest.raises(PermissionError, match=r"s3://bucket/footage refuses access \(.*\): check the credentials"):
        shard(BUCKET / "footage", tmp_path / "other")
    with pytest.raises(PermissionError, match=r"s3://bucket/out/.* refuses access"):
        shard(videos, BUCKET / "out")
    assert not (tmp_path / "out" / "shards.json").exists()


def test_a_store_in_memory(videos: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(videos), "/box/footage", recursive=True)
    try:
        with pytest.raises(ValueError, match="memory:// is seen by this process alone: decode in it"):
            write_shards([to_place("memory://box/footage")], tmp_path / "out", SETTINGS, 1)
        write_shards([to_place("memory://box/footage")], to_place("memory://box/out"), SETTINGS, 0, progress=False)
        write_shards([videos], tmp_path / "here", SETTINGS, 0, progress=False)
        found = {Path(path).name: memory.cat_file(path) for path in memory.find("/box/out")}
        assert without_times(found) == without_times(contents(tmp_path / "here"))
    finally:
        memory.rm("/box", recursive=True)


def test_a_disk_that_is_full_while_a_video_is_fetched(videos: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/box/a.mp4", (videos / "a.mp4").read_bytes())
    try:
        (tmp_path / "copy.mp4").symlink_to("/dev/full")
        with (
            pytest.raises(OSError, match="No space left on device"),
            local_copy(to_place("memory://box/a.mp4"), tmp_path / "copy"),
        ):
            raise AssertionError("it is not there")
        assert not (tmp_path / "copy.mp4").is_symlink()
    finally:
        memory.rm("/box", recursive=True)


def test_places_of_command_lines() -> None:
    assert to_place("footage") == Path("footage")
    assert to_place("C:/footage") == Path("C:/footage")
    assert to_place("file:///some/where%20else") == Path("/some/where else")
    assert to_place("s3://bucket/x/") == Address("s3://bucket/x")
    assert str(to_place("s3://bucket/x") / "y") == "s3://bucket/x/y"
    assert path_to_place(Path("s3://bucket/x")) == Address("s3://bucket/x")
    assert path_to_place(Path("runs/one")) == Path("runs/one")
    with pytest.raises(
        ValueError, match=r"s3://bucket/\*\.mp4 has one of \* \? \[ \] in it, expected the address of one"
    ):
        to_place("s3://bucket/*.mp4")
    with pytest.raises(ValueError, match=r"nothing://x cannot be used \(.*\): expected for example s3://bucket/folder"):
        remote_files.list_files(Address("nothing://x"))


def test_without_fsspec_the_package_is_named(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(ValueError, match=r"s3://bucket/x needs fsspec, which is not installed: pip install 'everframe"):
        write_shards([Address("s3://bucket/x")], tmp_path / "out", SETTINGS, 0)
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(
        ValueError, match=r"gs://bucket/x needs a package that is not installed \(.*gcsfs.*\): install it"
    ):
        write_shards([Address("gs://bucket/x")], tmp_path / "out", SETTINGS, 0)


def test_plain_paths_need_neither_ray_nor_fsspec(videos: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from training.data.shards import write_shards
from training.data.takes import ShardSettings
write_shards([Path({str(videos)!r})], Path({str(tmp_path / "out")!r}), ShardSettings(short_side=48), 0, progress=False)
assert not {{"ray", "fsspec", "s3fs", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3], check=True, timeout=120)


def test_what_a_killed_process_has_fetched_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    program = """
import os
from training.data.remote_files import temporary_folder
with temporary_folder() as folder:
    (folder / "video.mp4").write_bytes(b"half")
    os._exit(9)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", program], cwd=root, env=environment, check=False, timeout=60)
    assert len(list(tmp_path.rglob("video.mp4"))) == 1
    with temporary_folder() as mine, temporary_folder() as other:
        assert sorted(tmp_path.iterdir()) == sorted((mine, other))
    assert not list(tmp_path.iterdir())
