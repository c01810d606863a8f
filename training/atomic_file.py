"""Files are written beside their place and renamed, so that nobody ever finds half a file under the right name."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it is renamed to `path` at the end, or removed if the block raises."""
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, beside its place."""
    with written(path) as partial:
        partial.write_text(text, encoding="utf-8")


def to_sentence(error: Exception, kept: str) -> str:
    """Return what people are told of an error.

    Args:
        error: any; those of a full disk and of a name that is too long are put into words.
        kept: what a full disk has left as it was.
    """
    if not isinstance(error, OSError):
        return str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}; {kept}: make room and start the same command again"
    if error.errno == errno.ENAMETOOLONG:
        name = str(error.filename)
        return f"the name {name[:60]}{'...' if len(name) > 60 else ''} is too long for this file system: shorten it"
    return str(error)
