"""Training of the network that says what may move: it learns, resumes exactly, and becomes a bundle."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from export.__main__ import COMMANDS
from export.from_areas import run as write_bundle
from runtime.generator import Generator
from runtime.pixels.areas import open_areas
from tests.export.rtx import require_builds
from training.__main__ import parser, run
from training.checkpoint import load_checkpoint
from training.model.areas import AreaNetwork, Backbone
from training.stages import areas
from training.stages.areas import SOURCE, VIEW, load_areas


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five pictures whose blue half moves, and weights of random features."""
    folder = tmp_path_factory.mktemp("marked")
    entries = []
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 40, (96, 192, 3), np.uint8)
        left, right = (0, 2) if number % 2 else (2, 0)
        pixels[:, :96, left] += 180
        pixels[:, 96:, right] += 180
        assert cv2.imwrite(str(folder / f"{number}.png"), pixels)
        row = "MMSS" if left == 0 else "SSMM"  # cv2 writes blue first
        entries.append(f'[[picture]]\nfile = "{number}.png"\ncells = ["{row}"]\n')
    (folder / "areas.toml").write_text("\n".join(entries))
    torch.manual_seed(0)
    torch.save(Backbone().state_dict(), folder / "weights.pth")
    return folder


def start(pictures: Path, out: Path, *more: str) -> None:
    places = ["--areas", str(pictures / "areas.toml"), "--pictures", str(pictures), "--out", str(out)]
    settings = ["--backbone", str(pictures / "weights.pth"), "--iterations", "4", "--batch", "2"]
    run(parser().parse_args(["areas", *places, *settings, *more]))


def test_it_learns_which_colour_moves(pictures: Path, tmp_path: Path) -> None:
    start(pictures, tmp_path, "--iterations", "60", "--learning-rate", "0.01", "--batch", "4")
    network, footage = load_areas(tmp_path / "areas.pt")
    assert footage == [SOURCE, *((f"{number}.png", "", "") for number in range(4))]
    assert load_checkpoint(tmp_path / "areas.pt")["held"] == ["4.png"]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["error"] < 0.5 * lines[0]["error"]
    (held_out,) = (json.loads(line) for line in (tmp_path / "heldout.jsonl").read_text().splitlines())
    assert held_out["moving_found"] > 0.8
    assert held_out["still_found"] > 0.8
    assert (tmp_path / "areas-000060.png").is_file()
    assert network(torch.rand(1, 3, 64, 96)).shape == (1, 1, 16, 24)


def test_a_resumed_run_has_the_same_weights(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(pictures, tmp_path / "whole")
    update = areas._Training._update

    def stop_after_two(training: areas._Training, iteration: int) -> dict[str, float]:
        if iteration == 2:
            training._save(2)
            raise KeyboardInterrupt
        return update(training, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(areas._Training, "_update", stop_after_two)
        with pytest.raises(KeyboardInterrupt):
            start(pictures, tmp_path / "parts")
    start(pictures, tmp_path / "parts")
    whole, parts = (load_checkpoint(tmp_path / name / "areas.pt") for name in ("whole", "parts"))
    for name, value in whole["ema"].items():
        assert torch.equal(parts["ema"][name], value), name
    with pytest.raises(ValueError, match=r"areas\.pt is of other settings or pictures: name another --out"):
        start(pictures, tmp_path / "parts", "--seed", "1")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--iterations", "0"], "--iterations and --batch must be 1 or more"),
        (["--backbone", "areas.toml"], "does not hold the weights of EfficientNet-Lite0"),
        (["--backbone", "missing.pth"], "does not hold the weights of EfficientNet-Lite0"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(pictures: Path, tmp_path: Path, more: list[str], sentence: str) -> None:
    given = [str(pictures / part) if part.endswith(("toml", "pth")) else part for part in more]
    with pytest.raises(ValueError, match=sentence):
        start(pictures, tmp_path / "run", *given)


def test_too_few_pictures_are_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "areas.toml").write_text('[[picture]]\nfile = "1.png"\ncells = ["M"]\n')
    with pytest.raises(ValueError, match="1 pictures are too few: every fifth is held out"):
        start(pictures, tmp_path / "run", "--areas", str(tmp_path / "areas.toml"))


@pytest.fixture(scope="module")
def exported(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    start(pictures, folder / "run")
    assert COMMANDS["areas"] == "export.from_areas"
    return write_bundle([str(folder / "run" / "areas.pt"), "--out", str(folder / "areas")])


def test_the_bundle_says_what_the_network_says(pictures: Path, exported: Path) -> None:
    bundle = open_areas(exported)
    assert "Apache License" in (exported / "NOTICE").read_text()
    assert bundle.manifest.provenance["imported"][0]["licence"] == "Apache-2.0"
    network, _ = load_areas(exported.parent / "run" / "areas.pt")
    seen = np.random.default_rng(1).integers(0, 256, (VIEW, VIEW, 3), np.uint8)
    with torch.no_grad():
        free = network(torch.from_numpy(seen).permute(2, 0, 1)[None].float() / 255)[0, 0].numpy()
    with Generator.open(exported, engine="onnxruntime", precision="fp32") as generator:
        generator.feed_live(seen)
        made = next(generator)[..., 0]
    expected = np.clip(1.25 * free - 0.125, 0, 1) * 255
    assert np.abs(made - expected).max() < 4, "weights are rounded to FP16"


def test_tensorrt_builds_it(exported: Path, tmp_path: Path) -> None:
    entries = require_builds(exported, tmp_path / "areas")
    assert {entry["precision"] for entry in entries} == {"fp32", "fp16"}


def test_sizes_are_those_of_the_source() -> None:
    """The levels are at a quarter to a 32nd of the picture, with the source's channels."""
    levels = Backbone()(torch.zeros(1, 3, 64, 96))
    assert [tuple(level.shape[1:]) for level in levels] == [(24, 16, 24), (40, 8, 12), (112, 4, 6), (192, 2, 3)]
    assert Backbone(is_whole=True).eval()(torch.zeros(1, 3, 32, 32))[-1].shape == (1, 320, 1, 1)
    assert sum(value.numel() for value in AreaNetwork().parameters()) < 2.6e6
