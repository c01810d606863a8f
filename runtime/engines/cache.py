"""Compiled graphs on disk. The cache may be deleted or damaged at any time; that costs only time.

Compiled graphs skip the checks of a bundle's graphs. So only the user's own folder is read, and a folder in a bundle
only if the user trusts it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

_MAGIC = b"everframe engine 2\n"
_DIGEST_BYTES = 32
_MAX_BYTES = 8 * 2**30  # of a private folder; the oldest files beyond it are removed, but never the newest


def default_cache_dir() -> Path | None:
    """Return the folder for compiled graphs in the user's cache, or None without a home folder; creates nothing.

    $XDG_CACHE_HOME/everframe/engines where that is set. Otherwise everframe/engines in ~/.cache, in ~/Library/Caches
    on macOS, or in %LOCALAPPDATA% on Windows.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else None)
    try:
        home = "~/Library/Caches" if sys.platform == "darwin" else "~/.cache"
        return Path(cache or Path(home).expanduser()) / "everframe" / "engines"
    except RuntimeError:  # no HOME, and the system does not know the user
        return None


class EngineCache:
    """The cache entry of one compiled graph.

    Args:
        folder: of the cache, or None for no cache.
        graph: the graph that was compiled.
        engine: name of the engine; the file's name starts with it.
        parts: everything else that the compiled graph depends on: device, version, options.
        is_private: whether the folder and its files are used only if they belong to this user, nobody else can write
            to them, and neither is a link. False for a folder that the user trusts, such as the engines of a bundle.
    """

    def __init__(
        self, folder: Path | None, graph: bytes, engine: str, parts: Sequence[str], *, is_private: bool = True
    ) -> None:
        digest = hashlib.sha256(hashlib.sha256(graph).digest())
        for part in parts:
            digest.update(part.encode() + b"\0")
        self._key = digest.digest()
        self._is_private = is_private
        self._file = None if folder is None else folder / f"{engine}-{self._key.hex()[:32]}.bin"

    @property
    def is_usable(self) -> bool:
        """Whether there is a folder to store in."""
        return self._file is not None

    @property
    def file(self) -> Path | None:
        """The file, which may not exist; None without a folder."""
        return self._file

    def load(self) -> bytes | None:
        """Return the stored bytes, or None if they are missing, damaged, or another user may have written them."""
        if self._file is None:
            return None
        try:
            header, content = self._read(self._file)
        except OSError:
            return None
        if header != self._header(content):
            self.discard()
            return None
        return content

    def store(self, content: bytes) -> None:
        """Store bytes in a temporary file and rename it; a full or read-only disk is not an error."""
        if self._file is None:
            return
        folder = self._file.parent
        with contextlib.suppress(OSError):
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir(mode=0o700 if self._is_private else 0o777, exist_ok=True)
            if self._is_private:
                _check_private(folder.lstat(), stat.S_ISDIR)
            descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".engine-")
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(self._header(content))
                    stream.write(content)
                os.replace(temporary, self._file)  # noqa: PTH105 - mkstemp returns a str
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary)  # noqa: PTH108
            if self._is_private:
                _trim(folder)

    def discard(self) -> None:
        """Remove the stored bytes from a private folder, if possible."""
        if self._file is not None and self._is_private:
            with contextlib.suppress(OSError):
                self._file.unlink()

    def _header(self, content: bytes) -> bytes:
        digest = hashlib.sha256(self._key)
        digest.update(content)
        return _MAGIC + self._key + digest.digest()

    def _read(self, file: Path) -> tuple[bytes, bytes]:
        """Return the header and the content, which may be large and is not copied."""
        if self._is_private:
            _check_private(file.parent.lstat(), stat.S_ISDIR)
            _check_private(file.lstat(), stat.S_ISREG)  # safe, as nobody else can replace files in the folder
        with file.open("rb") as stream:
            return stream.read(len(_MAGIC) + 2 * _DIGEST_BYTES), stream.read()


def _check_private(status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    """Raise OSError unless a file or folder is not a link, belongs to this user, and nobody else can write to it."""
    is_safe = is_kind(status.st_mode)
    if sys.platform != "win32":  # Windows protects the users' folders with access lists
        is_safe = is_safe and status.st_uid == os.geteuid() and not status.st_mode & 0o022
    if not is_safe:
        raise PermissionError("another user may have written it")


def _trim(folder: Path) -> None:
    """Remove the oldest files of a folder until the rest fits into `_MAX_BYTES`."""
    files = sorted(((file.stat(), file) for file in folder.glob("*.bin")), key=lambda item: -item[0].st_mtime_ns)
    total = 0
    for number, (status, file) in enumerate(files):
        total += status.st_size
        if number and total > _MAX_BYTES:
            file.unlink()
