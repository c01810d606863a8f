"""A trained generator is adapted to other footage: what it starts from, what changes and what stays, and its export."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from export.bundle_writer import load_run
from runtime.bundle.reader import open_bundle
from tests.text_run import export
from training import sampling
from training.__main__ import main, parser, run
from training.checkpoint import load_checkpoint, part_of
from training.stages.adaptation import adapted_config, open_start
from training.stages.finetune import FinetuneStage

ROOT = Path(__file__).parents[3]
QUICK = ("finetune.iterations=2", "finetune.batch=4", "finetune.burn_in_frames=2", "run.precision=fp32",
         "run.evaluate_clips=4", "polish.iterations=2", "footage.horizon_frames=8")  # fmt: skip


@pytest.fixture(autouse=True)
def short_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that show what they started from."""

    def rollout(generator: object, image: Tensor, *rest: object) -> dict[int, Tensor]:
        return dict.fromkeys(rest[2], image)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(sampling, "rollout", rollout)


def start(command: str, data: Path, out: Path, cache: Path, *more: str) -> None:
    changes = [part for change in QUICK for part in ("--set", change)]
    places = ["--data", str(data), "--out", str(out), "--cache", str(cache)]
    run(parser().parse_args([command, *more, *places, *changes]))


def test_from_a_bundle_to_a_bundle(text_bundle: Path, footage: Path, footage_cache: Path, tmp_path: Path) -> None:
    """Fine-tuning without a configuration, polishing without one, and the export, with text and enlarger."""
    out = tmp_path / "run"
    start("finetune", footage, out, footage_cache, "--from", str(text_bundle), "--set", "name=mine")
    before, tuned = open_start(text_bundle), load_checkpoint(out / "finetune.pt")
    after = part_of(tuned["ema"], "generator.")
    for name, value in before.weights.items():
        is_motion = name.startswith(("condition.encoder.", "step."))
        if not is_motion:
            assert torch.equal(after[name], value), name
    assert not torch.equal(
        after["condition.encoder.to_flow.weight"], before.weights["condition.encoder.to_flow.weight"]
    )
    assert not torch.equal(after["step.update.weight"], before.weights["step.update.weight"])
    discriminator = tuned["modules"]["clip_critic"]["trunk.stem.weight"]
    torch.testing.assert_close(discriminator, before.weights["condition.encoder.trunk.stem.weight"], atol=2e-2, rtol=0)
    assert tuned["config"]["name"] == "mine"
    assert tuned["config"]["model"] == before.settings["model"]

    start("polish", footage, out, footage_cache)
    polished = part_of(load_checkpoint(out / "polish.pt")["ema"], "generator.")
    texts = "condition.prior.texts"
    replaced = (polished[texts] != after[texts]).any(dim=1)
    assert replaced.tolist() == [True, False, False, False]  # a quarter of four components
    assert not torch.equal(polished["condition.prior.means"][0], after["condition.prior.means"][0])
    assert torch.equal(polished["condition.prior.spreads"], after["condition.prior.spreads"])
    assert torch.equal(polished["condition.encoder.to_flow.weight"], after["condition.encoder.to_flow.weight"])

    bundle = open_bundle(export(out, tmp_path / "bundle"))
    provenance = bundle.manifest.provenance
    assert bundle.manifest.name == "mine"
    assert bundle.manifest.text is not None
    assert provenance["training"]["start"] == {"name": before.name, "sha256": before.sha256}
    clips = {entry["name"]: entry["clips"] for entry in provenance["data"]}
    # Both are of one source, and a bundle does not name its clips: the larger number counts.
    assert clips == {"made by the tests": max(len(before.footage), 4)}
    assert provenance["pictures"][0]["pictures"] == 1
    assert load_run(out)[0].enlarger is not None
    again = open_start(tmp_path / "bundle")
    assert again.settings["model"] == before.settings["model"]


