"""The transfer benchmark: groups, intervals, sentences; and whole comparisons of tiny runs that were never trained."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.__main__ import main
from benchmarks.quality import networks as quality_networks
from benchmarks.quality.networks import Clip, FeatureCache
from benchmarks.quality.store import ResultStore
from benchmarks.transfer import judge as transfer_judge
from benchmarks.transfer.curves import FIGURES, CurveFigure, CurveLine, group_of, interval, parse_groups, summarise

LOWER = CurveFigure("error", "an error", "lower", 1.0, 2)
HIGHER = CurveFigure("score", "a score", "higher", 1.0, 2)


def test_an_interval_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (high - low) / 2 == pytest.approx(4.303 * 1.0 / math.sqrt(3))  # t of two degrees of freedom
    assert interval([5.0, 5.0]) == (5.0, 5.0, 5.0)
    mean, low, high = interval([7.0])
    assert mean == 7.0
    assert math.isnan(low)
    assert math.isnan(high)
    rng = np.random.default_rng(0)
    covered = [low <= 0 <= high for _, low, high in (interval(rng.normal(size=3).tolist()) for _ in range(4000))]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("none-0", "none"), ("video-12", "video"), ("satellite-image-seed2", "image"), ("seed0-video", "video"),
        ("warm_3", "warm"), ("cold-seed1", "cold"), ("alone", "alone"), ("imagery-1", "imagery"),
        ("none-or-video-1", "none-or-video"), ("7", "7"),
    ],
)  # fmt: skip
def test_names_tell_groups(name: str, group: str) -> None:
    assert group_of(Path("runs") / name) == group


def test_groups_are_read_and_ordered(tmp_path: Path) -> None:
    groups = parse_groups(
        [tmp_path / "video-0", tmp_path / "none-0"], [f"image={tmp_path}/a,{tmp_path}/b", f"video={tmp_path}/c"]
    )
    assert {name: [run.name for run in runs] for name, runs in groups.items()} == {
        "none": ["none-0"], "image": ["a", "b"], "video": ["video-0", "c"],
    }  # fmt: skip
    assert list(groups) == ["none", "image", "video"]
    for runs, texts, said in (
        ([tmp_path / "none-0"], [], "nothing to compare"),
        ([], ["none"], "expected NAME=RUN"),
        ([], ["none="], "expected NAME=RUN"),
        ([tmp_path / "none-0"], [f"video={tmp_path}/none-0"], "named twice"),
    ):
        with pytest.raises(ValueError, match=said):
            parse_groups(runs, texts)


def test_a_line_keeps_to_iterations_that_all_runs_have() -> None:
    line = CurveLine.of([{100: 1.0, 200: 2.0, 300: 9.0}, {100: 3.0, 200: 2.0}])
    assert line.iterations == [100, 200]
    assert line.mean == [2.0, 2.0]
    assert line.values == [[1.0, 3.0], [2.0, 2.0]]
    assert CurveLine.of([{100: 1.0}, {200: 1.0}]).iterations == []
    assert CurveLine.of([{100: 1.0}]).to_json()["low"] == [None]


def test_sentences_say_what_the_intervals_allow() -> None:
    def line(*values: float) -> CurveLine:
        return CurveLine.of([{100: 0.0, 200: value} for value in values])

    lines = {"none": line(9.0, 9.1, 9.2), "image": line(5.0, 6.0, 7.0), "video": line(5.5, 5.6, 5.4)}
    end = summarise(LOWER, lines)
    assert end["iteration"] == 200
    assert [pair["overlap"] for pair in end["pairs"]] == [False, False, True]
    assert end["sentence"] == (
        "an error, lower is better, at iteration 200: none 9.10 (8.85 to 9.35), image 6.00 (3.52 to 8.48), video 5.50 "
        "(5.25 to 5.75): image is better than none and video is better than none with intervals that do not overlap; "
        "the intervals of image/video overlap: no difference is shown."
    )
    assert "none is better than image" in summarise(HIGHER, lines)["sentence"]
    alone = summarise(LOWER, {"none": line(9.0, 9.1), "video": line(1.0)})
    assert alone["pairs"][0]["overlap"] is None
    assert "nothing can be said" in alone["sentence"]
    assert "better than" not in alone["sentence"]
    assert json.dumps(alone, allow_nan=False)
    nowhere = summarise(LOWER, {"none": CurveLine.of([{1: 0.0}]), "video": CurveLine.of([{2: 0.0}])})
    assert nowhere["iteration"] is None


# Whole comparisons.


@pytest.fixture(scope="module")
def runs(footage: Path, tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two groups of two runs with two snapshots each: generators as they are before training, all different."""
    import torch

    from training.checkpoint import save_checkpoint
    from training.config import load_config
    from training.data.footage import open_footage, split
    from training.model.generator import VideoGenerator

    config = load_config(tiny_config)
    library = open_footage(footage, config.footage, tmp_path_factory.mktemp("cache"), workers=0)
    facts = {
        "stage": "finetune", "config": config.to_dict(), "data": str(footage), "words": "",
        "footage": split(library, config.footage, "train").provenance(),
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("runs")
    for number, name in enumerate(("none-0", "none-1", "video-0", "video-1")):
        lines = [json.dumps({"stage": "pretrain", "iteration": 20, "measures": []})]
        for step, iteration in enumerate((20, 40)):
            torch.manual_seed(10 * number + step)
            weights = VideoGenerator(config.model).state_dict()
            kept = folder / name / "kept" / f"finetune-{iteration:06d}"
            kept.mkdir(parents=True)
            ema = {f"generator.{key}": value for key, value in weights.items()}
            save_checkpoint(kept / "finetune.pt", {**facts, "iteration": iteration, "ema": ema})
            figures = {"flow error": 1.0 - 0.2 * (number > 1) - 0.01 * step, "standing still": 1.1, "sway error": 0.5}
            lines.append(json.dumps({"stage": "finetune", "iteration": iteration, "figures": figures}))
        (folder / name / "heldout.jsonl").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def i3d(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with I3D's face: mean colours of a clip's first and second half, mixed."""
    weights = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    constants = {
        "axes": np.array([2, 3, 4]), "first": np.array([0]), "half": np.array([8]), "end": np.array([64]),
        "time": np.array([2]), "weights": weights,
    }  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["video", "first", "half", "time"], ["early"]),
        helper.make_node("Slice", ["video", "half", "end", "time"], ["late"]),
        helper.make_node("ReduceMean", ["early", "axes"], ["a"], keepdims=0),
        helper.make_node("ReduceMean", ["late", "axes"], ["b"], keepdims=0),
        helper.make_node("Concat", ["a", "b"], ["both"], axis=1),
        helper.make_node("MatMul", ["both", "weights"], ["features"]),
        helper.make_node("Identity", ["features"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "judge",
        [helper.make_tensor_value_info("video", TensorProto.FLOAT, ["n", 3, "t", "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in ("logits", "features")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path_factory.mktemp("judge") / "judge.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def compare(runs: Path, footage: Path, out: Path, *more: str) -> int:
    names = [str(runs / name) for name in ("none-0", "none-1", "video-0", "video-1")]
    return main(["transfer", *names, "--data", str(footage), "--out", str(out), "--clips", "4", *more])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, for footage and features, is a folder of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(quality_networks, "SIDE", 32)  # the network of these tests takes any size
    return tmp_path / "cache"


def test_runs_are_judged_the_same_twice(
    runs: Path,
    footage: Path,
    i3d: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compare(runs, footage, tmp_path / "out", "--i3d", str(i3d), "--threads", "1") == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(result["groups"]) == ["none", "video"]
    assert list(result["figures"]) == ["mmd2", "closer", "flow error", "sway error"]
    assert result["judge"]["name"] == "I3D Kinetics-400"
    assert result["machine"]["cpu"]
    line = result["figures"]["mmd2"]["groups"]["video"]
    assert line["iterations"] == [20, 40]
    assert [len(values) for values in line["values"]] == [2, 2]
    assert all(low < mean < high for low, mean, high in zip(line["low"], line["mean"], line["high"], strict=True))
    assert all(0 <= value <= 1 for value in np.ravel(result["figures"]["closer"]["groups"]["none"]["values"]))
    assert result["figures"]["flow error"]["floor"] == pytest.approx(1.1)
    assert result["figures"]["flow error"]["end"]["pairs"] == [{"groups": ["none", "video"], "overlap": False}]
    assert result["figures"]["sway error"]["end"]["pairs"] == [{"groups": ["none", "video"], "overlap": True}]
    assert "video is better than none" in result["figures"]["flow error"]["end"]["sentence"]
    for name, least in (("transfer.json", 1000), ("transfer.png", 20_000), ("transfer.md", 500)):
        assert (tmp_path / "out" / name).stat().st_size > least
    page = (tmp_path / "out" / "transfer.md").read_text()
    assert all(result["figures"][figure.key]["end"]["sentence"] in page for figure in FIGURES[:4])

    asked = []
    monkeypatch.setattr(transfer_judge, "continue_clips", lambda *_: asked.append(1))
    assert compare(runs, footage, tmp_path / "out", "--i3d", str(i3d), "--threads", "1") == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["figures"] == result["figures"]
    assert not asked


class FakeExtractor:
    """Says the mean of every frame."""

    name, sha256 = "fake", "f" * 64

    def extract(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        means = clip.reshape(len(clip), -1).mean(1).astype(np.float32)
        return means, means


def test_what_is_real_is_closest(
    runs: Path, footage: Path, tiny_config: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.config import load_config

    snapshots = {runs / "none-0": transfer_judge.find_snapshots(runs / "none-0")}
    clips = transfer_judge.held_out_clips(footage, load_config(tiny_config), snapshots, 6, 16, 0)
    judge = FeatureCache(FakeExtractor(), tmp_path / "features")
    again, iteration = transfer_judge.continue_clips(snapshots[runs / "none-0"][0], clips, 0)
    assert iteration == 20
    assert all(np.array_equal(made[0], clip[0]) for made, clip in zip(again, clips.clips, strict=True))
    assert all(
        made.shape == clip.shape and made.dtype == np.uint8 for made, clip in zip(again, clips.clips, strict=True)
    )
    twice, _ = transfer_judge.continue_clips(snapshots[runs / "none-0"][0], clips, 0)
    assert all(np.array_equal(one, two) for one, two in zip(again, twice, strict=True))
    monkeypatch.setattr(transfer_judge, "continue_clips", lambda *_: (clips.clips, 20))
    curves, floors = transfer_judge.judge(snapshots, clips, judge, ResultStore(tmp_path / "kept"), 0)
    assert curves[runs / "none-0"]["mmd2"][20] == pytest.approx(0, abs=1e-9)
    assert abs(floors["mmd2"]) > 1e-6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["RUNS/none-0", "--data", "DATA", "--out", "OUT"], "nothing to compare"),
        (["RUNS/none-0", "RUNS/video-9", "--data", "DATA", "--out", "OUT"], "there is no run"),
        (["RUNS/none-0", "RUNS/video-0", "--data", "DATA", "--out", "OUT", "--clips", "2"], "--clips is 2"),
        (["RUNS/none-0", "RUNS/video-0", "--data", "DATA", "--out", "OUT", "--i3d", "nothing.onnx"], "no weights file"),
        (["RUNS/none-0", "RUNS/video-0", "--data", "nowhere", "--out", "OUT", "--i3d", "I3D"], "no footage at nowhere"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    said: str,
    runs: Path,
    footage: Path,
    i3d: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"RUNS": str(runs), "DATA": str(footage), "OUT": str(tmp_path / "out"), "I3D": str(i3d)}
    filled = [places.get(word, word.replace("RUNS/", f"{runs}/")) for word in arguments]
    assert main(["transfer", *filled]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_without_a_judge_the_runs_own_figures_are_compared(
    runs: Path, footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(runs, footage, tmp_path / "out") == 0
    told = capsys.readouterr()
    result = json.loads(told.out.splitlines()[-1])
    assert list(result["figures"]) == ["flow error", "sway error"]
    assert result["judge"] is None
    assert "no --i3d" in told.err


def test_a_run_on_other_footage_is_refused(
    runs: Path, footage: Path, tiny_config: Path, cache: Path, tmp_path: Path
) -> None:
    from training.checkpoint import load_checkpoint, save_checkpoint
    from training.config import load_config

    content = load_checkpoint(runs / "none-0" / "kept" / "finetune-000020" / "finetune.pt")
    kept = tmp_path / "none-5" / "kept" / "finetune-000020"
    kept.mkdir(parents=True)
    everything = [(f"{name}.mp4", "", "") for name in ("right", "left", "down", "up")]
    save_checkpoint(kept / "finetune.pt", {**content, "footage": everything})
    snapshots = {tmp_path / "none-5": [kept]}
    with pytest.raises(ValueError, match="which is held out"):
        transfer_judge.held_out_clips(footage, load_config(tiny_config), snapshots, 4, 16, 0)
    content["config"]["footage"]["crop_max"] = 70
    save_checkpoint(kept / "finetune.pt", content)
    both = {runs / "none-0": transfer_judge.find_snapshots(runs / "none-0"), tmp_path / "none-5": [kept]}
    with pytest.raises(ValueError, match=r"differ in \[footage\]"):
        transfer_judge.shared_config(both)
    with pytest.raises(ValueError, match=r"train it with --set run\.keep_every"):
        transfer_judge.find_snapshots(tmp_path)
    (tmp_path / "heldout.jsonl").write_text('{"stage": "finetune"}\n')
    with pytest.raises(ValueError, match="line 1 cannot be read"):
        transfer_judge.read_held_out(tmp_path)
