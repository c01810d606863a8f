"""Training from shards at an address: they are copied to this machine once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from training.atomic_file import write_text
from training.data.remote_files import Address, cache_folder, download
from training.data.shard_folder import INDEX, locked, open_folder
from training.data.shard_index import read_index


def copy_shards(address: Address, cache: Path | None = None) -> Path:
    """Copy the shards at an address into the cache, as far as they are not there, and return the folder.

    The index is written last; a copy that was interrupted goes on.

    Args:
        address: of shards.
        cache: the folder of caches; `cache_folder()` if not given.

    Raises:
        ValueError: no shards are there, or they are unfinished or damaged.
        OSError: the address cannot be reached, or the disk is full.
    """
    out = (cache or cache_folder()) / hashlib.sha256(str(address).encode()).hexdigest()[:24]
    out.mkdir(parents=True, exist_ok=True)
    with locked(out, out):
        remote = open_folder(address)
        text = remote.read_text(INDEX)
        if text is None and not remote.is_unfinished():
            raise ValueError(
                f"{address} has no {INDEX}, expected shards there: shard footage first (python -m training shard "
                f"{address} --out SHARDS)"
            )
        index = read_index(address)
        has = open_folder(out).written()
        before = open_folder(out).read_text(INDEX)
        (out / INDEX).unlink(missing_ok=True)  # until every shard is here
        for shard in index.shards:
            file = out / shard["file"]
            # The same name and size may be another shard, if the footage was sharded again meanwhile.
            if before != text and file.exists() and _digest(file) != shard["sha256"]:
                file.unlink()
            if not file.exists() or has.get(shard["file"], (0, 0))[0] != shard["bytes"]:
                print(f"copying {address / shard['file']}, {shard['bytes'] / 1e6:.0f} MB", flush=True)
                partial = file.with_name(f"{file.name}.partial")
                download(address / shard["file"], partial)
                if _digest(partial) != shard["sha256"]:
                    partial.unlink()
                    raise ValueError(
                        f"{address / shard['file']} is damaged: its SHA-256 is not the one in {INDEX}; delete it there "
                        "and run the same shard command again"
                    )
                partial.replace(file)
        assert text is not None
        write_text(out / INDEX, text)
    return out


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
