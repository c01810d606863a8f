"""A file that is written beside its place: opened so that nothing but a regular file is ever written to."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path

_NOT_A_FILE = {errno.ELOOP, errno.ENXIO}  # what opening a link and a socket gives
_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")  # as far as the system has them


class OutputFile(io.FileIO):
    """A regular file, open for reading and writing; what is in it already stays.

    It has no buffer of its own, so that what was written is in the file when the process is killed.

    Args:
        path: made if it is not there. A link is not followed, and a pipe is not waited for.

    Raises:
        OSError: it cannot be opened, or there is a link, a pipe, a socket or a device of that name.
    """

    def __init__(self, path: Path) -> None:
        try:
            super().__init__(path, "r+", opener=_open)
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                raise _no_file(path) from error
            raise
        if not stat.S_ISREG(os.fstat(self.fileno()).st_mode):
            self.close()
            raise _no_file(path)

    def write(self, data: bytes) -> int:  # type: ignore[override]  # all that is written here is bytes
        """Write all of the data; a plain `FileIO` may write a part of it and raise no error.

        Raises:
            OSError: the disk is full, or another limit was met.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return len(data)

    @property
    def is_deleted(self) -> bool:
        """Whether no name in any folder leads to the file any more."""
        return os.fstat(self.fileno()).st_nlink == 0


def _open(path: str, _: int) -> int:
    flags = os.O_RDWR | os.O_CREAT
    for name in _FLAGS:
        flags |= getattr(os, name, 0)
    return os.open(path, flags, 0o666)


def _no_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, "there is a link, a pipe, a socket or a device of that name", str(path))
