"""The soak: windows, checks, and a real one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import __main__ as command
from benchmarks.scenarios.soak import WINDOWS, SoakWindow, judge, soak, to_markdown
from runtime import Manifest
from runtime.engines.engine import Array, Program
from tests import tiny
from tests.fakes import fake_generator

FLAT = [SoakWindow((number + 1) * 10, 5.0, 6.0, 300.0, 120.0, 40.0, 1.5) for number in range(WINDOWS)]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """The manifest of a tiny bundle."""
    return Manifest.parse(json.loads((tiny.build(tmp_path / "tiny") / "bundle.json").read_text()))


def test_every_frame_falls_into_one_of_a_hundred_windows(manifest: Manifest) -> None:
    time_ns = 0

    def compute(program: Program, inputs: dict[str, Array], run: int) -> dict[str, Array]:
        nonlocal time_ns
        frames = [item for item in program.outputs if item.role == "frame"]
        time_ns += (run + 1) * 1_000_000 if frames else 0
        return {item.name: np.full(item.shape, run % 200, np.uint8) for item in frames}

    generator, _ = fake_generator(manifest, compute, pixels="i420", renewal=False)
    memory = iter(range(1000))
    windows = soak(
        generator, frames=250, switch_every=0, clock_ns=lambda: time_ns, memory_mb=lambda: float(next(memory))
    )
    generator.close()
    assert len(windows) == WINDOWS
    assert [window.frame for window in windows[:4]] == [3, 5, 8, 10]
    assert windows[0].p50_ms == 2  # 1, 2, 3
    assert windows[1].p50_ms == 4.5  # 4, 5
    assert [window.resident_mb for window in windows] == list(range(WINDOWS))
    assert [(window.mean, window.contrast, window.motion) for window in windows[1:3]] == [(4, 0, 1), (7, 0, 1)]


def test_flat_lines_pass() -> None:
    checks = judge(FLAT)
    assert list(checks) == ["memory", "latency", "picture"]
    assert all(check["passed"] for check in checks.values())


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("memory", lambda number: {"resident_mb": 300 + number * 0.1}),
        ("latency", lambda number: {"p50_ms": 5 + number * 0.02}),
        ("picture", lambda number: {"motion": 0.0} if number == 70 else {}),
        ("picture", lambda number: {"contrast": 0.5} if number == 99 else {}),
        ("picture", lambda number: {"mean": 253.0} if number == 50 else {}),
    ],
)
def test_each_check_can_fail(check: str, change: object) -> None:
    assert callable(change)
    checks = judge([replace(window, **change(number)) for number, window in enumerate(FLAT)])
    assert [name for name, found in checks.items() if not found["passed"]] == [check]


def test_the_warm_up_does_not_count() -> None:
    warm = [replace(window, resident_mb=100.0, p50_ms=90.0, contrast=0.0) for window in FLAT[:10]]
    assert all(check["passed"] for check in judge(warm + FLAT[10:]).values())


def test_a_real_one_ends_with_a_verdict_a_plot_and_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, plot = tiny.build(tmp_path / "tiny"), tmp_path / "a.png"
    arguments = ["soak", str(bundle), "--frames", "300", "--switch-every", "50", "--engine", "onnxruntime"]
    arguments += ["--threads", "1", "--plot", str(plot)]
    monkeypatch.setattr("sys.argv", ["benchmarks", *arguments])
    status = command.main(arguments)
    result = json.loads(capsys.readouterr().out)
    assert status == int(not all(check["passed"] for check in result["checks"].values()))
    assert len(result["windows"]) == WINDOWS
    assert "| tiny, 300 frames, onnxruntime fp32 | | |" in to_markdown(result)
    with Image.open(plot) as picture:
        assert picture.width >= 1000


def test_too_few_frames_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["soak", str(tmp_path), "--frames", "10"]) == 2
    assert "--frames must be at least 200" in capsys.readouterr().err
