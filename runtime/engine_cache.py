"""Compiled graphs on disk: a cache that can be thrown away, is never trusted to be whole, and never stops a show."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

_MAGIC = b"everframe engine 1\n"
_DIGEST_BYTES = 32


def default_cache_dir(bundle: Path) -> Path:
    """Return where compiled graphs of a bundle go; nothing is made yet.

    Args:
        bundle: the bundle's folder.

    Returns:
        Its `engines/` if that can be written and is no link out of the bundle, else a folder in the user's cache.
    """
    folder = bundle / "engines"
    place = folder if folder.exists() else bundle
    is_inside = place.resolve().is_relative_to(bundle.resolve())
    if is_inside and place.is_dir() and os.access(place, os.W_OK):
        return folder
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache) / "everframe" / "engines"


class EngineCache:
    """The place of one compiled graph.

    Args:
        folder: where, or None for no cache at all.
        graph: the graph that was compiled.
        engine: the engine's name, the start of the file's name.
        parts: everything else that the compiled graph depends on: device, version, options.
    """

    def __init__(self, folder: Path | None, graph: bytes, engine: str, parts: Sequence[str]) -> None:
        digest = hashlib.sha256(hashlib.sha256(graph).digest())
        for part in parts:
            digest.update(part.encode() + b"\0")
        self._file = None if folder is None else folder / f"{engine}-{digest.hexdigest()[:32]}.bin"

    @property
    def is_usable(self) -> bool:
        """Whether there is a folder to store in."""
        return self._file is not None

    @property
    def file(self) -> Path | None:
        """The file, which need not be there; None without a folder."""
        return self._file

    def load(self) -> bytes | None:
        """Return the stored bytes, or None if there are none or they are damaged."""
        if self._file is None:
            return None
        try:
            data = self._file.read_bytes()
        except OSError:
            return None
        start = len(_MAGIC) + _DIGEST_BYTES
        content = data[start:]
        if data[:start] != _MAGIC + hashlib.sha256(content).digest():
            self.discard()
            return None
        return content

    def store(self, content: bytes) -> None:
        """Store bytes, beside and renamed; a full or read-only disk is no error."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor, beside = tempfile.mkstemp(dir=self._file.parent, prefix=".engine-")
            try:
                with os.fdopen(descriptor, "wb") as stream:
                    stream.write(_MAGIC + hashlib.sha256(content).digest() + content)
                os.replace(beside, self._file)  # noqa: PTH105 - the other end is a bare name from mkstemp
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(beside)  # noqa: PTH108

    def discard(self) -> None:
        """Remove the stored bytes, if that is possible."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.unlink()