def test_motion_is_learned_without_making_frames(
    text_bundle: Path, footage: Path, footage_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flow and sway alone are the targets: the encoder learns, and what plays it stays."""

    def refuse(*_: object) -> None:
        raise AssertionError("a frame was made")

    monkeypatch.setattr(FinetuneStage, "_roll", refuse)
    start("finetune", footage, tmp_path, footage_cache, "--from", str(text_bundle), "--set", "finetune.played=false")
    before, after = (
        open_start(text_bundle).weights,
        part_of(load_checkpoint(tmp_path / "finetune.pt")["ema"], "generator."),
    )
    assert not torch.equal(after["condition.encoder.to_flow.weight"], before["condition.encoder.to_flow.weight"])
    assert torch.equal(after["step.update.weight"], before["step.update.weight"])
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"flow", "sway", "gradient"} <= set(lines[-1])
    assert "continuation" not in lines[-1]
    with pytest.raises(ValueError, match=r"finetune\.played is false, .* set painter to false"):
        adapted_config(open_start(text_bundle), None, ["finetune.played=false", "finetune.adversarial=0.1"])


def test_from_a_run_and_with_a_painter(
    tiny_run: Path, tiny_config: Path, footage: Path, footage_cache: Path, tmp_path: Path
) -> None:
    """A configuration of the user's trains everything; the start's recogniser is used."""
    out = tmp_path / "run"
    start("finetune", footage, out, footage_cache, str(tiny_config), "--from", str(tiny_run))
    before = part_of(load_checkpoint(tiny_run / "finetune.pt")["ema"], "")
    content = load_checkpoint(out / "finetune.pt")
    after = content["ema"]
    for name in ("generator.condition.painter.to_rgb.weight", "recogniser.head.to_global.weight"):
        assert not torch.equal(after[name], before[name])
        torch.testing.assert_close(after[name], before[name], atol=1e-2, rtol=0)
    assert not torch.equal(after["generator.condition.prior.means"], before["generator.condition.prior.means"])
    assert content["start"]["name"] == "tiny"
    start("finetune", footage, out, footage_cache, str(tiny_config), "--from", str(tiny_run))  # it is complete
    with pytest.raises(ValueError, match=r"finetune\.pt did not start from .*: name another --out, or its own start"):
        start("finetune", footage, out, footage_cache, str(tiny_config), "--from", str(out))


def test_the_settings_are_those_of_the_bundle_unless_others_are_named() -> None:
    landscape = open_start(ROOT / "bundles" / "landscape")
    config = adapted_config(landscape, None)
    assert (config.name, config.model.pace, config.model.components) == ("landscape-adapted", 0.75, 80)
    assert (config.finetune.crop, config.finetune.painter) == (128, False)
    assert (config.footage.short_side, config.footage.holdout, config.footage.either_way) == (288, "time", False)
    assert (config.renewal_every_frames, config.renewal_correlation) == (300, 0.5)
    assert adapted_config(landscape, None, ["model.pace=1"]).model.pace == 1
    with pytest.raises(
        ValueError, match=r"bundles/landscape has model\.height = 256, the configuration says 128: leave"
    ):
        adapted_config(landscape, None, ["model.height=128", "finetune.crop=0"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "training: finetune needs CONFIG, for example training/configs/own-256.toml, or --from BUNDLE"),
        (["--from", "nowhere"], "training: --from nowhere does not exist: name a bundle or a checkpoint"),
        (["--from", "empty"], "training: --from empty is neither a bundle nor the folder of a run"),
        (["--from", "bundles/person"], "is an imported model or a bundle of schema 1, expected one of schema 2"),
        (["--from", "README.md"], "README.md is not a checkpoint or is damaged"),
        (["--from", "bundles/landscape", "--pretrained", "x.pt"], "--from and --pretrained are both there"),
        (["--from", "bundles/landscape", "training/configs/own-256-64.toml"], "no configuration at"),
        (
            ["--from", "bundles/landscape", "training/configs/tasks-64.toml"],
            "bundles/landscape has model.height = 256, the",
        ),
    ],
)
def test_bad_starts_end_with_one_sentence_and_status_2(
    arguments: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("bundles", "training", "README.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setattr(sys, "argv", ["training", "finetune", *arguments, "--data", ".", "--out", "run"])
    assert main() == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_pretrained_checkpoint_is_no_start(tiny_run: Path) -> None:
    with pytest.raises(
        ValueError, match=r"pretrain\.pt is of the stage pretrain, --from takes finetune\.pt, polish\.pt or hints"
    ):
        open_start(tiny_run / "pretrain.pt")


def test_the_words_of_a_bundle_are_kept(text_bundle: Path, tmp_path: Path) -> None:
    from training.data.words import WordVectors

    found = open_start(text_bundle)
    assert found.words is not None
    assert not isinstance(found.words, Path)
    found.words.write(tmp_path / "words")
    words = WordVectors.open(tmp_path / "words")
    assert words.dimensions == 16
    facts = json.loads((tmp_path / "words" / "words.json").read_text())
    assert set(facts["source"]) == {"name", "licence"}
