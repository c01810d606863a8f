"""Signs finished files: MP4 and JPEG get a C2PA manifest, MKV a manifest in a file beside it, a chain its last line.

The file itself is never open for writing. Its signed copy is written beside it and takes its name, so that a failure
at any moment leaves the file as it is.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from provenance.c2pa_library import C2paLibraryError
from provenance.c2pa_library import sign as sign_stream
from provenance.facts import BundleFacts, ShowFacts
from provenance.files import BESIDE, EMBEDDED, SIDECAR
from provenance.keys.credentials import Credentials
from provenance.manifest import to_definition
from provenance.segments import SUFFIX, sign_chain

_PARTIAL = ".signing"
_PASSES = {True: 3, False: 1}  # how often the library reads as many bytes as the file has, embedding or not
_MARGIN = 2**24  # bytes: more than a chunk of media and a manifest have
_PICTURE = (8, 8)  # pixels of the trial
Progress = Callable[[float], bool]


def sign(path: Path, facts: ShowFacts, credentials: Credentials, progress: Progress = lambda _: True) -> Path:
    """Sign a finished file.

    Args:
        path: ends in .mp4, .jpg, .jpeg, .mkv or .segments.jsonl.
        facts: what is stated.
        credentials: sign it.
        progress: called with the share that is done, 0 to 1; returns whether to go on.

    Returns:
        The file with the manifest: the path itself, or that of the file beside it.

    Raises:
        ValueError: the file cannot be signed.
        OSError: a file cannot be read or written, e.g. because the disk is full.
        ImportError: the library is not installed.
    """
    if path.name.endswith(SUFFIX):
        sign_chain(path, facts, credentials)
        return path
    suffix = path.suffix.lower()
    if suffix not in EMBEDDED and suffix not in BESIDE:
        known = ", ".join([*EMBEDDED, *BESIDE, SUFFIX])
        raise ValueError(f"files that end in {suffix or 'nothing'} cannot be signed: expected one of {known}")
    if suffix == ".mp4":
        _refuse_wrapping(path)
    embeds = suffix in EMBEDDED
    mime = EMBEDDED[suffix] if embeds else BESIDE[suffix]
    definition = to_definition(facts, path.name, mime)
    result = path if embeds else path.with_suffix(SIDECAR)
    partial = result.with_name(result.name + _PARTIAL)
    try:
        with path.open("rb") as file, _create(partial) as target:
            source = _Counted(file, _PASSES[embeds] * max(1, path.stat().st_size), progress)
            copy: Any = _Counted(target, source.total, progress, source) if embeds else _Nowhere()
            try:
                manifest = sign_stream(definition, mime, source, copy, credentials, embeds=embeds)
            except C2paLibraryError as error:  # the library hides the errors of its files
                raise (source.error or copy.error or error) from error
            if not embeds:
                target.write(manifest)
            target.flush()
            os.fsync(target.fileno())
        with contextlib.suppress(OSError):
            partial.chmod(path.stat().st_mode & 0o777)
        partial.replace(result)
    finally:
        partial.unlink(missing_ok=True)
    return result


def check(credentials: Credentials) -> None:
    """Sign a picture of nothing, so that what the library refuses is known before a show begins.

    Raises:
        ValueError: the library refuses the key or the certificates.
        ImportError: the library is not installed.
    """
    from PIL import Image

    picture = io.BytesIO()
    Image.new("RGB", _PICTURE).save(picture, "JPEG")
    bundle = BundleFacts("trial", "0" * 64, "generator")
    facts = ShowFacts("0" * 32, "", "2026-01-01T00:00:00Z", (bundle,), _PICTURE, "1")
    definition = to_definition(facts, "trial.jpg", "image/jpeg")
    try:
        sign_stream(definition, "image/jpeg", io.BytesIO(picture.getvalue()), io.BytesIO(), credentials, embeds=True)
    except C2paLibraryError as error:
        raise ValueError(
            f"the certificate of {credentials.name} cannot sign for C2PA ({error}): it needs the key usage digital "
            "signature, and e-mail protection or document signing as its extended key usage; everframe keys create "
            "makes one for development"
        ) from error


def _refuse_wrapping(path: Path) -> None:
    """Raise ValueError if the media end so close to 4 GiB that their places may not fit into the index afterwards.

    The library (c2pa-rs 0.91, `adjust_known_offsets`) adds the size of the manifest to places of 32 bits without a
    check. Longer recordings have places of 64 bits.
    """
    with path.open("rb") as file:
        at, size = 0, path.stat().st_size
        while at < size:
            file.seek(at)
            header = file.read(16)
            length, kind = int.from_bytes(header[:4], "big"), header[4:8]
            length = int.from_bytes(header[8:], "big") if length == 1 else length or size - at
            if kind == b"mdat" and -_MARGIN <= at + length - 2**32 <= _MARGIN:
                raise ValueError("its size is within 16 MiB of 4 GiB, where the C2PA library would damage its index")
            at += max(length, 8)


def _create(path: Path) -> BinaryIO:
    """Create a file in place of what has its name, e.g. a link or the rest of a killed process."""
    path.unlink(missing_ok=True)
    return path.open("x+b")


class _Counted:
    """A file that reports how much of it was read, keeps its first error, and ends the work when nobody wants it."""

    def __init__(self, file: BinaryIO, total: int, progress: Progress, first: _Counted | None = None) -> None:
        self.error: OSError | None = None
        self.total = total
        self._num_read = 0
        self._file, self._progress, self._first = file, progress, first or self

    def read(self, size: int = -1) -> bytes:
        """Read bytes."""
        with self._kept():
            data = self._file.read(size)
            self._count(len(data))
            return data

    def readinto(self, buffer: Any) -> int:
        """Read bytes into a buffer."""
        with self._kept():
            num: int = self._file.readinto(buffer)  # type: ignore[attr-defined]  # a buffered file has it
            self._count(num)
            return num

    def write(self, data: bytes) -> int:
        """Write bytes."""
        with self._kept():
            return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place."""
        with self._kept():
            return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self._file.tell()

    def flush(self) -> None:
        """Write what is buffered."""
        with self._kept():
            self._file.flush()

    def _count(self, num: int) -> None:
        first = self._first
        first._num_read += num
        if not self._progress(min(1.0, first._num_read / first.total)):
            raise InterruptedError(0, "it was stopped")

    @contextlib.contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            raise


class _Nowhere:
    """A file that keeps nothing of what is written to it but the place."""

    error = None

    def __init__(self) -> None:
        self._at = self._end = 0

    def write(self, data: bytes) -> int:
        """Count bytes."""
        self._at += len(data)
        self._end = max(self._end, self._at)
        return len(data)

    def read(self, _size: int = -1) -> bytes:
        """Return nothing."""
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move to a place."""
        self._at = offset + (0, self._at, self._end)[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def flush(self) -> None:
        """Do nothing."""
