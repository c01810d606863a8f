"""Files at an address that fsspec reads, for example s3://bucket/footage; plain paths need neither fsspec nor s3fs.

Every error of a store becomes one sentence (an OSError). A full disk of this machine stays the error that it is.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from shutil import rmtree
from typing import Any
from urllib.parse import unquote

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://(.*)", re.IGNORECASE | re.DOTALL)
_LOCAL = ("file", "local")
_WITH_FOLDERS = ("memory", "sftp", "ssh", "ftp", "hdfs", "webhdfs", "smb")
_EXTRA = "pip install 'everframe[cluster]'"
_KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or ~/.aws"
_WORK = "everframe-shard"  # begins the names of temporary folders
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclasses.dataclass(frozen=True)
class Address:
    """The address of a folder or file, for example s3://bucket/footage; without a slash at its end."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __truediv__(self, name: str) -> Address:
        return Address(f"{self.text.rstrip('/')}/{name}")

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.text.rpartition("/")[2]

    @property
    def protocol(self) -> str:
        """What stands before "://", in small letters."""
        return self.text.partition("://")[0].lower()


Place = Path | Address


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """What a store says of a file."""

    size: int  # bytes
    mtime_ns: int  # time of modification; 0 if the store keeps none


def to_place(text: str) -> Place:
    """Return the place that a command line names: an address, or a path for anything else and for file://.

    Raises:
        ValueError: the address has a character that fsspec reads as a pattern.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        return Path(text)
    protocol, rest = match.groups()
    if protocol.lower() in _LOCAL:
        return Path(unquote(rest))
    if any(character in rest for character in "*?[]"):
        raise ValueError(f"{text} has one of * ? [ ] in it, expected the address of one folder: name it without them")
    return Address(text if not rest.strip("/") else text.rstrip("/"))


def path_to_place(path: Path) -> Place:
    """Return the place of a path; one made from an address (s3://bucket became s3:/bucket) becomes it again."""
    protocol, colon, rest = str(path).partition(":/")
    if not colon or not re.fullmatch(r"[a-z][a-z0-9+.-]+", protocol, re.IGNORECASE) or path.exists():
        return path
    return to_place(f"{protocol}://{rest}")


def cache_folder() -> Path:
    """Return the folder where decoded footage is kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "everframe" / "footage"


def _store(address: Address) -> tuple[Any, str]:
    """Return fsspec's file system of an address and the path within it."""
    try:
        from fsspec.core import url_to_fs
    except ImportError:
        raise ValueError(f"{address} needs fsspec, which is not installed: {_EXTRA}") from None
    try:
        store, path = url_to_fs(str(address))
    except ImportError as error:  # the package of this kind of store
        extra = _EXTRA if address.protocol in ("s3", "s3a") else "install it"
        raise ValueError(f"{address} needs a package that is not installed ({error}): {extra}") from None
    except ValueError as error:
        raise ValueError(f"{address} cannot be used ({error}): expected for example s3://bucket/folder") from None
    store.invalidate_cache()  # of listings: others write there, too
    return store, str(path)


@contextmanager
def _told(address: Address, action: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        if action == "written":
            raise OSError(f"{address} cannot be written, because its bucket does not exist: make it first") from None
        raise FileNotFoundError(f"{address} does not exist: check the bucket and the path") from None
    except Exception as error:  # stores raise what they like: errors of botocore, aiohttp, paramiko
        if isinstance(error, OSError) and error.errno in FULL:
            raise
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        if isinstance(error, PermissionError) or "Credential" in type(error).__name__:
            message = f"{address} refuses access ({reason}): check the credentials on this machine, for S3 {_KEYS}"
            raise PermissionError(message) from error
        raise OSError(
            f"{address} cannot be {action} ({reason}): check the address and the network, then start the same command "
            "again"
        ) from error


def list_files(address: Address) -> dict[str, RemoteFile]:
    """Return every file below an address by its path within it, sorted.

    Raises:
        ValueError: the address is a file, or its packages are not installed.
        OSError: it does not exist, refuses access or cannot be reached.
    """
    store, root = _store(address)
    with _told(address, "listed"):
        is_file = store.info(root)["type"] == "file"
        found = store.find(root, detail=True)
    if is_file:
        raise ValueError(f"{address} is a file: name the address of a folder")
    rows = {path.removeprefix(root).lstrip("/"): info for path, info in found.items()}
    return {
        name: RemoteFile(int(rows[name]["size"] or 0), _modified_ns(rows[name]))
        for name in sorted(rows)
        if name and rows[name]["type"] == "file" and not rows[name]["name"].endswith("/")
    }


def _modified_ns(info: dict[str, Any]) -> int:
    for key in ("LastModified", "last_modified", "mtime", "updated", "created"):
        value = info.get(key)
        if isinstance(value, str):
            with suppress(ValueError):
                value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            value = value.timestamp()
        if isinstance(value, (int, float)):
            return round(value * 1e6) * 1000
    return 0


def is_there(address: Address) -> bool:
    """Return whether a file is at an address; raises OSError if the store cannot be asked."""
    store, path = _store(address)
    try:
        with _told(address, "read"):
            store.info(path)
    except FileNotFoundError:
        return False
    return True


def read_bytes(address: Address) -> bytes:
    """Return the content of a file; raises OSError, FileNotFoundError if there is none."""
    store, path = _store(address)
    with _told(address, "read"):
        return bytes(store.cat_file(path))


def write_bytes(address: Address, data: bytes) -> None:
    """Write a small file under another name and rename it, so that it is never seen half-written; raises OSError."""
    store, path = _store(address)
    with _told(address, "written"):
        _make_parent(address, store, path)
        store.pipe_file(f"{path}.partial", data)
        store.mv(f"{path}.partial", path)


def upload(source: Path, address: Address) -> None:
    """Copy a local file to an address; raises OSError."""
    store, path = _store(address)
    with _told(address, "written"):
        _make_parent(address, store, path)
        store.put_file(str(source), path)


def _make_parent(address: Address, store: Any, path: str) -> None:
    """Make the folder of a file where there are folders; a store of objects would make a bucket."""
    if address.protocol in _WITH_FOLDERS:
        store.makedirs(path.rpartition("/")[0], exist_ok=True)


def download(address: Address, target: Path) -> None:
    """Copy a file to this machine; raises OSError, also for a full disk."""
    store, path = _store(address)
    with _told(address, "read"):
        store.get_file(path, str(target))


def remove(address: Address) -> None:
    """Remove a file; raises OSError, but not if there is none."""
    store, path = _store(address)
    with suppress(FileNotFoundError), _told(address, "removed"):
        store.rm_file(path)


@contextmanager
def local_copy(place: Place, stem: Path) -> Iterator[Path]:
    """Yield a local file with the content of `place`: the file itself, or a copy that is removed at the end.

    Args:
        place: a file.
        stem: where the copy lies, without its suffix, which is that of `place`.

    Raises:
        OSError: it cannot be fetched, or the disk is full.
    """
    if isinstance(place, Path):
        yield place
        return
    copy = stem.with_name(stem.name + Path(place.name).suffix)
    try:
        download(place, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a temporary folder; removes those of processes of this machine that were killed."""
    base = Path(tempfile.gettempdir())
    mine = f"{_WORK}-{socket.gethostname()}-"
    for folder in base.glob(f"{mine}*-*"):
        owner = folder.name.removeprefix(mine).partition("-")[0]
        if owner.isdigit() and not _is_alive(int(owner)):
            rmtree(folder, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}-"))
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    if os.name == "nt":
        return True  # there os.kill ends the process
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
