"""A bundle is complete or absent: its folder is written beside its place and moved there at the very end."""

from __future__ import annotations

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
        force: replace an existing bundle.

    Yields:
        The folder to write to.

    Raises:
        ValueError: `out` is taken.
    """
    if out.exists() and not force:
        raise ValueError(f"{out} exists already: name another --out, or pass --force to replace it")
    out.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that the last step is a rename within one file system.
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        yield folder
        _replace(folder, out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(folder: Path, out: Path) -> None:
    folder.chmod(0o755)
    if not out.exists():
        folder.rename(out)
        return
    # Two renames: for a moment there is no bundle, never half a one.
    old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
    try:
        out.rename(old / out.name)
        folder.rename(out)
    finally:
        shutil.rmtree(old, ignore_errors=True)
