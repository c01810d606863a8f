"""A bundle is complete or absent: its folder is written beside its place and moved there at the very end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def placed(out: Path, *, force: bool) -> Iterator[Path]:
    """Give an empty folder beside `out`, which becomes `out` if the block ends well and vanishes if it does not.

    Args:
        out: the bundle's folder; must not exist unless `force`, and then is replaced in one move at the very end.
        force: replace an existing bundle, or an empty folder; what is anything else stays.

    Yields:
        The folder to write to.

    Raises:
        ValueError: `out` is taken.
    """
    _check_free(out, force=force)
    out.parent.mkdir(parents=True, exist_ok=True)
    _sweep(out)
    # Beside the target, so that the last step is a rename within one file system.
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}.", dir=out.parent))
    try:
        yield folder
        _check_free(out, force=force)  # somebody may have put something there meanwhile
        _replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_free(out: Path, *, force: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise ValueError(f"{out} exists already: name another --out, or pass --force to replace it")
    is_bundle = (out / "bundle.json").is_file() or (out.is_dir() and not any(out.iterdir()))
    if not is_bundle or out.is_symlink():
        raise ValueError(f"{out} is no bundle, and --force replaces nothing else: name another --out")


def _sweep(out: Path) -> None:
    """Remove what exports to the same place left behind when they were killed."""
    for folder in out.parent.glob(f".{out.name}.*.*"):
        owner = folder.name.removeprefix(f".{out.name}.").split(".")[0]
        if owner.isdecimal() and not _is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    with contextlib.suppress(PermissionError):  # somebody else's
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


def _replace(folder: Path, out: Path) -> None:
    folder.chmod(0o755)
    if not out.exists():
        folder.rename(out)
        return
    # Two renames: for a moment there is no bundle, never half a one.
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}.old.", dir=out.parent))
    try:
        out.rename(old / out.name)
        try:
            folder.rename(out)
        except BaseException:
            (old / out.name).rename(out)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
