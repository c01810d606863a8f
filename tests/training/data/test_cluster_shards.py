"""Sharding on a Ray cluster of this machine: two nodes with one core each."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from tests.training.data.s3 import Store, serving, without_times
from tests.training.data.test_shards import SETTINGS, contents, moving, write_video
from training.data import cluster_shards, shard_packing, shards
from training.data.shards import write_shards
from training.data.sources import Source
from training.data.takes import ShardSettings

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch, serving(patch) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(store: Store) -> Iterator[str]:
    """The address of a Ray cluster whose nodes know the store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(ROOT))  # of the workers
        patch.setenv("OMP_NUM_THREADS", "1")
        from ray.cluster_utils import Cluster

        node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_log_monitor": False}
        machines = Cluster(
            initialize_head=True, head_node_args={**node, "include_dashboard": False, "no_monitor": True}
        )
        try:
            machines.add_node(**node)
            yield machines.address
        finally:
            machines.shutdown()


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five videos, one of them damaged; a shard holds two."""
    for number in range(4):
        write_video(tmp_path / "in" / f"{number}.mp4", moving(number, 24))
    (tmp_path / "in" / "2a.mp4").write_bytes(b"this is no video")
    monkeypatch.setattr(shard_packing, "SHARD_BYTES", 250_000)
    return tmp_path / "in"


@pytest.mark.live
def test_a_cluster_makes_the_same_shards_though_workers_die(
    cluster: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_shards([videos], tmp_path / "here", SETTINGS, 0, progress=False)
    expected = contents(tmp_path / "here")
    assert len([name for name in expected if name.startswith("shard-")]) >= 2
    killed = tmp_path / "killed"
    killed.mkdir()

    def dying(source: Source, settings: ShardSettings) -> Iterator[dict[str, Any] | bytes]:
        """Kill the worker before the video is told of, and once more in the middle of its takes."""
        from training.data.cluster_shards import spool_blocks

        times = len(list(killed.iterdir()))
        for number, item in enumerate(spool_blocks(source, settings)):
            if source.name == "1.mp4" and times == number < 2:
                (killed / str(times)).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            yield item

    monkeypatch.setattr(cluster_shards, "spool_blocks", dying)
    write_shards([videos], tmp_path / "there", SETTINGS, None, cluster=cluster)
    assert contents(tmp_path / "there") == expected
    assert len(list(killed.iterdir())) == 2
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("shard ")]
    assert lines[0] == "shard 0/5"
    assert re.fullmatch(r"shard 5/5, .*", lines[-1])


@pytest.mark.live
def test_a_cluster_shards_from_s3_to_s3_and_resumes(
    cluster: str, store: Store, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards([videos], tmp_path / "here", SETTINGS, 0, progress=False)
    store.put(videos, "footage")
    finish = shard_packing.Packer._finish

    def interrupted(packer: shard_packing.Packer, file: str) -> dict[str, Any]:
        if any("shard-" in name for name in store.contents("out")):
            raise KeyboardInterrupt
        return finish(packer, file)

    parser = argparse.ArgumentParser()
    shards.add_arguments(parser)
    options = ["--cluster", cluster, "--short-side", "48", "--max-frames", "32", "--min-frames", "8"]
    command = parser.parse_args(["s3://bucket/footage", "--out", "s3://bucket/out", *options])
    with monkeypatch.context() as patch:
        patch.setattr(shard_packing.Packer, "_finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            shards.run(command)
    assert "shards.json" not in store.contents("out")
    assert len([name for name in store.contents("out") if "shard-" in name]) == 1
    shards.run(command)
    assert without_times(store.contents("out")) == without_times(contents(tmp_path / "here"))


@pytest.mark.live
def test_a_full_disk_is_tried_on_another_node_and_then_told(
    cluster: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_shards([videos], tmp_path / "here", SETTINGS, 0, progress=False)
    seen = tmp_path / "seen"
    is_full_everywhere = True
    seen.mkdir()

    def full(source: Source, settings: ShardSettings) -> Iterator[dict[str, Any] | bytes]:
        """Let the disk be full for a video: on the first node that has it, or on all."""
        import errno

        import ray

        from training.data import cluster_shards as module

        node = ray.get_runtime_context().get_node_id()
        spool = module.spool_source

        def spool_on_a_full_disk(source: Source, *rest: Any) -> dict[str, Any]:
            if source.name == "1.mp4" and (is_full_everywhere or not list(seen.iterdir())):
                (seen / node).touch()
                raise OSError(errno.ENOSPC, "No space left on device")
            return spool(source, *rest)

        module.spool_source = spool_on_a_full_disk
        try:
            yield from module.spool_blocks(source, settings)
        finally:
            module.spool_source = spool

    monkeypatch.setattr(cluster_shards, "spool_blocks", full)
    out = tmp_path / "there"
    said = (
        rf"1 video could not be .* tried: 1\.mp4 \({socket.gethostname()}: the disk of .* is full\); what is finished"
    )
    with pytest.raises(OSError, match=said):
        write_shards([videos], out, SETTINGS, None, progress=False, cluster=cluster)
    assert len(list(seen.iterdir())) == 2
    assert len(list((out / "work").glob("*.json"))) == 4  # the other videos are finished
    for node in seen.iterdir():
        node.unlink()
    is_full_everywhere = False
    write_shards([videos], out, SETTINGS, None, progress=False, cluster=cluster)
    assert len(list(seen.iterdir())) == 1
    assert contents(out) == contents(tmp_path / "here")


@pytest.mark.live
def test_what_the_cluster_cannot_do_is_one_sentence(
    cluster: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "there"

    def old(source: Source, settings: ShardSettings) -> Iterator[dict[str, Any] | bytes]:
        from training.data.cluster_shards import spool_blocks

        for item in spool_blocks(source, settings):
            yield {**item, "versions": {**item["versions"], "av": "1.0"}} if isinstance(item, dict) else item

    def absent(source: Source, settings: ShardSettings) -> Iterator[dict[str, Any] | bytes]:
        from training.data.cluster_shards import spool_blocks

        yield from spool_blocks(replace(source, place=source.place.with_name("not-mounted.mp4")), settings)

    def lacking(source: Source, settings: ShardSettings) -> Iterator[dict[str, Any] | bytes]:
        import everframe_that_is_not_installed

        yield everframe_that_is_not_installed.entry

    for task, error, said in (
        (old, ValueError, r"has av 1\.0 and not .*: install the versions of this machine on every node"),
        (lacking, ValueError, "no package everframe_that_is_not_installed: install everframe"),
        (absent, OSError, r"there is no .*mp4: put the footage on a file system that every node mounts"),
    ):
        monkeypatch.setattr(cluster_shards, "spool_blocks", task)
        with pytest.raises(error, match=said):
            write_shards([videos], out, SETTINGS, None, progress=False, cluster=cluster)
    assert not (out / "shards.json").exists()


@contextmanager
def http_server() -> Iterator[str]:
    """The address of a server that knows nothing of Ray."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_clusters_that_are_none_are_refused(videos: Path, tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(OSError, match=rf"no Ray cluster answers at {address} .*: start one \(ray start --head"):
            write_shards([videos], tmp_path / "out", SETTINGS, None, progress=False, cluster=address)
    with (
        http_server() as address,
        pytest.raises(OSError, match=f"at {address} .another kind of server is there.: start"),
    ):
        write_shards([videos], tmp_path / "out", SETTINGS, None, progress=False, cluster=address)
    for address in ("ray://head:10001", "head", "http://head:8265"):
        with pytest.raises(ValueError, match=rf'--cluster is "{address}", expected "auto" or HOST:PORT'):
            write_shards([videos], tmp_path / "out", SETTINGS, None, progress=False, cluster=address)
    parser = argparse.ArgumentParser()
    shards.add_arguments(parser)
    command = [str(videos), "--out", str(tmp_path / "out"), "--cluster", "auto", "--workers", "0"]
    with pytest.raises(ValueError, match="--workers is 0, expected 1 or more"):
        shards.run(parser.parse_args(command))


def test_without_ray_the_package_is_named(videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ValueError, match=r"--cluster needs Ray, which is not installed: pip install 'everframe\[cluster\]'"
    ):
        write_shards([videos], tmp_path / "out", SETTINGS, None, progress=False, cluster="auto")
    write_shards([videos], tmp_path / "out", SETTINGS, 0, progress=False)  # goes on here
