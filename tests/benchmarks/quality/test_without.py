"""Parts of the shipped bundle's motion, switched off one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.quality.without import PARTS, what_it_changes, without_rows, write_without
from runtime import Generator
from tests import moving, tiny

LANDSCAPE = Path(__file__).parents[3] / "bundles" / "landscape"
SIZE = (96, 64)


@contextmanager
def shown(bundle: Path) -> Iterator[Generator]:
    with Generator.open(bundle, engine="onnxruntime", size=SIZE, threads=1, seed=1) as generator:
        yield generator


@pytest.mark.parametrize("part", PARTS)
def test_each_part_changes_the_frames(part: str, tmp_path: Path) -> None:
    picture = moving.picture_of(*SIZE)
    with shown(LANDSCAPE) as whole, shown(write_without(LANDSCAPE, part, tmp_path / "without")) as without:
        for generator in (whole, without):
            generator.condition(image=picture)
        frames = [[next(generator).astype(int) for _ in range(60)] for generator in (whole, without)]
    assert np.array_equal(frames[0][0], frames[1][0]), "frame 1 is the picture"
    assert np.abs(frames[0][-1] - frames[1][-1]).mean() > 0.05


def test_one_phase_jumps_back_and_two_do_not(tmp_path: Path) -> None:
    picture = moving.picture_of(*SIZE)
    jumps = {}
    for name, bundle in (("whole", LANDSCAPE), ("one", write_without(LANDSCAPE, "second-phase", tmp_path / "one"))):
        with shown(bundle) as generator:
            generator.condition(image=picture)
            generator.set_control("wind_x", 1.0)
            frames = np.stack([next(generator).astype(int) for _ in range(60)])
        steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2, 3))
        jumps[name] = float(steps[10:].max() / np.median(steps[10:]))
    assert jumps["one"] > 1.5 * jumps["whole"]


def test_what_a_part_changes_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.quality import without as module

    monkeypatch.setattr(module, "_FRAMES", 20)
    monkeypatch.setattr(module, "_TIMED", 3)
    calls: list[None] = []
    with shown(LANDSCAPE) as whole, shown(write_without(LANDSCAPE, "transport", tmp_path / "without")) as other:
        found = what_it_changes(whole, other, [moving.picture_of(*SIZE)], lambda: calls.append(None))
    assert len(calls) == 1
    assert found["levels"] > 0
    assert found["ms"] > 0
    assert found["moved"] != found["moved_without"]
    ((name, changed, cost),) = without_rows({"without": {"part": "transport", **found}})
    assert name == "without transport"
    assert f"{found['levels']:.2f} levels" in changed
    assert "ms a frame" in cost
    assert without_rows({}) == []


def test_a_bundle_of_schema_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is of schema 1, expected schema 2"):
        write_without(tiny.build(tmp_path / "tiny"), "transport", tmp_path / "without")


def test_a_bundle_of_another_origin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only bundles of Everframe's own training can be taken apart"):
        write_without(moving.build(tmp_path / "moving", frame=(64, 36)), "learned", tmp_path / "without")
