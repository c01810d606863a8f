"""Videos are decoded on a Ray cluster: one task per video. Ray places the tasks and repeats those of lost workers.

A task needs the package everframe, the versions of the decoding libraries that this process has, the footage (at the
same path on every node, or at an address), and room in its temporary folder for the video, if it is fetched, and its
takes. It sends the takes in blocks, which this process writes into the spool that a process of this machine would have
written. A node whose disk is full, or that cannot read the video, is left out when the task is tried again.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from training.data.remote_files import FULL, temporary_folder
from training.data.shard_pool import quieten
from training.data.sources import Source
from training.data.takes import ShardSettings
from training.data.video_spool import CRASHED, Job, keep_spool, spool_source

BLOCK_BYTES = 8 * 2**20  # what a task sends at a time
MAX_LOST_WORKERS = 4  # of one video; then it is skipped as one that crashes its decoder
MAX_NODES = 3  # that one video is tried on
MAX_FAILED = 8  # videos that no node could do; then no more are begun
MAX_AHEAD = 256  # videos that are begun before an earlier one is finished: their takes wait on this machine's disk
_CONNECT_S = 10.0
_DECODERS = ("av", "numpy", "opencv-python-headless", "opencv-python", "scenedetect-headless", "scenedetect")


@dataclass
class _Task:
    """A video that a worker decodes."""

    job: Job
    partial: Path  # takes that have arrived
    nodes: list[str]  # that could not do it
    entry: dict[str, Any] | None = None  # what the task has said first
    digest: Any = field(default_factory=hashlib.sha256)  # of `partial`


def spool_blocks(source: Source, settings: ShardSettings) -> Iterator[dict[str, Any] | bytes]:
    """Decode a video on a node of the cluster; yield its metadata, then its takes in blocks.

    The metadata are those of `spool_source` with `host`, `node`, `versions` and the `sha256` of the takes; or `host`,
    `node` and `failed`, a sentence, if this node could not do it.
    """
    import ray

    where = {"host": socket.gethostname(), "node": ray.get_runtime_context().get_node_id()}
    quieten()
    with temporary_folder() as folder:
        try:
            if isinstance(source.place, Path) and not source.place.exists():
                raise FileNotFoundError(
                    f"there is no {source.place}: put the footage on a file system that every node mounts, or at an "
                    "address such as s3://bucket/footage"
                )
            entry = spool_source(source, folder / "spool", settings)
            digest, takes = hashlib.sha256(), folder / "spool.takes"
            if takes.exists():
                with takes.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256")
        except (OSError, ValueError) as error:
            is_full = isinstance(error, OSError) and error.errno in FULL
            yield {"failed": f"the disk of {folder.parent} is full" if is_full else str(error), **where}
            return
        yield {**entry, "sha256": digest.hexdigest(), "versions": _versions(), **where}
        if takes.exists():
            with takes.open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    yield block


def decode_on(
    jobs: Sequence[Job], settings: ShardSettings, address: str, at_once: int | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Spool every video on a Ray cluster, in any order.

    Args:
        jobs: the videos.
        settings: how they are cut.
        address: "auto" for the cluster of which this machine is a node, or HOST:PORT of its head.
        at_once: videos given out at a time; two per core of the cluster if None.

    Yields:
        A job's number and the metadata of its spool, see `spool_source`.

    Raises:
        ValueError: Ray is not installed, the address is no cluster's, or nodes have other versions.
        OSError: videos that no node could do, after the others; the same call resumes.
    """
    with _connected(address) as ray:
        task = ray.remote(num_cpus=1, max_retries=MAX_LOST_WORKERS)(spool_blocks)
        settings_ref = ray.put(settings)
        if not ray.cluster_resources().get("CPU"):
            print("the cluster has no CPU yet: waiting for a node that has", flush=True)
        waiting = deque(_Task(job, _partial(job), []) for job in jobs)
        running: dict[Any, _Task] = {}  # by Ray's generator of what the task sends
        failed: dict[int, str] = {}
        try:
            while waiting or running:
                limit = at_once or max(4, 2 * int(ray.cluster_resources().get("CPU", 0)))
                while waiting and len(running) < limit and len(failed) < MAX_FAILED:
                    blocking = [*failed, *(each.job.number for each in running.values())]
                    if blocking and waiting[0].job.number >= min(blocking) + MAX_AHEAD:
                        break
                    begun = waiting.popleft()
                    elsewhere = {"label_selector": {"ray.io/node-id": f"!in({','.join(begun.nodes)})"}}
                    options = task.options(**elsewhere) if begun.nodes else task
                    running[options.remote(begun.job.source, settings_ref)] = begun
                if not running:
                    break
                (stream,), _ = ray.wait(list(running), num_returns=1, fetch_local=False)
                current = running[stream]
                entry = _receive(ray, stream, current)
                if entry is None:
                    continue
                del running[stream]
                if "failed" not in entry:
                    yield current.job.number, entry
                    continue
                current.partial.unlink(missing_ok=True)
                nodes = [*current.nodes, *filter(None, [entry["node"]])]
                others = {node["NodeID"] for node in ray.nodes() if _is_worker(node)} - set(nodes)
                if entry["node"] and others and len(nodes) < MAX_NODES:
                    waiting.appendleft(_Task(current.job, current.partial, nodes))
                else:
                    failed[current.job.number] = f"{current.job.source.name} ({entry['host']}: {entry['failed']})"
        finally:
            for stream in running:
                with suppress(ray.exceptions.RayError):
                    ray.cancel(stream)
    if failed:
        told = "; ".join(failed[number] for number in sorted(failed)[:3])
        more = f"; and {len(failed) - 3} more" if len(failed) > 3 else ""
        count = "1 video" if len(failed) == 1 else f"{len(failed)} videos"
        raise OSError(
            f"{count} could not be sharded on any node that was tried: {told}{more}; what is finished is kept: put it "
            "right, or take such videos away, and start the same command again"
        )


