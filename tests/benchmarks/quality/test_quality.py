"""A whole evaluation with a fake generator and a fake network; error messages of the command."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import benchmarks.quality.command as quality
from benchmarks.__main__ import main
from benchmarks.quality.context import QualityContext, QualityPlan
from benchmarks.quality.footage import ClipWindow, RealClips, RealFootage
from benchmarks.quality.measures import distance_name
from benchmarks.quality.networks import FeatureCache, file_sha256, resize_bilinear
from benchmarks.quality.parts import by_class
from benchmarks.quality.store import ResultStore
from benchmarks.quality.target import open_target, state_norm
from benchmarks.quality.text import LabelledPrompt
from runtime.generator import Generator
from tests import tiny

SIDE, FRAMES = 32, 16
COLOURS = {"sea": (0, 60, 200), "sky": (120, 180, 250), "plant": (30, 160, 40)}


def stripes(colour: tuple[int, int, int], seed: int, frames: int = FRAMES, speed: float = 1.0) -> np.ndarray:
    """Return a clip (frames, SIDE, SIDE, 3) of a noisy colour that drifts to the right."""
    rng = np.random.default_rng(seed)
    picture = np.clip(np.array(colour) + rng.normal(0, 25, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
    return np.stack([np.roll(picture, round(speed * t), axis=1) for t in range(frames)])


class FakeShow:
    """Pans over the picture it is given, or over one of the colour that the prompt names."""

    opened = 0

    def __init__(self) -> None:
        FakeShow.opened += 1
        self.seed = 0

    def reset(self, seed: int | None = None) -> None:
        self.seed, self.now = seed or 0, 0

    def condition(self, image: Any = None, text: str | None = None, seed: int | None = None) -> None:
        colour = next((COLOURS[word] for word in COLOURS if text and word in text), (90, 90, 90))
        self.picture = image if image is not None else stripes(colour, self.seed)[0]

    def __iter__(self) -> FakeShow:
        return self

    def skip(self, count: int) -> None:
        self.now += count

    def __next__(self) -> np.ndarray:
        self.now += 1
        return np.roll(self.picture, self.now % 8, axis=1)


class FakeExtractor:
    """Colour, spread and change of a clip, four values; logits are three of them."""

    name, sha256 = "fake", "f" * 64

    def __init__(self) -> None:
        self.asked = 0

    def extract(self, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked += 1
        values = clip.astype(np.float32) / 255
        change = np.abs(np.diff(values, axis=0)).mean()
        features = np.array([*values.mean((0, 1, 2)), values.std(), 4 * change], np.float32)
        return features[:3], features


def windows(count: int, side: str) -> list[ClipWindow]:
    labels = list(COLOURS)
    return [
        ClipWindow(f"{side}{i}.mp4", f"{side}{i}", labels[i % 3], "a sea", i, 0, FRAMES, 0, 0, SIDE, SIDE)
        for i in range(count)
    ]


def read(chosen: list[ClipWindow], advance: Any) -> RealClips:
    for _ in chosen:
        advance()
    return RealClips(chosen, [stripes(COLOURS[w.label], int.from_bytes(w.video.encode()[-7:]) % 9999) for w in chosen])


def context(folder: Path, extractor: FakeExtractor, **changes: Any) -> QualityContext:
    @contextmanager
    def progress(name: str, total: int) -> Any:
        yield lambda count: None

    prompts = [
        LabelledPrompt("a sea", "sea"),
        LabelledPrompt("a wide sky", "sky"),
        LabelledPrompt("a plant", "plant", True),
        LabelledPrompt("x", "cat"),
    ]
    given: dict[str, Any] = {
        "name": "fake",
        "key": {"key": "k"},
        "open_show": lambda: nullcontext(FakeShow()),
        "norm": lambda show: lambda: 1.5,
        "fps": 25.0,
        "renewal_frames": 20,
        "takes_text": True,
        "footage": RealFootage(
            windows(9, "held"), windows(9, "other"), windows(18, "train"), [], {"holdout": "scene"}, read, ["a sea"]
        ),
        "cache": FeatureCache(extractor, folder / "features"),
        "lpips": lambda a, b: np.abs(a.astype(np.float32) - b).mean((1, 2, 3)) / 255,
        "lpips_sha256": "l" * 64,
        "store": ResultStore(folder / "kept"),
        "plan": QualityPlan(horizon=1000, shows=2, windows=2, prompts=prompts),
        "progress": progress,
    }
    return QualityContext(**given | changes)


def facts() -> dict[str, Any]:
    return {
        "benchmark": "quality", "name": "fake", "kind": "bundle", "key": "k" * 64, "engine": "fake",
        "precision": "fp32", "frame": "32 x 32", "fps": "25",
        "ledger": {"fake": {"sha256": "f" * 64, "independent": True}},
        "machine": {"cpu": "none", "cores": 1, "os": "none", "commit": None}, "command": "none",
    }  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], QualityContext, Path]:
    folder = tmp_path_factory.mktemp("quality")
    found = context(folder, FakeExtractor())
    return {**facts(), **quality.evaluate(found, list(quality.PARTS))}, found, folder


def test_every_part_measures_what_the_fakes_make(whole: tuple[dict[str, Any], QualityContext, Path]) -> None:
    result, _, _ = whole
    parts, floors = result["parts"], result["floors"]
    assert set(parts) == set(quality.PARTS)
    paired = parts["i2v"]["closer_than_first_frame_repeated"]
    assert (paired["closer"], paired["clips"]) == (9, 9)  # it pans as the footage does; a still does not
    assert parts["i2v"]["mmd2_less_first_frame_repeated"]["value"] < 0
    assert parts["i2v"]["motion"]["ratio"]["value"] == pytest.approx(1, abs=0.2)
    assert floors["first frame repeated"]["motion"]["median"] < 0.01
    assert floors["first frame repeated"]["mmd2"]["value"] > parts["i2v"]["mmd2"]["value"]
    assert floors["nearest training clip"]["clips"] == 9
    assert floors["half against half"]["mmd2"]["low"] <= 0
    assert parts["text"]["all"]["right"] == 3
    assert parts["text"]["novel"]["clips"] == 1
    assert parts["text"]["left_out"] == ["cat"]
    assert parts["text"]["not_new_after_all"] == ["a plant"]
    assert parts["text"]["ceiling"]["accuracy"]["value"] == 1
    assert parts["text"]["chance"] == pytest.approx(1 / 3)
    assert parts["memory"]["from seeds"]["ratio"] > 1  # grey pictures are nothing like the footage
    endless = parts["endless"]
    assert [mark["mark"] for mark in endless["marks"]] == [0, 1000]
    assert endless["marks"][0]["clips"] == 4
    assert endless["states_finite"] is True
    assert endless["largest_state"] == 1.5
    assert endless["band"][0]["quantity"] == "luminance"
    assert all(found is None or found["is_loop"] for found in endless["recurrence"])  # eight frames, again and again


def test_finished_measurements_are_reused(whole: tuple[dict[str, Any], QualityContext, Path]) -> None:
    result, _, folder = whole
    opened, extractor = FakeShow.opened, FakeExtractor()
    again = context(folder, extractor)
    found = {**facts(), **quality.evaluate(again, list(quality.PARTS))}
    assert (FakeShow.opened, extractor.asked) == (opened, 0)
    assert json.dumps(found) == json.dumps(result)
    assert again.figures.keys() == whole[1].figures.keys()
    other = context(folder, extractor, key={"key": "another bundle"})
    quality.evaluate(other, ["i2v"])
    assert FakeShow.opened == opened + 1


def test_classes_are_told_apart() -> None:
    """Clips that hardly move count as clips and not for the motion; the largest class comes first."""
    found = by_class(["sky", "sea", "sea", ""], [True, True, False, True], [0.5, 0.9, 0.01, 0.2], [1.0, 1.0, 0.01, 0.0])
    assert list(found) == ["sea", "no class", "sky"]
    assert found["sea"] == {"clips": 2, "closer": 1, "motion": pytest.approx(0.9)}
    assert found["no class"] == {"clips": 1, "closer": 1, "motion": None}
    assert found["sky"] == {"clips": 1, "closer": 1, "motion": pytest.approx(0.5)}


def test_the_page_is_self_contained(
    whole: tuple[dict[str, Any], QualityContext, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    result, found, folder = whole
    quality.publish(result, found, folder)
    page = (folder / "quality.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp;base64,") == 8 + 1 + 3 + 4
    assert "data:image/png;base64," in page
    assert "http" not in page
    assert "a wide sky" in page
    assert json.loads((folder / "quality.json").read_text())["parts"]["i2v"]["per_clip"]
    assert (folder / "quality.png").read_bytes()[:4] == b"\x89PNG"
    quality.print_sets(result)
    shown = capsys.readouterr().err
    assert "floor: first frame repeated" in shown
    assert "image to video" in shown


def test_each_part_runs_alone(tmp_path: Path) -> None:
    for part in quality.PARTS:
        alone = quality.evaluate(context(tmp_path, FakeExtractor()), [part])
        assert list(alone["parts"]) == [part]


def test_a_generator_without_text_is_not_asked(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not take text"):
        quality.evaluate(context(tmp_path, FakeExtractor(), takes_text=False), ["text"])


def test_fvd_is_only_named_under_its_protocol() -> None:
    assert distance_name("I3D Kinetics-400", 16) == "FVD"
    assert distance_name("I3D Kinetics-400", 15) == "I3D Frechet distance"
    assert distance_name("fake", 64) == "Frechet distance of fake logits"


def test_bilinear_resize_is_the_protocols() -> None:
    """Half-pixel centres, no antialiasing: 2 pixels to 4 are 1, 3/4 + 1/4, 1/4 + 3/4, 1 of both."""
    clip = np.zeros((1, 1, 2, 3), np.uint8)
    clip[0, 0, 1] = 200
    assert resize_bilinear(clip, 1, 4)[0, 0, 0].tolist() == [0, 50, 150, 200]
    assert resize_bilinear(clip, 3, 2).shape == (3, 1, 3, 2)


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    store, calls = ResultStore(tmp_path), []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"a": np.arange(3)}

    store.get("x", {"k": 1}, make)
    store.get("x", {"k": 1}, make)
    assert len(calls) == 1
    file = next(tmp_path.glob("x-*.npz"))
    file.write_bytes(file.read_bytes()[:40])
    assert store.get("x", {"k": 1}, make)["a"].tolist() == [0, 1, 2]
    store.get("x", {"k": 2}, make)
    assert len(calls) == 3


def command(bundle: Path, footage: Path, tmp_path: Path, *more: str) -> list[str]:
    weights = tmp_path / "i3d.onnx"
    weights.write_bytes(b"weights")
    return [
        "quality", str(bundle), "--data", str(footage), "--i3d", str(weights), "--cache", str(tmp_path / "cache"),
        "--out", str(tmp_path / "out"), "--threads", "1", "--frames", "16", "--clips", "4", "--train-clips", "4",
        "--short-side", "72", "--crop-min", "64", "--crop-max", "72", "--footage-horizon", "8", "--engine",
        "onnxruntime", *more,
    ]  # fmt: skip


@pytest.fixture
def quiet_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.mark.usefixtures("quiet_cache")
def test_the_command_judges_a_bundle(
    tmp_path: Path, footage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny.build(tmp_path / "tiny")
    monkeypatch.setattr(quality, "I3D", lambda path, threads: FakeExtractor())
    assert main(command(bundle, footage, tmp_path, "--parts", "i2v,seeds", "--holdout-fraction", "0.5")) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["name"] == "tiny"
    assert line["frame"] == "64 x 48"
    assert line["footage"]["settings"]["source"] == "defaults: the bundle does not say"
    assert line["footage"]["frames"] == {"16": 4}
    assert line["ledger"]["fake"]["sha256"] == "f" * 64
    assert "per_clip" not in line["parts"]["i2v"]
    kinds = line["parts"]["i2v"]["by_class"].values()
    assert sum(row["clips"] for row in kinds) == 4
    assert sum(row["closer"] for row in kinds) == line["parts"]["i2v"]["closer_than_first_frame_repeated"]["closer"]
    assert (tmp_path / "out" / "quality.html").is_file()
    with open_target(bundle) as target:
        assert (target.kind, target.footage, target.trained_with_lpips) == ("bundle", None, None)


@pytest.mark.usefixtures("quiet_cache")
def test_the_command_judges_a_run(
    tmp_path: Path,
    footage: Path,
    text_run: Path,
    text_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from export import onnx_writer as onnx_files

    def write_graphs(_: object, folder: Path, sizes: list[tuple[int, int]]) -> None:
        assert sizes == [(64, 64)]
        for path in text_bundle.glob("*.onnx"):
            shutil.copy(path, folder)

    monkeypatch.setattr(onnx_files, "write_graphs", write_graphs)  # they take ten seconds to make
    monkeypatch.setattr(quality, "I3D", lambda path, threads: FakeExtractor())
    arguments = ["--parts", "i2v", "--train-clips", "0", "--holdout-fraction", "0.5"]
    assert main(command(text_run, footage, tmp_path, *arguments)) == 0
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (line["kind"], line["frame"], line["fps"]) == ("run", "64 x 64", "25")
    assert line["footage"]["settings"]["source"] == "the run"
    assert line["footage"]["settings"]["crop_max"] == 72
    assert "nearest training clip" not in line["floors"]


@pytest.mark.usefixtures("quiet_cache")
@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--parts", "i2v,sound"], 'there is no part "sound": expected some of i2v, seeds'),
        (["--parts", "text"], "tiny does not take text"),
        (["--parts", "memory", "--train-clips", "0"], "memory needs training clips"),
        (["--clips", "1"], "--clips is 1, expected 4 or more"),
        (["--i3d", "nowhere.onnx"], "there is no weights file nowhere.onnx"),
        (["--lpips", "nowhere.onnx"], "there is no weights file nowhere.onnx"),
        (["--prompts", "nowhere.csv"], "there is no file of prompts nowhere.csv"),
        (["--data", "nowhere"], "no footage at nowhere"),
        (["--holdout", "time", "--holdout-fraction", "0.05"], "0 held-out clips of 16 frames or more"),
        (["--config", "nowhere.toml"], "no configuration at nowhere.toml"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, footage: Path, capsys: pytest.CaptureFixture[str], more: list[str], match: str
) -> None:
    assert main(command(tiny.build(tmp_path / "tiny"), footage, tmp_path, *more)) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert match in error


def test_a_folder_that_is_neither_bundle_nor_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a bundle"), open_target(tmp_path):
        pass


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "i3d.onnx"
    file.write_bytes(b"no model")
    assert len(file_sha256(file)) == 64
    with pytest.raises(ValueError, match="cannot be opened as ONNX"):
        quality.I3D(file, 1).extract(np.zeros((16, 32, 32, 3), np.uint8))


def test_states_can_be_read(tmp_path: Path) -> None:
    with Generator.open(tiny.build(tmp_path / "tiny"), engine="onnxruntime", threads=1) as generator:
        norm = state_norm(generator)
        for _ in range(3):
            next(generator)
        assert norm() == pytest.approx(3, abs=1)  # the clock counts frames
