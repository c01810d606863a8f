"""Adversarial fine-tuning on a small scale: what each loss reaches, what a seed decides, what stops it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from tests.training.fake_clips import CAPTIONS, FakeClips, FakeSpans
from tests.training.words_fixture import make_words
from training import loop
from training.checkpoint import HINTS, load_checkpoint, load_generator, save_checkpoint
from training.config import Config, FinetuneConfig, FootageConfig, PretrainConfig, RunConfig
from training.data.words import WordVectors
from training.model.discriminators import Discriminator, DiscriminatorOutput
from training.model.generator import Shape, VideoGenerator
from training.model.painter import GLOBAL_CODES, LOCAL_CODES
from training.stages import finetune
from training.stages.finetune import SEEN, FinetuneStage, Rows, in_proportion
from training.stages.losses import DivergenceError
from training.stages.pretrain import Pretrainer

SMALL = FinetuneConfig(
    iterations=4, batch=4, given=0.5, parts=0.25, mixed=0.0, burn_in_frames=3, replay=4, replay_share=0.5, gap_every=2,
    past=0.0,
)  # fmt: skip
FACTS = {"data": "", "words": "", "footage": []}


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(loop, "write_samples", lambda *arguments: None)  # rolls out a hundred frames


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> WordVectors:
    return WordVectors.open(make_words(tmp_path_factory.mktemp("finetune") / "words", CAPTIONS))


def make_config(text: int = 0, run: dict[str, int] | None = None, **changes: Any) -> Config:
    """Return a configuration of 64 pixels with a quarter of the encoder's channels."""
    return Config(
        model=Shape(64, 64, 4, 16, text_dimensions=text, components=4, encoder_scale=0.25),
        footage=FootageConfig(short_side=72, crop_min=64, crop_max=72, horizon_frames=12),
        pretrain=PretrainConfig(weights={"position": 0.2, "reconstruction": 1.0, "alignment": 0.2 if text else 0.0}),
        finetune=replace(SMALL, **changes),
        run=RunConfig(precision="fp32", **{"log_every": 1, "checkpoint_every": 2, "evaluate_clips": 8} | (run or {})),
    )


