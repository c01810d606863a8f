from __future__ import annotations

from pathlib import Path

import pytest

from training import config
from training.config import Config, config_from_dict, load_config
from training.tasks.table import TASKS

CONFIGS = sorted((Path(__file__).parents[2] / "training" / "configs").glob("*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load(path: Path) -> None:
    unnamed = Config().name  # named after what it starts from
    expected = {"adapt": unnamed, "motion": unnamed, "enlarge-2x": "enlarge"}
    assert load_config(path).name == expected.get(path.stem, path.stem)


def test_an_unknown_key_names_the_nearest_right_one() -> None:
    with pytest.raises(ValueError, match=r'unknown key "finetune.learning_rat".*"finetune.learning_rate"'):
        config_from_dict({"finetune": {"learning_rat": 1e-3}})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"pretrain": {"batch": "8"}}, "pretrain.batch is '8', expected int"),
        ({"pretrain": {"batch": True}}, "pretrain.batch is True, expected int"),
        ({"pretrain": 3}, r"\[pretrain\] is int, expected a table"),
        ({"finetune": {"penalty": -1.0}}, "finetune.penalty is -1.0, expected 0 or more"),
        ({"model": {"height": 100}}, "frame size is 128x100, expected multiples of 32"),
        ({"footage": {"holdout": "random"}}, 'expected "scene" or "time"'),
        ({"footage": {"fps": float("nan")}}, "footage.fps is nan, expected 0 or more"),
        ({"pretrain": {"learning_rate": float("inf")}}, "pretrain.learning_rate is inf"),
        ({"pretrain": {"iterations": 0}}, "pretrain.iterations is 0 and pretrain.batch 8, expected 1 or more"),
        ({"pretrain": {"stride_max": 8}}, "four frames reach 24 frames ahead"),
        ({"run": {"precision": "fp16"}}, 'run.precision is "fp16", expected "auto", "bf16" or "fp32"'),
        ({"run": {"log_every": 0}}, "run.log_every is 0, expected 1 or more"),
        ({"run": {"ema": 1.0}}, "run.ema is 1.0, expected 0 or more and below 1"),
        (
            {"finetune": {"crop": 100}},
            "finetune.crop is 100, expected 0 or a multiple of 32 from 64 to the frame's 128",
        ),
        ({"finetune": {"crop": 32}}, "finetune.crop is 32, expected 0 or a multiple of 32 from 64"),
        (
            {"pretrain": {"crop": 160}},
            "pretrain.crop is 160, expected 0 or a multiple of 32 from 64 to the frame's 128",
        ),
        ({"model": {"height": 64}, "finetune": {"crop": 96}}, "finetune.crop is 96, .* to the frame's 64"),
        ({"finetune": {"given": 0.7, "parts": 0.3, "mixed": 0.1}}, "given . parts . mixed is 1.1, expected 1 at most"),
        ({"finetune": {"replay_share": 1.5}}, "finetune.replay_share is 1.5, expected a share from 0 to 1"),
        ({"finetune": {"past": 2}}, "finetune.past is 2.0, expected a share from 0 to 1"),
        ({"finetune": {"pretrained": "some"}}, 'pretrained is "some", expected "all", "encoder" or "none"'),
        ({"finetune": {"pretrained": True}}, "finetune.pretrained is True, expected str"),
        ({"finetune": {"batch": 3}}, "finetune.batch is 3, expected 4 or more"),
        (
            {"finetune": {"penalty_every": 0}},
            "penalty_every, gap_every and burn_in_frames must be 1 or more, got 0, 20",
        ),
        ({"finetune": {"burn_in_frames": 0}}, "must be 1 or more, got 2, 20 and 0"),
        ({"pretrain": {"given": 0.8, "masked": 0.3}}, "pretrain.given . pretrain.masked is 1.1, expected 1 at most"),
        ({"pretrain": {"still": 1}}, "pretrain.still is 1, expected bool"),
        ({"model": {"mixing": 2.0}}, "mixing 2.0 and text_dimensions 0, expected 2 to 4096, 0 to 1"),
        ({"model": {"components": 1}}, "components is 1, mixing"),
        ({"footage": {"motion_weight": 5}}, "footage.motion_weight is 5.0, expected 0 to 4"),
        ({"pretrain": {"hints": True}}, "pretrain.anticipation, the task that learns from hints, is 0"),
        ({"hints": {"past": 2}}, "hints.past is 2.0, expected a share from 0 to 1"),
        ({"hints": {"crop": 32}}, "hints.crop is 32, expected 0 or a multiple of 32 from 64"),
        ({"hints": {"batch": 0}}, "hints.iterations is 2000 and hints.batch 0, expected 1 or more"),
        ({"footage": {"crop_max": 500}}, "expected 32 <= crop_min <= crop_max <= short_side"),
    ],
)
def test_bad_values_are_refused_in_one_sentence(data: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        config_from_dict(data)
    assert "\n" not in str(caught.value)


def test_whole_numbers_serve_as_fractions_and_the_digest_follows_the_content() -> None:
    one, two = config_from_dict({"finetune": {"penalty": 5}}), config_from_dict({"finetune": {"penalty": 5.0}})
    assert one == two
    assert one.digest() == two.digest() != config_from_dict({"finetune": {"penalty": 6}}).digest()


def test_a_missing_or_broken_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no configuration at"):
        load_config(tmp_path / "absent.toml")
    path = tmp_path / "broken.toml"
    path.write_text("[model\n")
    with pytest.raises(ValueError, match="cannot be read as TOML"):
        load_config(path)


def test_single_keys_can_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text("[pretrain]\norder = 0.5\n")
    config = load_config(path, ["pretrain.order=0", "run.precision=fp32", 'name="two"'])
    assert (config.pretrain.weights["order"], config.run.precision, config.name) == (0.0, "fp32", "two")
    with pytest.raises(ValueError, match=r"pretrain\.order is 'half', expected float"):
        load_config(path, ["pretrain.order=half"])
    for change in ("pretrain.order", "pretrain.order=", "name.x=1", "pretrain.order=[1"):
        with pytest.raises(ValueError, match=r"--set .* cannot be read: expected SECTION.KEY=VALUE"):
            load_config(path, ['name="one"', change])
    with pytest.raises(ValueError, match=r'unknown key "pretrain.ordr".*"pretrain.order"'):
        load_config(path, ["pretrain.ordr=1"])
    with pytest.raises(ValueError, match=r'unknown key "pretrain\.weights"'):
        load_config(path, ["pretrain.weights={}"])


def test_a_task_has_its_own_weight_unless_the_configuration_gives_one() -> None:
    config = config_from_dict({"pretrain": {"order": 3, "alignment": 0.5}})
    defaults = {name: task.weight for name, task in TASKS.items()}
    assert Config().pretrain.weights == defaults
    assert config.pretrain.weights == defaults | {"order": 3.0, "alignment": 0.5}
    saved = config.to_dict()  # with the keys of the TOML file, as checkpoints have always had them
    assert (saved["pretrain"]["order"], saved["pretrain"]["position"]) == (3.0, defaults["position"])
    assert "weights" not in saved["pretrain"]
    assert config_from_dict(saved) == config


def test_the_former_switch_for_bf16_is_read_as_the_precision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.toml"
    path.write_text("[run]\nbf16 = true\nthreads = 1\n")
    config = load_config(path)
    assert (config.run.precision, config.run.threads) == ("bf16", 1)
    assert capsys.readouterr().out.startswith("run.bf16 has been replaced: write run.precision =")
    assert load_config(path, ["run.bf16=false"]).run.precision == "fp32"
    with pytest.raises(ValueError, match=r"run\.bf16 and run\.precision say the same thing: leave run\.bf16 out"):
        load_config(path, ["run.precision=auto"])
    with pytest.raises(ValueError, match=r"run\.bf16 is 'yes', expected bool"):
        load_config(path, ["run.bf16=yes"])
    # What a checkpoint holds is read without a word: nobody can change it.
    capsys.readouterr()
    saved = {"run": {"bf16": False, "seed": 3}}
    assert config_from_dict(saved).run.precision == "fp32"
    assert saved == {"run": {"bf16": False, "seed": 3}}
    assert capsys.readouterr().out == ""


def test_a_cropped_configuration_is_of_a_generator_that_small() -> None:
    config = config_from_dict(
        {"model": {"height": 128, "width": 192}, "pretrain": {"crop": 64}, "finetune": {"crop": 96}}
    )
    assert config.cropped(0) is config
    small = config.cropped(96)
    assert (small.model.height, small.model.width) == (96, 96)
    assert (small.pretrain.crop, small.finetune.crop) == (0, 0)
    assert small.footage == config.footage


def test_the_old_switch_for_no_pretraining_is_gone() -> None:
    assert config_from_dict({"finetune": {"pretrained": "none"}}).finetune.pretrained == "none"
    with pytest.raises(ValueError, match=r'unknown key "finetune\.critic_channels"'):
        config_from_dict({"finetune": {"critic_channels": 32}})


def test_the_small_configuration_trains_the_same_generator_for_a_third_as_long() -> None:
    folder = CONFIGS[0].parent
    small, whole = (load_config(folder / f"{name}.toml") for name in ("own-256-small", "own-256"))
    assert (small.model, small.footage) == (whole.model, whole.footage)
    for stage in ("pretrain", "finetune", "polish"):
        assert 3 * getattr(small, stage).iterations == getattr(whole, stage).iterations


def test_a_task_may_not_take_the_name_of_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = config.task_weights()
    monkeypatch.setattr(config, "task_weights", lambda: {**weights, "batch": 0.0})
    with pytest.raises(ValueError, match="the pretraining task batch has the name of another key"):
        config_from_dict({"pretrain": {}})
