"""Whole runs on a small scale: they resume exactly, refuse what does not fit, and leave nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.training.events import points_of, read_events
from tests.training.words_fixture import make_words
from training import sampling
from training.__main__ import main, parser, run
from training.checkpoint import load_checkpoint, load_generator, newest_checkpoint, save_checkpoint
from training.fabric import choose_precision

CONFIG = str(Path(__file__).parents[3] / "training/configs/own-256.toml")


@pytest.fixture(autouse=True)
def short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that show what they started from; `tiny_run` has real ones."""

    def rollout(generator: object, image: Tensor, *rest: object) -> dict[int, Tensor]:
        wanted = rest[2]
        return dict.fromkeys(wanted, image)  # type: ignore[attr-defined]

    monkeypatch.setattr(sampling, "rollout", rollout)


def start(command: str, config: Path, data: Path, out: Path, cache: Path, *more: str) -> None:
    run(
        parser().parse_args(
            [command, str(config), "--data", str(data), "--out", str(out), "--cache", str(cache), *more]
        )
    )


def test_a_run_leaves_checkpoints_metrics_and_pictures(tiny_run: Path) -> None:
    assert newest_checkpoint(tiny_run).name == "finetune.pt"
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["iteration"]) for line in lines] == [
        (stage, iteration) for stage in ("pretrain", "finetune") for iteration in (1, 2, 4)
    ]
    assert {"loss", "clips_per_second", "data_wait"} <= set(lines[0])
    assert {"order/accuracy", "position/track_error", "reconstruction/clip"} <= set(lines[0])
    assert {
        "adversarial",
        "discriminator",
        "discriminator_picture",
        "flow",
        "sway",
        "motion_ratio",
        "overfitting",
    } <= set(lines[-1])
    for name in ("pretrain-000004.png", "pretrain-000004.mp4", "finetune-000004.png", "finetune-000004.mp4"):
        assert (tiny_run / "samples" / name).stat().st_size > 1000
    held = [json.loads(line) for line in (tiny_run / "heldout.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["iteration"]) for line in held] == [("pretrain", 4), ("finetune", 4)]
    assert {measure["task"] for measure in held[0]["measures"]} == {"order", "position", "reconstruction"}
    assert {"flow error", "standing still", "code PSNR"} <= set(held[1]["figures"])
    for line in lines:
        curves = read_events(tiny_run, line["stage"])
        logged = {key: value for key, value in line.items() if key not in ("stage", "iteration")}
        assert {key: points_of(curves, key)[line["iteration"]] for key in logged} == pytest.approx(logged)
    for measure in held[0]["measures"]:
        name = f"{measure['task']}/{measure['name']}"
        for series, key in (("heldout", "value"), ("chance", "chance"), ("baseline", "baseline")):
            if measure[key] is not None:
                assert points_of(read_events(tiny_run, "pretrain", series), name) == {4: pytest.approx(measure[key])}
    assert {"tracks", "reconstruction"} <= set(read_events(tiny_run, "pretrain", "heldout").Tags()["images"])
    found = read_events(tiny_run, "finetune", "heldout")
    assert {key: points_of(found, key)[4] for key in held[1]["figures"]} == pytest.approx(held[1]["figures"])
    assert not list(tiny_run.rglob("*.partial*"))


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_a_stopped_and_resumed_run_equals_one_that_never_stopped(
    stage: str,
    tiny_run: Path,
    tiny_config: Path,
    footage: Path,
    footage_cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    if stage == "finetune":
        out.mkdir()
        shutil.copy(tiny_run / "pretrain.pt", out)
    from training import loop

    saved = loop.save_checkpoint

    def stop_after_first(path: Path, content: dict[str, object]) -> None:
        saved(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", stop_after_first)
    with pytest.raises(KeyboardInterrupt):
        start(stage, tiny_config, footage, out, footage_cache)
    assert load_checkpoint(out / f"{stage}.pt")["iteration"] == 2
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    start(stage, tiny_config, footage, out, footage_cache)
    resumed, straight = load_checkpoint(out / f"{stage}.pt"), load_checkpoint(tiny_run / f"{stage}.pt")
    assert resumed["iteration"] == straight["iteration"] == 4
    for key, value in straight["ema"].items():
        assert torch.equal(resumed["ema"][key], value), key


def test_a_run_goes_on_in_another_precision(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    out = tmp_path / "run"
    out.mkdir()
    shutil.copy(tiny_run / "pretrain.pt", out)
    other = "fp32" if choose_precision("auto", "cpu") == "bf16" else "bf16"
    start(
        "pretrain", tiny_config, footage, out, footage_cache, "--set", f"run.precision={other}",
        "--set", "pretrain.iterations=5",
    )  # fmt: skip
    assert load_checkpoint(out / "pretrain.pt")["iteration"] == 5
    assert json.loads((out / "run.json").read_text())["precision"] == other
    assert f"training on the CPU in {other}, as run.precision says" in capsys.readouterr().out


def test_a_stage_begun_anew_forgets_the_metrics_of_the_one_before(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in ("pretrain.pt", "metrics.jsonl"):
        shutil.copy(tiny_run / name, out)
    start("finetune", tiny_config, footage, out, footage_cache)  # finetune.pt is gone: it begins at 0
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["iteration"]) for line in lines] == [
        (stage, iteration) for stage in ("pretrain", "finetune") for iteration in (1, 2, 4)
    ]


def test_finetuning_moves_the_weights_away_from_pretraining(tiny_run: Path) -> None:
    before, after = (load_checkpoint(tiny_run / f"{stage}.pt")["ema"] for stage in ("pretrain", "finetune"))
    moved = [key for key in after if key in before and not torch.equal(before[key], after[key])]
    assert any(key.startswith("generator.step.") for key in moved)
    assert any(key.startswith("generator.condition.painter.") for key in moved)


def test_sampling_reads_the_newest_checkpoint(
    tiny_run: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    copy.mkdir()
    shutil.copy(tiny_run / "finetune.pt", copy)
    run(parser().parse_args(["sample", str(copy), "--cache", str(footage_cache)]))
    assert sorted(path.name for path in (copy / "samples").iterdir()) == ["finetune-000004.mp4", "finetune-000004.png"]


def test_a_checkpoint_of_another_model_is_refused(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(tiny_config.read_text().replace("num_modes = 4", "num_modes = 5"))
    with pytest.raises(ValueError, match=r"trained with model.num_modes = 4, the configuration says 5"):
        start("pretrain", other, footage, tiny_run, footage_cache)


def test_a_damaged_checkpoint_is_refused(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    content = (tiny_run / "pretrain.pt").read_bytes()
    (out / "pretrain.pt").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match="is not a checkpoint or is damaged"):
        start("finetune", tiny_config, footage, out, footage_cache)
    with pytest.raises(ValueError, match="no checkpoint in"):
        load_generator(tmp_path)


def test_weights_that_are_not_the_models_are_refused(tiny_run: Path, tmp_path: Path) -> None:
    content = load_checkpoint(tiny_run / "pretrain.pt")
    save_checkpoint(tmp_path / "pretrain.pt", {**content, "ema": {}})
    with pytest.raises(ValueError, match=r"the weights in .*pretrain\.pt are not those of the model .* is damaged"):
        load_generator(tmp_path)
    del content["ema"]
    save_checkpoint(tmp_path / "pretrain.pt", content)
    with pytest.raises(ValueError, match=r"pretrain\.pt is damaged: entries are missing"):
        load_generator(tmp_path)


def test_finetuning_asks_for_pretrained_weights_unless_told_otherwise(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r'run pretrain first, or set finetune\.pretrained to "none"'):
        start("finetune", tiny_config, footage, tmp_path / "run", footage_cache)
    assert not (tmp_path / "run").exists()
    short = ("--set", "finetune.iterations=1")
    start(
        "finetune", tiny_config, footage, tmp_path / "run", footage_cache, *short,
        "--set", 'finetune.pretrained="none"',
    )  # fmt: skip
    start(
        "finetune", tiny_config, footage, tmp_path / "other", footage_cache, *short,
        "--pretrained", str(tiny_run / "pretrain.pt"),
    )  # fmt: skip
    weights = [load_checkpoint(tmp_path / name / "finetune.pt")["ema"] for name in ("run", "other")]
    assert not torch.equal(*(each["generator.condition.encoder.trunk.stem.weight"] for each in weights))


def test_a_crop_with_text_goes_all_the_way(
    footage: Path, tiny_config: Path, footage_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = make_words(tmp_path / "words", ["a square that moves right left down up"])
    config = tmp_path / "crop.toml"
    text = tiny_config.read_text().replace("height = 64\nwidth = 64", "height = 128\nwidth = 128\ntext_dimensions = 16")
    text = text.replace("[pretrain]", "[pretrain]\ncrop = 64\nalignment = 0.3").replace(
        "[finetune]", "[finetune]\ncrop = 64"
    )
    config.write_text(text.replace("iterations = 4", "iterations = 2"))
    out = tmp_path / "run"
    start("pretrain", config, footage, out, footage_cache, "--words", str(words))
    run(parser().parse_args(["probe", str(out), "--clips", "16", "--cache", str(footage_cache)]))
    measures = json.loads((out / "probe.json").read_text())["measures"]
    assert {measure["task"] for measure in measures} == {"order", "position", "reconstruction", "alignment"}
    with pytest.raises(ValueError, match=r"takes text .* pass --words"):
        start("finetune", config, footage, out, footage_cache)
    start("finetune", config, footage, out, footage_cache, "--words", str(words))
    line = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"alignment", "correspondence"} <= set(line)
    generator, _, facts = load_generator(out)
    assert generator.step.height == 128
    assert generator.condition.prior.texts.norm(dim=1).max() > 0.99
    assert facts["words"] == str(words.resolve())
    run(parser().parse_args(["sample", str(out), "--cache", str(footage_cache)]))
    assert "finetune-000002.mp4" in capsys.readouterr().out


def test_one_video_is_enough_and_nothing_is_held_out_then(
    footage: Path, tiny_config: Path, footage_cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "footage").mkdir()
    shutil.copy(footage / "right.mp4", tmp_path / "footage")
    start("pretrain", tiny_config, tmp_path / "footage", tmp_path / "run", footage_cache)
    assert "nothing is held out" in capsys.readouterr().out
    assert (tmp_path / "run" / "samples" / "pretrain-000004.png").is_file()


def test_a_checkpoint_of_other_tasks_is_refused(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(tiny_config.read_text().replace("[pretrain]", "[pretrain]\norder = 0.0"))
    with pytest.raises(ValueError, match=r"trained on order, position, reconstruction, the configuration asks for pos"):
        start("pretrain", other, footage, tiny_run, footage_cache)


def test_divergence_ends_with_one_sentence_and_status_2(
    tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments = [
        "pretrain", str(tiny_config), "--data", str(footage), "--out", str(tmp_path / "run"),
        "--cache", str(footage_cache), "--set", "pretrain.learning_rate=1e30", "--set", "pretrain.iterations=40",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    assert main() == 2
    said = capsys.readouterr()
    (sentence,) = [line for line in said.err.splitlines() if line.startswith("training:")]
    assert "pretrain diverged at iteration" in sentence
    assert "lower the learning rate" in sentence
    assert "Traceback" not in said.err


def test_a_refused_run_changes_nothing(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    before = (tiny_run / "run.json").read_bytes()
    with pytest.raises(ValueError, match=r"was trained with model\.encoder_scale"):
        start("pretrain", tiny_config, footage, tiny_run, footage_cache, "--set", "model.encoder_scale=0.5")
    assert (tiny_run / "run.json").read_bytes() == before
    taken = tmp_path / "taken"
    taken.write_text("")
    with pytest.raises(ValueError, match="is a file, expected a folder"):
        start("pretrain", tiny_config, footage, taken, footage_cache)


def test_alignment_needs_words_and_captions(
    footage: Path, tiny_config: Path, footage_cache: Path, tmp_path: Path
) -> None:
    config = tmp_path / "aligned.toml"
    config.write_text(tiny_config.read_text().replace("[pretrain]", "[pretrain]\nalignment = 0.5"))
    with pytest.raises(ValueError, match="the alignment task needs word vectors"):
        start("pretrain", config, footage, tmp_path / "run", footage_cache)
    words = make_words(tmp_path / "words", ["a square that moves right left down"])
    mute = tmp_path / "mute"
    mute.mkdir()
    shutil.copy(footage / "right.mp4", mute)
    with pytest.raises(ValueError, match=r"has no captions and pretrain.alignment is 0.5: add captions.csv"):
        start("pretrain", config, mute, tmp_path / "run", footage_cache, "--words", str(words))
    assert not (tmp_path / "run").exists()
    start("pretrain", config, footage, tmp_path / "run", footage_cache, "--words", str(words))
    assert "neighbours" in read_events(tmp_path / "run", "pretrain", "heldout").Tags()["images"]
    run(parser().parse_args(["probe", str(tmp_path / "run"), "--clips", "16", "--cache", str(footage_cache)]))
    measures = json.loads((tmp_path / "run/probe.json").read_text())["measures"]
    assert {"order", "position", "reconstruction", "alignment"} <= {measure["task"] for measure in measures}
    names = {f"{measure['task']}/{measure['name']}" for measure in measures}
    assert names == set(read_events(tmp_path / "run", "probe", "heldout").Tags()["scalars"])


def test_tasks_that_make_no_pictures_need_no_generator(
    footage: Path, tiny_config: Path, footage_cache: Path, tmp_path: Path
) -> None:
    config = tmp_path / "order.toml"
    config.write_text(tiny_config.read_text().replace("[pretrain]", "[pretrain]\nposition = 0.0\nreconstruction = 0.0"))
    start("pretrain", config, footage, tmp_path / "run", footage_cache)
    content = load_checkpoint(tmp_path / "run/pretrain.pt")
    assert {key.split(".")[0] for key in content["modules"]["tasks"]} == {"order"}
    assert not (tmp_path / "run/samples").exists()  # its generator has learned nothing yet
    start("finetune", tiny_config, footage, tmp_path / "run", footage_cache)  # but its encoder is a start


@pytest.mark.live
def test_two_processes_have_the_loss_curve_of_one(
    footage: Path, tiny_config: Path, footage_cache: Path, tmp_path: Path
) -> None:
    config = tmp_path / "exact.toml"
    text = (
        tiny_config.read_text().replace("[run]", '[run]\nprecision = "fp32"').replace("log_every = 2", "log_every = 1")
    )
    text = text.replace("[model]", "[model]\ntext_dimensions = 16")  # a gradient that nothing gives would block it
    config.write_text(text.replace("[pretrain]", "[pretrain]\nalignment = 0.5"))
    words = make_words(tmp_path / "words", ["a square that moves right left down"])
    start("pretrain", config, footage, tmp_path / "run1", footage_cache, "--words", str(words))
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = str(Path(__file__).parents[1] / "quick_training.py")
    command = [
        sys.executable, *launch, program, "pretrain", str(config), "--data", str(footage),
        "--words", str(words), "--out", str(tmp_path / "run2"), "--cache", str(footage_cache),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[3])
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("run1", "run2")]
    curves = [[json.loads(line) for line in each] for each in lines]
    assert len(curves[0]) == len(curves[1]) == 4
    for one, two in zip(*curves, strict=True):
        for key, value in one.items():
            if "loss" in key:
                assert two[key] == pytest.approx(value, rel=1e-4), (key, one["iteration"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["pretrain", "absent.toml", "--data", ".", "--out", "x"], "training: no configuration at absent.toml"),
        (["pretend", "a.toml", "--data", ".", "--out", "x"], "invalid choice: 'pretend'"),
        (["pretrain", "n" * 300, "--data", ".", "--out", "x"], "cannot be read as TOML: [Errno 36] File name too long"),
        (["pretrain", CONFIG, "--data", "n" * 300, "--out", "x"], f"training: the name {'n' * 60}... is too long"),
        (["pretrain", CONFIG, "--data", ".", "--out", "n" * 300], f"training: the name {'n' * 60}... is too long"),
        (["shard", "n" * 300, "--out", "x"], f"training: the name {'n' * 60}... is too long"),
        (["words", "n" * 300, "--out", "x"], f"training: the name {'n' * 60}... is too long"),
        (["probe", "n" * 300], f"training: the name {'n' * 60}... is too long"),
        (["sample", "n" * 300], f"training: the name {'n' * 60}... is too long"),
        (
            ["finetune", "a.toml", "--data", ".", "--out", "x", "--from-scratch"],
            "unrecognized arguments: --from-scratch",
        ),
    ],
)
def test_bad_input_ends_with_one_sentence_and_status_2(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["training", *arguments])
    try:
        status = main()
    except SystemExit as left:
        status = left.code
    said = capsys.readouterr().err
    assert status == 2
    assert sentence in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_polishing_goes_on_from_fine_tuning(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=r"no checkpoint at .*finetune.pt: train first"):
        start("polish", tiny_config, footage, out, footage_cache)
    out.mkdir(exist_ok=True)
    shutil.copy(tiny_run / "finetune.pt", out)
    start("polish", tiny_config, footage, out, footage_cache, "--set", "polish.iterations=2")
    assert newest_checkpoint(out).name == "polish.pt"
    before, after = (load_checkpoint(out / f"{stage}.pt") for stage in ("finetune", "polish"))
    assert after["footage"] == before["footage"]
    assert after["words"] == before["words"]
    assert (out / "samples" / "polish-000002.png").stat().st_size > 1000
    with pytest.raises(ValueError, match=r"has a polish\.pt, which more fine-tuning would outdate"):
        start("finetune", tiny_config, footage, out, footage_cache, "--set", "finetune.iterations=6")


def test_hints_go_on_from_the_newest_checkpoint(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=r"no checkpoint in .*run: expected polish\.pt, finetune\.pt or pretrain\.pt"):
        start("hints", tiny_config, footage, out, footage_cache)
    out.mkdir(exist_ok=True)
    shutil.copy(tiny_run / "finetune.pt", out)
    changes = ("--set", "hints.iterations=2", "--set", "hints.batch=2", "--set", "footage.motion_weight=1")
    start("hints", tiny_config, footage, out, footage_cache, *changes)
    start("hints", tiny_config, footage, out, footage_cache, *changes)
    assert newest_checkpoint(out).name == "hints.pt"
    before, after = (load_checkpoint(out / f"{stage}.pt") for stage in ("finetune", "hints"))
    assert after["footage"] == before["footage"]
    assert after["words"] == before["words"]
    (line,) = [json.loads(line) for line in (out / "heldout.jsonl").read_text().splitlines()]
    assert {"network 0 error", "network 8 cosine", "interpolation 1 error_moving"} <= set(line["figures"])
    with pytest.raises(ValueError, match=r"has a hints\.pt, which more fine-tuning would outdate"):
        start("finetune", tiny_config, footage, out, footage_cache, "--set", "finetune.iterations=6")
    with pytest.raises(ValueError, match=r"has a hints\.pt, which more polishing would outdate"):
        start("polish", tiny_config, footage, out, footage_cache)
