"""Writing of folders: complete or absent, and other files are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from export.folder_writer import atomic_folder, copy_bundle
from runtime.bundle.reader import open_bundle
from tests import tiny


def put(out: Path, *, force: bool = False, text: str = "new") -> None:
    """Write a bundle of one file."""
    with atomic_folder(out, force=force) as folder:
        (folder / "bundle.json").write_text(text)


def test_a_bundle_appears_when_it_is_complete(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "mine"
    with atomic_folder(out, force=False) as folder:
        (folder / "bundle.json").write_text("{}")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["bundle.json"]
    assert [path.name for path in out.parent.iterdir()] == ["mine"]


def test_force_replaces_bundles_and_empty_folders_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "mine"
    put(out)
    with pytest.raises(ValueError, match="already exists"):
        put(out)
    put(out, force=True, text="newer")
    assert (out / "bundle.json").read_text() == "newer"
    (tmp_path / "empty").mkdir()
    put(tmp_path / "empty", force=True)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.jpg").write_text("important")
    (tmp_path / "letter").write_text("important")
    (tmp_path / "link").symlink_to(out)
    for name in ("holiday", "letter", "link"):
        with pytest.raises(ValueError, match="is not a bundle, and --force replaces only bundles"):
            put(tmp_path / name, force=True)
    assert (tmp_path / "holiday" / "photo.jpg").exists()
    assert (tmp_path / "letter").exists()
    assert (tmp_path / "link").is_symlink()


def test_a_bundle_written_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "mine"

    def write_slowly() -> None:
        with atomic_folder(out, force=False) as folder:
            (folder / "bundle.json").write_text("slow")
            put(out, text="fast")

    with pytest.raises(ValueError, match="already exists"):
        write_slowly()
    assert (out / "bundle.json").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_temporary_folders_of_ended_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for owner in (ended.pid, os.getppid()):
        (tmp_path / f".mine.{owner}.abc").mkdir()
    (tmp_path / ".mine.notes.txt").write_text("not ours")
    (tmp_path / ".mine.2.0").write_text("not ours")
    put(tmp_path / "mine")
    left = {path.name for path in tmp_path.iterdir()}
    assert f".mine.{ended.pid}.abc" not in left
    assert left == {"mine", f".mine.{os.getppid()}.abc", ".mine.notes.txt", ".mine.2.0"}


@pytest.mark.parametrize("has_engines", [False, True])
def test_a_copied_bundle_has_no_content_of_links_that_it_does_not_list(tmp_path: Path, has_engines: bool) -> None:
    bundle, secrets, out = tiny.build(tmp_path / "tiny"), tmp_path / "secrets", tmp_path / "out"
    for folder in (secrets, bundle / "engines", bundle / "notes", out):
        folder.mkdir()
    for file in (secrets / "key", bundle / "engines" / "a.engine", bundle / "notes" / "LICENCE"):
        file.write_text("content")
    (bundle / "key").symlink_to(secrets / "key")
    (bundle / "engines" / "key").symlink_to(secrets / "key")
    (bundle / "keys").symlink_to(secrets)
    (bundle / "inner").mkdir()
    (bundle / "condition.onnx").rename(bundle / "inner" / "graph")
    (bundle / "condition.onnx").symlink_to("inner/graph")
    copy_bundle(open_bundle(bundle), out, has_engines=has_engines)
    listed = set(open_bundle(bundle).manifest.files)
    others = {"bundle.json", "inner/graph", "notes/LICENCE", *(["engines/a.engine"] if has_engines else [])}
    assert {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()} == listed | others
    assert not any(path.is_symlink() for path in out.rglob("*"))
    open_bundle(out)
