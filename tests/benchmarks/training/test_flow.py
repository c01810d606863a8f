"""`python -m benchmarks flow`: its figures for flows that are known, and its report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.training import flow as benchmark
from training.data import takes
from training.data.takes import FlowSettings, optical_flow
from training.made.flow import read_flow
from training.made.writer import FootageSettings, prepare, write_captions, write_clip

SETTINGS = FootageSettings(0, 160, 96, 30.0, 16)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    prepare(folder, SETTINGS)
    for kind in ("clouds", "storm"):
        write_clip(folder, kind, 0, SETTINGS)
    write_captions(folder, [("clouds", 0), ("storm", 0)], SETTINGS)
    return folder


def measure(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, dict[str, float]]]:
    assert main(["flow", *words]) == 0
    output = capsys.readouterr()
    result = json.loads(output.out.splitlines()[-1])
    assert "DIS beside exact flow" in output.err
    flow: dict[str, dict[str, dict[str, float]]] = result["flow"]
    return flow


def test_dis_follows_clouds_and_storms(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flow = measure(capsys, str(made), "--every", "5", "--variants", "preset medium,checked")
    assert set(flow) == {"shards", "preset medium", "checked"}
    for kind in ("clouds", "storm", "all"):
        figures = flow["shards"][kind]
        assert figures["relative"] < 0.5, kind
        assert figures["cosine"] > 0.8, kind
    assert flow["checked"]["all"]["valid"] <= flow["shards"]["all"]["valid"]
    assert flow["preset medium"]["storm"]["error"] != flow["shards"]["storm"]["error"]


@pytest.mark.parametrize(("factor", "relative", "cosine"), [(1.0, 0.0, 1.0), (0.0, 1.0, 0.0), (-1.0, 2.0, -1.0)])
def test_figures_of_known_flows(
    factor: float, relative: float, cosine: float, made: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    exact = read_flow(made / "flow" / "storm-000.npz")[0][0].transpose(1, 2, 0)
    monkeypatch.setattr(takes, "optical_flow", lambda *_: (factor * exact[np.newaxis]).astype(np.float16))
    flow = measure(capsys, str(made), "--every", "100")["shards"]["storm"]
    assert flow["relative"] == pytest.approx(relative, abs=1e-3)
    assert flow["cosine"] == pytest.approx(cosine, abs=1e-3)


def test_frames_may_be_scaled(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = measure(capsys, str(made), "--every", "100")["shards"]["storm"]
    half = measure(capsys, str(made), "--every", "100", "--short-side", "48")["shards"]["storm"]
    assert half["speed"] == pytest.approx(whole["speed"] / 2, rel=0.1)
    assert half["relative"] < 0.5


def test_flows_that_do_not_lead_back_are_left_out() -> None:
    forward = np.zeros((6, 8, 2), np.float32)
    forward[:, :4, 0] = 8  # two blocks to the right
    backward = np.zeros_like(forward)
    backward[:, 2:6, 0] = -8
    backward[3:, 2:6, 0] = 8
    agree = benchmark._agree(forward, backward)
    assert agree[:3, :4].all()
    assert not agree[3:, :4].any()
    assert agree[:, 6:].all()


def test_settings_of_shards_are_the_default() -> None:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 255, (48, 64, 3)).astype(np.uint8) for _ in range(2)]
    default = optical_flow(frames)
    assert np.array_equal(default, optical_flow(frames, FlowSettings()))
    assert not np.array_equal(default, optical_flow(frames, FlowSettings(finest_scale=1)))


def test_markdown_names_every_kind_and_variant(made: Path) -> None:
    figures = dict.fromkeys(("speed", "error", "relative", "cosine", "still", "valid", "ms"), 0.25)
    text = benchmark.to_markdown(
        {"flow": {"shards": {"sea": figures, "all": figures}, "patch 4": {"sea": figures, "all": figures}}}
    )
    assert "| sea | 0.25 | 0.25 | 0.25 | 0.25 | 0.25 | 25% |" in text
    assert "| patch 4 | 0.25 | 0.25 | 0.2 |" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere has no exact flow"),
        (["nowhere", "--clips", "0"], "--clips and --every must be 1 or more"),
        (["nowhere", "--variants", "best"], 'there is no variant "best"'),
    ],
)
def test_bad_input_is_one_sentence(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flow", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
