"""Atomic writing: a file is written under a temporary name and renamed, so it is never seen half-written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it is renamed to `path` at the end, or removed if the block raises."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 atomically; it is on the disk (fsync) before it is renamed."""
    with written(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def to_sentence(error: Exception, kept: str) -> str:
    """Return the message to print for an error.

    Args:
        error: any; a full disk and a name that is too long get a message of their own.
        kept: what a full disk has not changed.
    """
    if not isinstance(error, OSError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; {kept}: make room and start the same command again"
    if error.errno == errno.ENAMETOOLONG:
        name = str(error.filename)
        return f"the name {name[:60]}{'...' if len(name) > 60 else ''} is too long for this file system: shorten it"
    return str(error)
