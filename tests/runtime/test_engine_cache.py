"""The cache of compiled graphs: used again, never trusted, and never in the way."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import open_bundle
from runtime.engine import open_engine
from runtime.engine_cache import EngineCache, default_cache_dir
from runtime.sessions import open_sessions


def first_frame(bundle: Path, cache_dir: Path) -> np.ndarray:
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


def test_the_cache_lies_in_the_bundle_or_else_with_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    assert default_cache_dir(bundle) == bundle / "engines"
    monkeypatch.setattr("os.access", lambda path, mode: False)  # as on a read-only disk, even for root
    assert default_cache_dir(bundle) == tmp_path / "cache" / "everframe" / "engines"
    monkeypatch.undo()
    (bundle / "engines").write_bytes(b"")
    assert default_cache_dir(bundle).name == "engines"
    assert default_cache_dir(bundle) != bundle / "engines"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
