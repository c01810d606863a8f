"""A file that is written next to its final path and then renamed; only regular files are ever written to."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from pathlib import Path

_NOT_A_FILE = {errno.ELOOP, errno.ENXIO}  # errors of opening a link and a socket
_CLOSES_FIRST = os.name == "nt"  # elsewhere a lock must last until the file is renamed or deleted
_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")  # those that the system has


class OutputFile(io.FileIO):
    """The regular file PATH + SUFFIX, open for reading and writing; existing content stays.

    It is unbuffered, so that all written data is in the file when the process is killed.

    Args:
        path: the final path.
        suffix: is added to the path until `commit`.

    Attributes:
        partial: the path with the suffix. The file is created if needed; links are not followed.

    Raises:
        OSError: it cannot be opened, or is a link, a pipe, a socket or a device.
    """

    def __init__(self, path: Path, suffix: str) -> None:
        self._path, self.partial = path, path.with_name(path.name + suffix)
        try:
            super().__init__(self.partial, "r+", opener=_open)
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                raise _no_file(self.partial) from error
            raise
        if not stat.S_ISREG(os.fstat(self.fileno()).st_mode):
            self.close()
            raise _no_file(self.partial)

    def write(self, data: bytes) -> int:  # type: ignore[override]  # only bytes are written here
        """Write all of the data; a plain `FileIO` may write only a part without an error.

        Raises:
            OSError: the disk is full, or another limit was reached.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) :]
        return len(data)

    @property
    def is_deleted(self) -> bool:
        """Whether the file has no path any more."""
        return os.fstat(self.fileno()).st_nlink == 0

    def commit(self) -> None:
        """Move the file to its final path, replacing an older one, and close it."""
        if _CLOSES_FIRST:
            self.close()
        self.partial.replace(self._path)
        self.close()

    def discard(self) -> None:
        """Delete and close the file; without errors."""
        with contextlib.suppress(OSError):
            if _CLOSES_FIRST:
                self.close()
            self.partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.close()


def _open(path: str, _: int) -> int:
    flags = os.O_RDWR | os.O_CREAT
    for name in _FLAGS:
        flags |= getattr(os, name, 0)
    return os.open(path, flags, 0o666)


def _no_file(path: Path) -> OSError:
    return OSError(errno.EINVAL, "there is a link, a pipe, a socket or a device of that name", str(path))
