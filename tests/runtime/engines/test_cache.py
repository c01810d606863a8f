"""The cache of compiled graphs: used again, never trusted, and never in the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.reader import open_bundle
from runtime.engines import cache as engine_cache
from runtime.engines.cache import EngineCache, default_cache_dir
from runtime.engines.opening import open_sessions
from runtime.engines.table import open_engine


def first_frame(bundle: Path, cache_dir: Path | None) -> np.ndarray:
    """Return one frame of the tiny bundle's step graph, without a memory, at a control that moves it."""
    engine = open_engine("openvino")
    opened = open_bundle(bundle)
    step, condition = open_sessions(opened, engine, "fp32", pixels="rgb", threads=1, cache_dir=cache_dir)
    step.write("a_picture_slot", np.random.default_rng(0).random((1, 3, 48, 64), np.float32))
    step.write("control", np.array([[1, 2]], np.float32))
    step.run()
    frame = step.read("rgb").copy()
    step.close()
    assert condition is not None
    condition.close()
    return frame


def test_compiled_graphs_are_kept_and_used_again(bundle: Path, tmp_path: Path) -> None:
    frame = first_frame(bundle, tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    assert np.array_equal(first_frame(bundle, tmp_path), frame)
    assert sorted(tmp_path.iterdir()) == files
    for damage in (b"", b"rubbish", files[0].read_bytes()[:-1], files[0].read_bytes() + b"x"):
        for file in files:
            file.write_bytes(damage)
        assert np.array_equal(first_frame(bundle, tmp_path), frame)
    for file in files:  # whole, but made by nobody's compiler
        content = b"not a compiled graph"
        entry = EngineCache(tmp_path, b"", "openvino", [])
        entry.store(content)
        next(path for path in tmp_path.iterdir() if path not in files).replace(file)
    assert np.array_equal(first_frame(bundle, tmp_path), frame)


def test_a_cache_that_cannot_be_written_is_no_error(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert first_frame(bundle, tmp_path / "file" / "below").any()
    assert (tmp_path / "file").read_bytes() == b""


def test_cache_entries_depend_on_everything(tmp_path: Path) -> None:
    entries = [
        EngineCache(tmp_path, graph, engine, parts)
        for graph in (b"a", b"b")
        for engine in ("x", "y")
        for parts in (["1", "2"], ["12"], ["1", "3"])
    ]
    for number, entry in enumerate(entries):
        entry.store(bytes([number]))
    assert [entry.load() for entry in entries] == [bytes([number]) for number in range(len(entries))]
    entries[0].discard()
    entries[0].discard()
    assert entries[0].load() is None
    assert not EngineCache(None, b"", "x", []).is_usable
    assert EngineCache(None, b"", "x", []).load() is None


def test_an_entry_for_another_graph_is_not_loaded(bundle: Path, tmp_path: Path) -> None:
    first, second = (EngineCache(tmp_path, graph, "x", []) for graph in (b"a", b"b"))
    first.store(b"1")
    second.store(b"2")
    assert first.file is not None
    assert second.file is not None
    first.file.replace(tmp_path / "kept")
    second.file.replace(first.file)
    (tmp_path / "kept").replace(second.file)
    assert (first.load(), second.load()) == (None, None), "two whole files that changed places"
    frame = first_frame(bundle, tmp_path / "real")
    one, other = sorted((tmp_path / "real").iterdir())
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert np.array_equal(first_frame(bundle, tmp_path / "real"), frame)
    assert np.array_equal(first_frame(bundle, tmp_path / "real"), frame), "they were compiled anew and replaced"


def test_a_folder_or_file_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made" / "engines"
    entry = EngineCache(folder, b"", "x", [])
    entry.store(b"content")
    assert entry.file is not None
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.file.stat().st_mode) == 0o600
    assert entry.load() == b"content"
    for path, mode in ((folder, 0o700), (entry.file, 0o600)):
        for others in (0o020, 0o002):
            path.chmod(mode | others)
            assert entry.load() is None, "others may write to it"
        path.chmod(mode)
    folder.chmod(0o777)
    EngineCache(folder, b"another", "x", []).store(b"content")
    folder.chmod(0o700)
    assert list(folder.iterdir()) == [entry.file], "nothing is stored where others may write"
    (tmp_path / "link").symlink_to(folder)
    linked = EngineCache(tmp_path / "link", b"", "x", [])
    linked.store(b"more")
    assert linked.load() is None
    target = entry.file.replace(tmp_path / "target")
    entry.file.symlink_to(target)
    assert entry.load() is None
    entry.file.unlink()
    target.replace(entry.file)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
    assert entry.load() is None, "it belongs to another user"
    monkeypatch.undo()
    assert entry.load() == b"content"
    assert EngineCache(tmp_path / "link", b"", "x", [], is_private=False).load() == b"content", "it is trusted"


def test_the_oldest_files_go_when_a_folder_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_cache, "_MAX_BYTES", 1200)
    entries = [EngineCache(tmp_path, bytes([number]), "x", []) for number in range(3)]
    for number, entry in enumerate(entries):
        entry.store(bytes(300))
        assert entry.file is not None
        os.utime(entry.file, (number, number))
    assert [entry.load() is not None for entry in entries] == [True, True, True]
    EngineCache(tmp_path, b"", "x", []).store(bytes(300))
    assert [entry.load() is not None for entry in entries] == [False, True, True]


def test_the_cache_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_cache_dir() == tmp_path / "cache" / "everframe" / "engines"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    for platform, place in (("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", ".cache")):
        monkeypatch.setattr("sys.platform", platform)
        assert default_cache_dir() == tmp_path / place / "everframe" / "engines"
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert default_cache_dir() == tmp_path / "local" / "everframe" / "engines"


def test_a_user_without_a_home_has_no_cache_and_is_no_error(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.getuid", lambda: 54321)  # of whom the system knows nothing
    assert default_cache_dir() is None
    assert first_frame(bundle, None).any()