@pytest.fixture(scope="module")
def checkpoint(words: WordVectors, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretrained checkpoint, fresh from its initial weights, in which every layer has a say."""
    config = make_config(text=16)
    torch.manual_seed(5)
    pretrainer = Pretrainer(config, None, words)
    with torch.no_grad():
        for name, weight in pretrainer.named_parameters():
            if "modulation" in name:  # they start at zero, which keeps what feeds them from learning
                weight.normal_(0, 0.1)
    path = tmp_path_factory.mktemp("pretrained") / "pretrain.pt"
    save_checkpoint(
        path,
        {"stage": "pretrain", "iteration": 1, "config": config.to_dict(), "ema": pretrainer.state_dict(), **FACTS},
    )
    return path


class SquaredDistance(nn.Module):
    """Stands in for LPIPS."""

    def forward(self, made: Tensor, real: Tensor) -> Tensor:
        return (made - real).square().mean()


def make_stage(
    config: Config,
    fabric: Fabric,
    pretrained: Path | None = None,
    words: WordVectors | None = None,
    held: bool = True,
    perceptual: bool = False,
) -> FinetuneStage:
    torch.manual_seed(config.run.seed)
    clips: Any = FakeClips(64)
    watched: Any = FakeClips(64, seed=1) if held else None
    look: Any = SquaredDistance() if perceptual else None
    stage = FinetuneStage(config, pretrained, look, words, clips, watched)
    stage.setup(fabric)
    return stage


def one_update(stage: FinetuneStage, offsets: list[int], iteration: int = 0, seed: int = 0) -> dict[str, float]:
    torch.manual_seed(seed)
    return stage.update(FakeClips(64).draw(iteration, stage.batch, offsets), offsets, iteration)


def go(stage: FinetuneStage, fabric: Fabric, out: Path) -> dict[str, Any]:
    """Train to the end; return the checkpoint."""
    clips: Any = FakeClips(64)
    loop.train(stage, stage.config, fabric, clips, clips, out, FACTS, {})
    return load_checkpoint(out / "finetune.pt")


# Who is what in a batch, and which frames it has.


@pytest.mark.parametrize("count", [4, 5, 8, 16])
@pytest.mark.parametrize(
    "shares", [(0.5, 0.125, 0.125), (1.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.0, 1.0, 0.0), (0.25, 0.0, 0.75), (0, 0, 0)]
)
def test_a_batch_has_at_least_one_given_and_one_own_row(count: int, shares: tuple[float, float, float]) -> None:
    given, parts, mixed = shares
    rows = Rows.of(make_config(given=given, parts=parts, mixed=mixed), count)
    assert sum(rows) == count
    assert rows.given >= 1
    assert rows.own >= 1
    assert min(rows) >= 0
    if count == 16 and shares[0] == 0.5:
        assert rows == Rows(given=8, parts=2, own=4, mixed=2)


@pytest.mark.parametrize("horizon", [4, 6, 8, 12, 24])
def test_offsets_stay_within_the_horizon(horizon: int, fabric: Fabric) -> None:
    config = make_config(past=0.5)
    config = replace(
        config, pretrain=replace(config.pretrain, stride_max=1), footage=replace(config.footage, horizon_frames=horizon)
    )
    stage = make_stage(config, fabric, held=False)
    every = [stage.offsets(step) for step in range(300)]
    assert every == [stage.offsets(step) for step in range(300)]
    pasts, gaps = set(), set()
    for offsets in every:
        assert 0 <= min(offsets) < max(offsets) <= horizon
        before = len(offsets) - SEEN - 1
        assert offsets[: before + 1] == list(range(before + 1))
        first, second, third = offsets[before + 1 :]
        assert first > before
        assert second - first == third - second
        pasts.add(before)
        gaps.add(second - first)
    assert gaps == {gap for gap in (1, 2, 3, 4) if 2 * gap < horizon}
    assert pasts == ({0, 3} if horizon >= 6 else {0})
    assert max(max(offsets) for offsets in every) == horizon


# What each loss reaches.

GROUPS = {
    "state": "generator.step.update.weight",
    "flow": "generator.condition.encoder.to_flow.weight",
    "modes": "generator.condition.encoder.to_modes.weight",
    "painter": "generator.condition.painter.to_rgb.weight",
    "text": "generator.condition.painter.from_text.weight",
    "code": "recogniser.head.to_global.weight",
    "place": "recogniser.head.to_local.weight",
}
MOVING = {"state", "flow", "modes"}
PAINTED = {"painter", "text", "code", "place"}
REACHED = {
    "adversarial": MOVING | PAINTED,
    "adversarial_picture": MOVING | PAINTED,
    "feature_matching": MOVING | PAINTED,
    "reconstruction": MOVING,
    "code_reconstruction": PAINTED,
    "kl": {"code", "place"},
    "perceptual": PAINTED,
    "perceptual_clip": MOVING,
    "flow": {"flow"} | PAINTED,
    "sway": {"flow", "modes"} | PAINTED,
    "motion": MOVING | PAINTED,
    "correspondence": MOVING,
    "alignment": MOVING | PAINTED,
}


@pytest.mark.parametrize("term", list(REACHED))
def test_each_loss_reaches_what_it_should_and_nothing_else(
    term: str, checkpoint: Path, words: WordVectors, fabric: Fabric
) -> None:
    config = make_config(text=16, replay=0, **{name: float(name == term) for name in REACHED})
    stage = make_stage(config, fabric, checkpoint, words, perceptual=True)
    if stage.teacher is None:  # a teacher that nothing asks is not made
        assert not REACHED[term] & {"teacher"}
    assert (stage.teacher is not None) == (term in ("correspondence", "alignment"))
    metrics = one_update(stage, [0, 2, 4, 6], seed=2)
    assert "continuation" in metrics, "of this seed a given clip starts from its first frame"
    parameters = dict(stage.averaged.named_parameters())
    reached = set()
    for name, key in GROUPS.items():
        gradient = parameters[key].grad
        if gradient is not None and gradient.abs().sum() > 0:
            reached.add(name)
    assert reached == REACHED[term]


def test_with_all_losses_nothing_starves(checkpoint: Path, words: WordVectors, fabric: Fabric) -> None:
    config = make_config(text=16, batch=8, given=0.5, parts=0.125, mixed=0.125, past=1.0)
    stage = make_stage(config, fabric, checkpoint, words, perceptual=True)
    metrics = one_update(stage, [0, 1, 2, 3, 5, 7, 9], seed=2)
    starved = [
        f"{part}.{name}"
        for part, module in stage.modules.items()
        for name, value in module.named_parameters()
        if ".hints." not in name  # they are trained only if the configuration says so
        and (value.grad is None or not value.grad.isfinite().all() or not value.grad.abs().sum() > 0)
    ]
    # A picture alone has no gap. The last bias cancels between real and made, but for rounding.
    assert {name for name in starved if not name.endswith("to_whole.bias")} == {"picture_critic.from_gap.weight"}
    assert all(torch.isfinite(torch.tensor(value)) for value in metrics.values())
    expected = {
        "adversarial", "matching", "adversarial_picture", "own_features", "code_l1", "kl", "continuation", "look",
        "clip_look", "flow", "sway", "motion", "correspondence", "alignment", "discriminator",
        "discriminator_picture", "unreal", "penalty", "motion_ratio", "gradient", "overfitting", "age",
    }  # fmt: skip
    assert set(metrics) == expected
    assert all(parameter.grad is None for parameter in stage.teacher.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("is_judged", [True, False])
def test_without_a_painter_motion_alone_is_trained(is_judged: bool, fabric: Fabric) -> None:
    """With discriminators or, if no weight asks for them, without."""
    weights = {} if is_judged else {"adversarial": 0.0, "adversarial_picture": 0.0, "feature_matching": 0.0}
    stage = make_stage(make_config(painter=False, **weights), fabric, perceptual=True)
    stage.generator.condition.prior.means.fill_(0.5)
    parts = {
        "encoder": stage.generator.condition.encoder, "step": stage.generator.step,
        "painter": stage.generator.condition.painter, "prior": stage.generator.condition.prior,
        "recogniser": stage.recogniser, "clips": stage.clip_discriminator, "pictures": stage.picture_discriminator,
    }  # fmt: skip
    before = {name: {key: value.clone() for key, value in part.state_dict().items()} for name, part in parts.items()}
    metrics = one_update(stage, [0, 1, 2, 3])
    stage.refresh(stage.averaged)
    changed = {
        name
        for name, part in parts.items()
        if any(not torch.equal(value, before[name][key]) for key, value in part.state_dict().items())
    }
    assert changed == {"encoder", "step"} | ({"clips", "pictures"} if is_judged else set())
    assert ("adversarial" in metrics) == is_judged
    assert not {"code_l1", "kl", "own_features", "look"} & set(metrics)
    assert {"flow", "sway", "motion", "clip_look", "motion_ratio"} <= set(metrics)
    figures = stage.held_out_figures(stage.averaged, 8)
    assert "code PSNR" not in figures
    assert figures["standing still"] > 0


def test_the_generator_does_not_train_the_discriminators_and_they_not_it(fabric: Fabric) -> None:
    stage = make_stage(make_config(critic_learning_rate=0.0), fabric)
    before = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in stage.modules.items()}
    one_update(stage, [0, 1, 2, 3])
    changed = {
        name: any(not torch.equal(before[name][key], value) for key, value in module.state_dict().items())
        for name, module in stage.modules.items()
    }
    assert changed == {"generator": True, "recogniser": True, "clip_critic": False, "picture_critic": False}
    stage = make_stage(make_config(learning_rate=0.0), fabric)
    before = {name: {k: v.clone() for k, v in module.state_dict().items()} for name, module in stage.modules.items()}
    one_update(stage, [0, 1, 2, 3])
    changed = {
        name: any(not torch.equal(before[name][key], value) for key, value in module.state_dict().items())
        for name, module in stage.modules.items()
    }
    assert changed == {"generator": False, "recogniser": False, "clip_critic": True, "picture_critic": True}


# What is taken over.


def trunks(stage: FinetuneStage) -> list[dict[str, Tensor]]:
    owners = (
        stage.generator.condition.encoder,
        stage.recogniser,
        stage.clip_discriminator,
        stage.picture_discriminator,
    )
    return [owner.trunk.state_dict() for owner in owners]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["all", "encoder", "none"])
def test_what_is_taken_over_from_pretraining(kind: str, checkpoint: Path, words: WordVectors, fabric: Fabric) -> None:
    weights = load_checkpoint(checkpoint)["ema"]
    path = None if kind == "none" else checkpoint
    stage = make_stage(make_config(text=16, pretrained=kind), fabric, path, words)
    trunk = {key.split("trunk.")[1]: value for key, value in weights.items() if "condition.encoder.trunk." in key}
    for own in trunks(stage):
        assert own.keys() == trunk.keys()
        assert all(torch.equal(own[key], value) for key, value in trunk.items()) == (kind != "none")
    painter = stage.generator.condition.painter.state_dict()
    same = all(torch.equal(value, weights[f"generator.condition.painter.{key}"]) for key, value in painter.items())
    assert same == (kind == "all")
    head = stage.recogniser.head.state_dict()
    same = all(torch.equal(value, weights[f"tasks.reconstruction.code_head.{key}"]) for key, value in head.items())
    assert same == (kind == "all")
    assert (stage.teacher is not None) == (kind == "all")


def test_an_encoder_serves_another_model_and_a_whole_model_does_not(
    checkpoint: Path, words: WordVectors, fabric: Fabric
) -> None:
    config = make_config(pretrained="encoder")
    deaf = replace(config, model=replace(config.model, num_modes=6))
    make_stage(deaf, fabric, checkpoint)
    with pytest.raises(ValueError, match=r"trained with model\.num_modes = 4, the configuration says 6"):
        make_stage(replace(deaf, finetune=replace(deaf.finetune, pretrained="all")), fabric, checkpoint)
    wide = replace(config, model=replace(config.model, encoder_scale=0.5))
    with pytest.raises(ValueError, match=r"encoder_scale = 0\.25, the configuration says 0\.5: an encoder of another"):
        make_stage(wide, fabric, checkpoint)
    # What no weight depends on may differ.
    config = make_config(text=16)
    other = replace(config, model=replace(config.model, components=9, mixing=0.1, period_frames=20))
    assert len(make_stage(other, fabric, checkpoint, words).generator.condition.prior.means) == 9


def test_text_asks_for_words(fabric: Fabric) -> None:
    with pytest.raises(ValueError, match=r"takes text .*text_dimensions is 16.*pass --words"):
        make_stage(make_config(text=16), fabric)


def test_one_process_only(fabric: Fabric) -> None:
    stage = make_stage(make_config(), fabric)

    class Two:
        world_size = 2

    with pytest.raises(ValueError, match="started in 2 processes; the adversarial stage runs in one"):
        stage.setup(Two())  # type: ignore[arg-type]


# What a seed decides.


def weights_of(content: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    yield from content["ema"].items()
    for name, module in content["modules"].items():
        yield from ((f"{name}.{key}", value) for key, value in module.items())


def require_equal(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one["iteration"] == two["iteration"]
    for (name, mine), (_, theirs) in zip(weights_of(one), weights_of(two), strict=True):
        assert torch.equal(mine, theirs), name
    entries = [content["extra"]["aged"]["entries"] for content in (one, two)]
    assert len(entries[0]) == len(entries[1]) > 0
    for mine, theirs in zip(*entries, strict=True):
        assert mine["age"] == theirs["age"]
        assert mine["show"][3:] == theirs["show"][3:]
        parts = zip((*mine["show"][:3], *mine["state"]), (*theirs["show"][:3], *theirs["state"]), strict=True)
        assert all(torch.equal(a, b) for a, b in parts)
    assert one["extra"]["gap"] == two["extra"]["gap"]
    for name, optimiser in one["optimisers"].items():
        for key, moments in optimiser["state"].items():
            for part, value in moments.items():
                assert torch.equal(value, two["optimisers"][name]["state"][key][part]), (name, key, part)


@pytest.fixture(scope="module")
def straight(fabric: Fabric, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A run of four iterations in which shows come back from the buffer, and its folder."""
    patch = pytest.MonkeyPatch()
    patch.setattr(finetune, "GAPS", (2,))  # every clip has the layout of every other
    patch.setattr(loop, "write_samples", lambda *arguments: None)
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("straight")
    content = go(make_stage(make_config(run={"keep_every": 3}), fabric), fabric, out)
    patch.undo()
    return content, out


def test_two_runs_of_one_seed_give_the_same_weights_and_another_seed_others(
    straight: tuple[dict[str, Any], Path], fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "GAPS", (2,))
    config = make_config(run={"keep_every": 3})
    require_equal(straight[0], go(make_stage(config, fabric), fabric, tmp_path / "again"))
    other = replace(config, run=replace(config.run, seed=1), finetune=replace(config.finetune, iterations=1))
    theirs = go(make_stage(other, fabric), fabric, tmp_path / "other")
    assert not torch.equal(
        theirs["ema"]["recogniser.head.to_global.weight"], straight[0]["ema"]["recogniser.head.to_global.weight"]
    )


def test_a_stopped_and_resumed_run_is_one_that_never_stopped_with_its_old_shows(
    straight: tuple[dict[str, Any], Path], fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "GAPS", (2,))
    config = make_config(run={"keep_every": 3})
    saved = loop.save_checkpoint

    def cut(path: Path, content: dict[str, Any]) -> None:
        saved(path, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", cut)
    with pytest.raises(KeyboardInterrupt):
        go(make_stage(config, fabric), fabric, tmp_path)
    monkeypatch.setattr(loop, "save_checkpoint", saved)
    assert load_checkpoint(tmp_path / "finetune.pt")["iteration"] == 2
    torch.manual_seed(77)  # a new process begins anywhere
    require_equal(straight[0], go(make_stage(config, fabric), fabric, tmp_path))


def test_shows_grow_old(straight: tuple[dict[str, Any], Path]) -> None:
    content, _ = straight
    ages = [entry["age"] for entry in content["extra"]["aged"]["entries"]]
    # One go brings a show on by at most the burn-in and the horizon: whoever is older has been here before.
    assert max(ages) > SMALL.burn_in_frames + 12
    for entry in content["extra"]["aged"]["entries"]:
        for tensor in (*entry["show"][:3], *entry["state"]):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), "a view of a batch"


def test_kept_weights_are_a_generator_with_what_was_read_from_the_footage(
    straight: tuple[dict[str, Any], Path],
) -> None:
    _, out = straight
    assert [path.name for path in (out / "kept").iterdir()] == ["finetune-000003"]
    generator, config, facts = load_generator(out / "kept/finetune-000003")
    assert (facts["stage"], facts["iteration"]) == ("finetune", 3)
    prior = generator.condition.prior
    assert prior.means.shape == (4, GLOBAL_CODES + LOCAL_CODES * 64)
    assert prior.means.std(dim=0).max() > 1e-4
    assert (prior.spreads > 0).all()
    local = prior.spreads[GLOBAL_CODES:].reshape(LOCAL_CODES, -1)
    assert torch.allclose(local, local[:, :1].expand_as(local)), "one spread per channel"
    assert config.model.components == 4


def test_captions_of_the_footage_are_what_text_is_compared_to(words: WordVectors, fabric: Fabric) -> None:
    stage = make_stage(make_config(text=16), fabric, None, words)
    stage.refresh(stage.averaged)
    known = torch.from_numpy(words.encode(list(CAPTIONS)))
    fit = stage.generator.condition.prior.texts @ known.T
    assert torch.allclose(fit.amax(dim=1), torch.ones(4), atol=1e-5)


def test_components_are_drawn_from_scenes_in_proportion_to_their_length() -> None:
    clips: Any = FakeClips(64)
    for lengths, expected in (
        ((40,) * 4, (2, 2, 2, 2)),
        ((10, 10, 20, 40), (1, 1, 2, 4)),
        ((1, 1, 1, 997), (0, 0, 0, 8)),
    ):
        clips.spans = FakeSpans(lengths)
        numbers = in_proportion(clips, 8, 2**40)
        assert len(set(numbers)) == 8
        assert min(numbers) >= 2**40
        taken = [clips.span(number).take for number in numbers]
        assert tuple(taken.count(scene) for scene in range(4)) == expected
        assert numbers == in_proportion(clips, 8, 2**40)
    clips.spans = FakeSpans((30, 30, 30, 31))
    taken = [clips.span(number).take for number in in_proportion(clips, 6, 0)]
    assert sorted(taken.count(scene) for scene in range(4)) == [1, 1, 2, 2], "what rounding leaves over goes somewhere"


def test_a_crop_trains_and_the_whole_frame_is_read(fabric: Fabric) -> None:
    config = make_config(crop=64)
    config = replace(config, model=replace(config.model, height=96, width=96))
    whole: Any = FakeClips(96)
    torch.manual_seed(0)
    stage = FinetuneStage(config, None, None, None, whole, None)
    stage.setup(fabric)
    one_update(stage, [0, 1, 2, 3])
    stage.refresh(stage.averaged)
    assert stage.generator.condition.prior.means.shape == (4, GLOBAL_CODES + LOCAL_CODES * 144)


# What stops it.


def corrupted(render: Callable[..., Tensor], calls: set[int]) -> Callable[..., Tensor]:
    """Return a renderer whose calls of these numbers give NaN."""
    count = 0

    def wrapped(*arguments: Any) -> Tensor:
        nonlocal count
        count += 1
        frame = render(*arguments)
        return frame * torch.nan if count - 1 in calls else frame

    return wrapped


def test_a_frame_that_is_not_a_number_goes_back_to_the_checkpoint_at_half_the_rate(
    fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = make_stage(make_config(), fabric, held=False)
    rates: list[tuple[int, float]] = []
    update = stage.update

    def watched(batch: Any, offsets: list[int], iteration: int) -> dict[str, float]:
        try:
            return update(batch, offsets, iteration)
        finally:
            rates.append((iteration, stage.optimisers["critic"].param_groups[0]["lr"]))

    monkeypatch.setattr(stage, "update", watched)
    # In each of the iterations SEEN frames are rendered: this is one of the fourth's.
    monkeypatch.setattr(stage.generator.step, "render", corrupted(stage.generator.step.render, {3 * SEEN + 1}))
    content = go(stage, fabric, tmp_path)
    assert [iteration for iteration, _ in rates] == [0, 1, 2, 3, 2, 3]
    assert rates[4][1] == pytest.approx(0.5 * rates[2][1])
    assert content["iteration"] == 4
    assert content["extra"]["rate"] == 0.5
    assert all(torch.isfinite(value).all() for _, value in weights_of(content))
    said = capsys.readouterr().out
    assert "DIVERGED: finetune diverged at iteration 3: its loss is nan. Going back to iteration 2" in said


def test_discriminators_learn_on_after_the_generator_has_diverged(
    fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, count = make_stage(make_config(), fabric, held=False), 0
    clip = nn.utils.clip_grad_norm_

    def exploding(*arguments: Any) -> Tensor:
        nonlocal count
        count += 1
        return torch.tensor(1e6) if count == 3 else clip(*arguments)

    monkeypatch.setattr(nn.utils, "clip_grad_norm_", exploding)
    content = go(stage, fabric, tmp_path)
    assert "DIVERGED: finetune diverged at iteration 2" in capsys.readouterr().out
    assert content["iteration"] == 4
    assert count == 5
    steps = content["optimisers"]["critic"]["state"][0]["step"]
    assert int(steps) == 4, "every iteration that counts has taught the discriminators"


def test_the_halving_outlives_a_second_rewind_and_a_new_process(fabric: Fabric) -> None:
    stage = make_stage(make_config(), fabric, held=False)
    content = stage.extra_state()
    for expected in (0.5, 0.25):
        stage.load_extra_state(content)
        stage.slow_down()
        assert stage.rate == expected
    later = make_stage(make_config(), fabric, held=False)
    later.load_extra_state(stage.extra_state())
    assert later.rate == 0.25


def test_without_rewinds_divergence_is_one_sentence(
    fabric: Fabric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage(make_config(rewinds=0), fabric, held=False)
    monkeypatch.setattr(stage.generator.step, "render", corrupted(stage.generator.step.render, {2 * SEEN}))
    with pytest.raises(
        ValueError, match="finetune diverged at iteration 2: its loss is nan; lower the learning"
    ) as one:
        go(stage, fabric, tmp_path)
    stage = make_stage(make_config(), fabric, held=False)
    monkeypatch.setattr(stage.generator.step, "render", corrupted(stage.generator.step.render, {0}))
    with pytest.raises(ValueError, match="at iteration 0: its loss is nan, before the first checkpoint: lower") as two:
        go(stage, fabric, tmp_path / "fresh")
    assert "\n" not in f"{one.value}{two.value}"


def test_a_gradient_that_explodes_is_divergence(fabric: Fabric, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finetune, "MAX_GRADIENT", 1e-9)
    stage = make_stage(make_config(), fabric, held=False)
    before = {key: value.clone() for key, value in stage.generator.state_dict().items()}
    with pytest.raises(DivergenceError, match=r"diverged at iteration 0: .*gradient has the norm \d"):
        one_update(stage, [0, 1, 2, 3])
    assert all(torch.equal(value, before[key]) for key, value in stage.generator.state_dict().items())


class Opinionated(Discriminator):
    """Likes footage that it knows by `known`, made clips by `made`, footage that it does not know by `unknown`."""

    known, made, unknown = 2.0, 0.0, 1.0

    def forward(self, clips: Tensor, gap: int = 1) -> DiscriminatorOutput:
        """Say so whenever it is asked about all three."""
        verdict = super().forward(clips, gap)
        if torch.is_grad_enabled():
            return verdict
        scores = torch.tensor([self.known, self.made, self.unknown]).repeat_interleave(len(clips) // 3)
        return verdict._replace(logits=[scores[:, None].expand_as(part) for part in verdict.logits])


def opinionated(stage: FinetuneStage, known: float, made: float, unknown: float) -> FinetuneStage:
    stage.clip_discriminator.__class__ = Opinionated
    stage.clip_discriminator.known, stage.clip_discriminator.made, stage.clip_discriminator.unknown = (
        known,
        made,
        unknown,
    )  # type: ignore[assignment]
    return stage


def test_overfitting_is_the_train_held_out_gap_over_the_real_fake_gap(fabric: Fabric) -> None:
    stage = make_stage(make_config(gap_every=1), fabric)
    clips = torch.rand(4, SEEN, 3, 64, 64)
    for scores, share in (((2, 0, 2), 0.0), ((2, 0, 1), 0.5), ((2, 0, -1), 1.5), ((2, 0, -9), 2.0), ((2, 2, 2), 0.0)):
        opinionated(stage, *scores).gap = 0.0
        stage._watch(clips, clips, [0, 1, 2, 3], 0, 1, 0)
        assert stage.gap == pytest.approx(0.1 * share, abs=1e-5), scores
        assert stage.stop_reason == ""
    metrics = one_update(opinionated(stage, 2, 0, -9), [0, 1, 2, 3])
    assert metrics["overfitting"] == stage.gap == pytest.approx(0.2)
    unwatched = opinionated(make_stage(make_config(gap_every=1), fabric, held=False), 2, 0, -9)
    one_update(unwatched, [0, 1, 2, 3])
    assert unwatched.gap == 0, "nothing is held out"


def test_discriminators_that_overfit_stop_the_training(
    fabric: Fabric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(gap_every=1, stop_gap=0.3)
    stage = opinionated(make_stage(config, fabric), 2, 0, -9)  # 0.2, then 0.38
    content = go(stage, fabric, tmp_path)
    assert content["iteration"] == 2
    assert content["extra"]["gap"] == pytest.approx(0.38)
    assert (
        "STOPPED at iteration 2: the discriminators overfit: the train/held-out gap is 38% of"
        in capsys.readouterr().out
    )
    again = go(make_stage(config, fabric), fabric, tmp_path)
    said = capsys.readouterr().out
    assert "finetune was stopped at iteration 2: the discriminators overfit" in said
    assert again["iteration"] == 2
    # Who no longer asks for it goes on.
    on = make_config(gap_every=9, stop_gap=0.0)
    assert go(make_stage(on, fabric), fabric, tmp_path)["iteration"] == 4


def test_held_out_figures_are_beside_standing_still(words: WordVectors, checkpoint: Path, fabric: Fabric) -> None:
    stage = make_stage(make_config(text=16), fabric, checkpoint, words)
    figures = stage.held_out_figures(stage.averaged, 8)
    assert set(figures) == {"flow error", "standing still", "sway error", "code PSNR", "overfitting"}
    assert all(torch.isfinite(torch.tensor(value)) for value in figures.values())
    assert figures == stage.held_out_figures(stage.averaged, 8)
    assert 5 < figures["code PSNR"] < 60
    assert make_stage(make_config(), fabric, held=False).held_out_figures(stage.averaged, 8) == {}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_encoder_trains_at_its_share_of_the_rate(share: float, fabric: Fabric) -> None:
    stage = make_stage(make_config(encoder_rate=share), fabric)
    trunk = stage.generator.condition.encoder.trunk
    before = [part.detach().clone() for part in trunk.parameters()]
    head = stage.generator.condition.encoder.to_flow.weight.detach().clone()
    one_update(stage, [0, 1, 2, 3])
    moved = max(float((part.detach() - old).abs().max()) for part, old in zip(trunk.parameters(), before, strict=True))
    rate = stage.optimisers["generator"].param_groups[0]["lr"]
    # A first step of Adam moves what has a gradient by its rate, whatever the gradient.
    assert moved == pytest.approx(share * rate, rel=1e-2, abs=1e-9)
    assert not torch.equal(stage.generator.condition.encoder.to_flow.weight, head)


def test_hints_are_learned_from_and_a_seed_decides_them(fabric: Fabric, tmp_path: Path) -> None:
    config = make_config(hints=True, mixed=0.25, given=0.25)
    whole = go(make_stage(config, fabric), fabric, tmp_path / "whole")
    fresh = VideoGenerator(config.model).condition.encoder.hints
    second = whole["modules"]["generator"]["condition.encoder.hints.second8.weight"]
    assert not torch.equal(second, fresh.second8.weight)
    again = go(make_stage(config, fabric), fabric, tmp_path / "again")
    assert all(torch.equal(value, again["ema"][name]) for name, value in whole["ema"].items())


def test_a_run_from_before_hints_is_resumed(fabric: Fabric, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = make_stage(make_config(), fabric)
    stage.iterations = 2
    content = go(stage, fabric, tmp_path)
    for weights in (content["modules"]["generator"], content["ema"]):
        for name in [name for name in weights if HINTS in name]:
            del weights[name]
    save_checkpoint(tmp_path / "finetune.pt", {key: value for key, value in content.items() if key != "version"})
    before = {name: value["exp_avg_sq"] for name, value in content["optimisers"]["generator"]["state"].items()}
    resumed = make_stage(make_config(hints=True), fabric)
    after = go(resumed, fabric, tmp_path)
    assert capsys.readouterr().out.count("was trained without motion hints") == 1
    assert after["iteration"] == 4
    state = after["optimisers"]["generator"]["state"]
    assert len(state) == len(before) + len(list(resumed.generator.condition.encoder.hints.parameters()))
    shapes = [tuple(value["exp_avg_sq"].shape) for _, value in sorted(state.items())]
    assert shapes == [
        tuple(part.shape) for group in resumed.optimisers["generator"].param_groups for part in group["params"]
    ]
