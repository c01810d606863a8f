"""The transfer benchmark: groups, intervals, tables; and whole comparisons of tiny runs that were never trained."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.__main__ import main
from benchmarks.quality.clips import Clip
from benchmarks.quality.networks import FeatureCache
from benchmarks.quality.store import ResultStore
from benchmarks.transfer import snapshots
from benchmarks.transfer.command import compare, group_runs, interval, read_held_out, to_markdown


def test_an_interval_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert (high - low) / 2 == pytest.approx(4.303 * 1.0 / math.sqrt(3), rel=1e-3)  # t of two degrees of freedom
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
def test_folder_names_say_the_group(name: str, group: str) -> None:
    assert group in group_runs([Path("runs") / name, Path("runs/zebra-1"), Path("runs/other-1")])


def test_groups_are_ordered_and_checked(tmp_path: Path) -> None:
    names = ("video-0", "alone-1", "none-0", "video-1")
    groups = group_runs([tmp_path / name for name in names])
    assert {name: [run.name for run in runs] for name, runs in groups.items()} == {
        "none": ["none-0"], "video": ["video-0", "video-1"], "alone": ["alone-1"],
    }  # fmt: skip
    assert list(groups) == ["none", "video", "alone"]
    with pytest.raises(ValueError, match="nothing to compare: none"):
        group_runs([tmp_path / "none-0", tmp_path / "none-1"])
    with pytest.raises(ValueError, match="named twice"):
        group_runs([tmp_path / "none-0", tmp_path / "video-0", tmp_path / "none-0"])


def test_a_line_has_the_iterations_that_all_runs_of_a_group_have() -> None:
    a, b, c = Path("none-0"), Path("none-1"), Path("video-0")
    curves = {
        a: {"flow error": {100: 1.0, 200: 2.0, 300: 9.0}, "standing still": {100: 4.0}},
        b: {"flow error": {100: 3.0, 200: 2.0}, "standing still": {100: 6.0}},
        c: {"flow error": {100: 1.0}, "sway error": {100: 1.0}},
    }
    found = compare({"none": [a, b], "video": [c]}, curves)
    assert list(found) == ["flow error"]  # the only figure that all runs have
    line = found["flow error"]["groups"]["none"]
    assert (line["iterations"], line["values"], line["mean"]) == ([100, 200], [[1.0, 3.0], [2.0, 2.0]], [2.0, 2.0])
    assert found["flow error"]["floor"] == 5.0
    assert found["flow error"]["groups"]["video"]["low"] == [None]
    assert json.dumps(found, allow_nan=False)
    table = to_markdown({"groups": {"none": ["a", "b"], "video": ["c"]}, "figures": found})
    assert "| flow error, held-out | 2.000 (2.000 to 2.000) | 1.000 (one run) |" in table
    del curves[b]["flow error"][100], curves[b]["flow error"][200]
    nowhere = compare({"none": [a, b], "video": [c]}, curves)
    assert "no iteration that all runs have" in to_markdown({"groups": {"none": [], "video": []}, "figures": nowhere})


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
    """A network with I3D's inputs and outputs: mean colours of a clip's first and second half, mixed."""
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
        [helper.make_tensor_value_info("video", TensorProto.FLOAT, ["n", 3, "t", 224, 224])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 8]) for name in ("logits", "features")],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path = tmp_path_factory.mktemp("judge") / "judge.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def run_command(runs: Path, footage: Path, out: Path, *more: str) -> int:
    names = [str(runs / name) for name in ("none-0", "none-1", "video-0", "video-1")]
    return main(["transfer", *names, "--data", str(footage), "--out", str(out), "--clips", "4", *more])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary cache for footage and features."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
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
    assert run_command(runs, footage, tmp_path / "out", "--i3d", str(i3d), "--threads", "1") == 0
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
    assert result["figures"]["mmd2"]["floor"] is not None
    none, video = (result["figures"]["flow error"]["groups"][name] for name in ("none", "video"))
    assert video["high"][-1] < none["low"][-1]
    for name, least in (("transfer.json", 1000), ("transfer.png", 20_000), ("transfer.md", 400)):
        assert (tmp_path / "out" / name).stat().st_size > least
    assert "| flow error, held-out | 0.990 (0.990 to 0.990) | 0.790" in (tmp_path / "out" / "transfer.md").read_text()

    asked = []
    monkeypatch.setattr(snapshots, "continue_clips", lambda *_: asked.append(1))
    assert run_command(runs, footage, tmp_path / "out", "--i3d", str(i3d), "--threads", "1") == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["figures"] == result["figures"]
    assert not asked


class FakeExtractor:
    """Returns the mean of every frame."""

    name, sha256 = "fake", "f" * 64

    def extract(self, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
        means = clip.reshape(len(clip), -1).mean(1).astype(np.float32)
        return means, means


def test_real_clips_have_distance_zero(
    runs: Path, footage: Path, tiny_config: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.config import load_config

    found = {runs / "none-0": snapshots.find_snapshots(runs / "none-0")}
    clips = snapshots.held_out_clips(footage, load_config(tiny_config), found, 6, 16, 0)
    judge = FeatureCache(FakeExtractor(), tmp_path / "features")
    again, iteration = snapshots.continue_clips(found[runs / "none-0"][0], clips, 0)
    assert iteration == 20
    assert all(np.array_equal(made[0], clip[0]) for made, clip in zip(again, clips.clips, strict=True))
    assert all(
        made.shape == clip.shape and made.dtype == np.uint8 for made, clip in zip(again, clips.clips, strict=True)
    )
    twice, _ = snapshots.continue_clips(found[runs / "none-0"][0], clips, 0)
    assert all(np.array_equal(one, two) for one, two in zip(again, twice, strict=True))
    monkeypatch.setattr(snapshots, "continue_clips", lambda *_: (clips.clips, 20))
    curves = snapshots.judge(found, clips, judge, ResultStore(tmp_path / "kept"), 0)[runs / "none-0"]
    assert curves["mmd2"][20] == pytest.approx(0, abs=1e-6)
    assert abs(curves["still mmd2"][20]) > 1e-3


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
    assert run_command(runs, footage, tmp_path / "out") == 0
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
    found = {tmp_path / "none-5": [kept]}
    with pytest.raises(ValueError, match="which is held out"):
        snapshots.held_out_clips(footage, load_config(tiny_config), found, 4, 16, 0)
    content["config"]["footage"]["crop_max"] = 70
    save_checkpoint(kept / "finetune.pt", content)
    both = {runs / "none-0": snapshots.find_snapshots(runs / "none-0"), tmp_path / "none-5": [kept]}
    with pytest.raises(ValueError, match=r"differ in \[footage\]"):
        snapshots.shared_config(both)
    with pytest.raises(ValueError, match=r"train it with --set run\.keep_every"):
        snapshots.find_snapshots(tmp_path)
    (tmp_path / "heldout.jsonl").write_text('{"stage": "finetune"}\n')
    with pytest.raises(ValueError, match="line 1 cannot be read"):
        read_held_out(tmp_path)
