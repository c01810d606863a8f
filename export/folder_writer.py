"""Writes a folder completely or not at all: in a temporary folder next to it, which is renamed at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.bundle.reader import Bundle


@contextmanager
def atomic_folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Yield an empty folder that is renamed to `out` after the block, or removed if the block raises.

    Args:
        out: the bundle's folder; must not exist unless `force`.
        force: replace an existing bundle or an empty folder; anything else is kept.

    Yields:
        The folder to write to.

    Raises:
        ValueError: `out` exists and may not be replaced.
    """
    _check_free(out, force=force)
    out.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(out)
    # In the same parent, so that the rename stays within one file system.
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}.", dir=out.parent))
    try:
        yield folder
        _check_free(out, force=force)  # another process may have written there meanwhile
        _replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def copy_bundle(bundle: Bundle, folder: Path, *, has_engines: bool) -> None:
    """Copy a bundle's files, and files beside them that its manifest does not list, but no links among the latter.

    A link that came with a bundle may lead to any file of the user's. `open_bundle` has checked the listed files.

    Args:
        bundle: the checked bundle.
        folder: an empty folder.
        has_engines: whether compiled graphs are copied too.
    """
    source = bundle.path
    others = [path.relative_to(source) for path in source.rglob("*") if path.is_file() and not path.is_symlink()]
    for name in {*map(Path, bundle.manifest.files), *others}:
        if has_engines or name.parts[0] != "engines":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, folder / name)


def _check_free(out: Path, *, force: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not force:
        raise ValueError(f"{out} already exists: choose another --out, or pass --force to replace it")
    is_bundle = (out / "bundle.json").is_file() or (out.is_dir() and not any(out.iterdir()))
    if not is_bundle or out.is_symlink():
        raise ValueError(f"{out} is not a bundle, and --force replaces only bundles: choose another --out")


def _remove_stale(out: Path) -> None:
    """Remove temporary folders of exports to the same place whose processes have ended."""
    for folder in out.parent.glob(f".{out.name}.*.*"):
        owner = folder.name.removeprefix(f".{out.name}.").split(".")[0]
        if owner.isdecimal() and not _is_running(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(process: int) -> bool:
    with contextlib.suppress(PermissionError):  # a process of another user
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
    # Two renames: between them there is no bundle, but never an incomplete one.
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