def _partial(job: Job) -> Path:
    return job.spool.with_name(f"{job.spool.name}.partial")


def _receive(ray: Any, stream: Any, task: _Task) -> dict[str, Any] | None:
    """Take the next item of a task; return its outcome, as `spool_blocks` has it, or None if there is more to come."""
    try:
        _take(task, ray.get(next(stream)))
    except StopIteration:
        return _finish(task)
    except ray.exceptions.WorkerCrashedError:
        entry = {"error": CRASHED}
        task.partial.write_bytes(b"")
        keep_spool(task.job.spool, task.partial, entry)
        return entry
    except ray.exceptions.RayError as error:
        return {"failed": _reason(error), "host": "the cluster", "node": ""}
    return None


def _take(task: _Task, item: dict[str, Any] | bytes) -> None:
    """Keep what a task has sent."""
    if isinstance(item, bytes):
        task.digest.update(item)
        with task.partial.open("ab") as file:
            file.write(item)
        return
    task.entry = item
    task.partial.write_bytes(b"")
    here, there = _versions(), item.get("versions", {})
    others = [f"{name} {there.get(name)} and not {here[name]}" for name in here if there.get(name) != here[name]]
    if "failed" not in item and others:
        raise ValueError(
            f"{item['host']} has {', '.join(others)}, which may make other shards: install the versions of this "
            "machine on every node"
        )


def _finish(task: _Task) -> dict[str, Any]:
    """Return the metadata of a task that has ended, and keep its spool."""
    assert task.entry is not None, "a task says its metadata first"
    if "failed" in task.entry:
        return task.entry
    facts = ("sha256", "versions", "host", "node")
    entry = {key: value for key, value in task.entry.items() if key not in facts}
    if task.digest.hexdigest() != task.entry["sha256"]:  # begun on one kind of CPU, and repeated on another
        return {"failed": "its takes changed on the way", "host": task.entry["host"], "node": task.entry["node"]}
    keep_spool(task.job.spool, task.partial, entry)
    return entry


def _versions() -> dict[str, str]:
    """Return the versions of the packages on which the bytes of shards depend."""
    found = {}
    for name in _DECODERS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _is_worker(node: dict[str, Any]) -> bool:
    return bool(node["Alive"]) and node["Resources"].get("CPU", 0) >= 1


def _reason(error: Exception) -> str:
    """Return an error of Ray as one line; raises ValueError if the workers lack this package."""
    text = " ".join(str(getattr(error, "cause", None) or error).split())
    if missing := re.search(r"No module named '?([\w.]+)", str(error)):
        raise ValueError(
            f"the cluster's workers have no package {missing[1]}: install everframe[train,cluster] on every node"
        ) from error
    return f"{type(error).__name__}: {text[:200]}"


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Yield Ray, connected to a cluster; disconnects at the end, unless the program was connected before."""
    try:
        import ray
    except ImportError:
        raise ValueError("--cluster needs Ray, which is not installed: pip install 'everframe[cluster]'") from None
    if ray.is_initialized():
        yield ray
        return
    start = "start one (ray start --head; on other machines ray start --address HOST:PORT) and run this on a node of it"
    if address != "auto":
        host, colon, port = address.rpartition(":")
        if not colon or not host or "/" in address or not port.isdecimal():
            raise ValueError(
                f'--cluster is "{address}", expected "auto" or HOST:PORT of the head: run the command on a node of the '
                "cluster, for example by `ray job submit`"
            )
        try:
            _require_grpc(host.strip("[]"), int(port))
        except (OSError, OverflowError) as error:
            raise OSError(f"no Ray cluster answers at {address} ({error}): {start}") from None
    try:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of Ray, to its makers
        ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # ConnectionError, RuntimeError, ValueError and errors of gRPC
        text = " ".join(str(error).split())[:200]
        raise OSError(f"the Ray cluster at {address} cannot be used ({text}): {start}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_grpc(host: str, port: int) -> None:
    """Raise OSError unless a server of gRPC, that is of HTTP/2, answers; with any other, `ray.init` waits for ever."""
    with socket.create_connection((host, port), _CONNECT_S) as connection:
        if os.environ.get("RAY_USE_TLS", "0") not in ("0", ""):
            return
        # RFC 9113, 3.4: both sides begin with a SETTINGS frame (type 4), the client's after a fixed text.
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        with connection.makefile("rb") as answer:
            head = answer.read(9)
        if len(head) < 9 or head[3] != 4:
            raise OSError("another kind of server is there")
