"""The loop around a stage: rewinds, stops, what is kept; with a stage that takes no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn

from tests.training.events import points_of, read_events
from tests.training.fake_clips import FakeClips
from training.checkpoint import load_checkpoint
from training.config import Config, RunConfig
from training.data.footage import Batch
from training.loop import train
from training.stages.losses import DivergenceError


class Toy:
    """A weight that takes random steps, and does on the way what a test tells it."""

    name = "toy"
    batch = 2
    is_shown = False

    def __init__(self, iterations: int = 8, rewinds: int = 3) -> None:
        torch.manual_seed(0)
        self.iterations, self.rewinds = iterations, rewinds
        self.net = nn.Linear(1, 1, bias=False)
        self.net.register_buffer("read", torch.zeros(()))  # what `refresh` reads from the footage
        self.modules: dict[str, nn.Module] = {"net": self.net}
        self.averaged: nn.Module = nn.ModuleDict({"generator": self.net})
        self.optimisers: dict[str, torch.optim.Optimizer] = {"all": torch.optim.SGD(self.net.parameters(), 0.1)}
        self.stop_reason, self.rate = "", 1.0
        self.fails: dict[int, int] = {}  # iteration: how often it diverges there
        self.stops: dict[int, str] = {}
        self.infinite: set[int] = set()  # iterations whose metric is infinite, once
        self.seen: list[tuple[int, float, float]] = []  # iteration, rate, weight before
        self.refreshed = 0

    def setup(self, fabric: Fabric) -> None:
        self.fabric = fabric

    def check(self, path: Path, content: dict[str, Any]) -> None:
        assert content["stage"] == "toy"

    def prepare(self, clips: FakeClips) -> None:
        pass

    def offsets(self, step: int) -> list[int]:
        return [0]

    def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
        self.seen.append((iteration, self.rate, self.weight()))
        if self.fails.get(iteration, 0):
            self.fails[iteration] -= 1
            raise DivergenceError(f"toy diverged at iteration {iteration}")
        with torch.no_grad():
            self.net.weight += self.rate * torch.rand(())
        self.stop_reason = self.stops.get(iteration, self.stop_reason)
        loss = float("inf") if iteration in self.infinite else 1.0
        self.infinite.discard(iteration)
        return {"loss": loss}

    def refresh(self, averaged: nn.Module) -> None:
        self.refreshed += 1
        averaged["generator"].read.fill_(self.refreshed)  # type: ignore[index]

    def extra_state(self) -> dict[str, Any]:
        return {"rate": self.rate, "stop_reason": self.stop_reason}

    def load_extra_state(self, content: dict[str, Any]) -> None:
        self.rate, self.stop_reason = min(self.rate, content["rate"]), content["stop_reason"]

    def slow_down(self) -> None:
        self.rate *= 0.5

    def weight(self) -> float:
        return float(self.net.weight.detach())


@pytest.fixture(scope="module")
def fabric() -> Fabric:
    return Fabric(accelerator="cpu", devices=1)


def go(stage: Toy, fabric: Fabric, out: Path, **changes: int) -> None:
    config = Config(run=RunConfig(log_every=1, checkpoint_every=2, **changes))
    clips: Any = FakeClips(32)
    train(stage, config, fabric, clips, clips, out, {"data": "", "words": "", "footage": []}, {"name": "toy"})


def iterations(stage: Toy) -> list[int]:
    return [iteration for iteration, _, _ in stage.seen]


def logged(out: Path) -> list[int]:
    return [json.loads(line)["iteration"] for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.usefixtures("ticking")
def test_divergence_goes_back_to_the_last_checkpoint_loudly_and_goes_on_slower(
    fabric: Fabric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Toy()
    stage.fails = {5: 1}
    go(stage, fabric, tmp_path)
    assert iterations(stage) == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]
    assert [rate for _, rate, _ in stage.seen] == [1.0] * 6 + [0.5] * 4
    weights = [weight for _, _, weight in stage.seen]
    assert weights[6] == weights[4], "it starts again from the weights of the checkpoint"
    assert weights[7] - weights[6] == pytest.approx(0.5 * (weights[5] - weights[4]), rel=1e-4)
    said = capsys.readouterr().out
    assert "DIVERGED: toy diverged at iteration 5. Going back to iteration 4 with half the learning rate" in said
    assert "2 rewinds are left" in said
    assert logged(tmp_path) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert list(points_of(read_events(tmp_path, "toy"), "loss")) == [1, 2, 3, 4, 5, 6, 7, 8]
    content = load_checkpoint(tmp_path / "toy.pt")
    assert (content["iteration"], content["extra"]["rate"]) == (8, 0.5)


def test_every_rewind_halves_the_rate_once_more(fabric: Fabric, tmp_path: Path) -> None:
    stage = Toy()
    stage.fails = {4: 2, 7: 1}
    go(stage, fabric, tmp_path)
    assert iterations(stage) == [0, 1, 2, 3, 4, 4, 4, 5, 6, 7, 6, 7]
    assert [rate for _, rate, _ in stage.seen] == [1.0] * 5 + [0.5] + [0.25] * 4 + [0.125] * 2


def test_a_metric_that_is_not_finite_is_divergence(fabric: Fabric, tmp_path: Path) -> None:
    stage = Toy()
    stage.infinite = {5}
    go(stage, fabric, tmp_path)
    assert iterations(stage) == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]
    assert logged(tmp_path) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_metrics_are_on_the_disk_as_soon_as_they_are_known(fabric: Fabric, tmp_path: Path) -> None:
    class Watching(Toy):
        def update(self, batch: Batch, offsets: list[int], iteration: int) -> dict[str, float]:
            found.append(logged(tmp_path))  # what a process that is killed now leaves behind
            return super().update(batch, offsets, iteration)

    found: list[list[int]] = []
    config = Config(run=RunConfig(log_every=3))
    clips: Any = FakeClips(32)
    train(Watching(), config, fabric, clips, clips, tmp_path, {"data": "", "words": "", "footage": []}, {})
    assert found == [[], [1], [1], [1, 3], [1, 3], [1, 3], [1, 3, 6], [1, 3, 6]]


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    fabric: Fabric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go(Toy(), fabric, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "toy 0/8"
    assert lines[1].startswith("toy 1/8, ")
    assert lines[1].endswith(" left")
    assert lines[-1].startswith("toy 8/8, ")


def test_half_a_line_of_metrics_is_dropped(fabric: Fabric, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"stage": "pretrain", "iteration": 4}\n{"stage": "pretr')
    go(Toy(iterations=2), fabric, tmp_path)
    assert logged(tmp_path) == [4, 1, 2]


def test_averaged_weights_alone_are_not_trained_on(fabric: Fabric, tmp_path: Path) -> None:
    go(Toy(iterations=3), fabric, tmp_path, keep_every=3)
    (tmp_path / "kept/toy-000003/toy.pt").replace(tmp_path / "toy.pt")
    with pytest.raises(ValueError, match=r"toy\.pt holds averaged weights alone .* name another --out"):
        go(Toy(), fabric, tmp_path)


def test_divergence_before_the_first_checkpoint_is_one_sentence(fabric: Fabric, tmp_path: Path) -> None:
    stage = Toy()
    stage.fails = {1: 1}
    with pytest.raises(ValueError, match="toy diverged at iteration 1, before the first checkpoint: lower") as caught:
        go(stage, fabric, tmp_path)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, DivergenceError)
    assert not (tmp_path / "toy.pt").exists()


def test_divergence_that_comes_again_and_again_is_one_sentence(fabric: Fabric, tmp_path: Path) -> None:
    stage = Toy(rewinds=2)
    stage.fails = {5: 9}
    with pytest.raises(ValueError, match="toy diverged at iteration 5; lower the learning rate and resume") as caught:
        go(stage, fabric, tmp_path)
    assert "\n" not in str(caught.value)
    assert iterations(stage) == [0, 1, 2, 3, 4, 5, 4, 5, 4, 5]
    assert load_checkpoint(tmp_path / "toy.pt")["iteration"] == 4, "the last good one is still there"


def test_a_stage_that_says_stop_is_saved_and_stays_stopped(
    fabric: Fabric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Toy()
    stage.stops = {4: "it knows it all"}
    shown: list[int] = []
    config = Config(run=RunConfig(log_every=1, checkpoint_every=2, evaluate_every=100))
    clips: Any = FakeClips(32)
    facts = {"data": "", "words": "", "footage": []}
    train(stage, config, fabric, clips, clips, tmp_path, facts, {}, lambda _, done, board: shown.append(done))
    assert iterations(stage) == [0, 1, 2, 3, 4]
    assert shown == [5], "the last state is measured"
    assert "STOPPED at iteration 5: it knows it all" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "toy.pt")["iteration"] == 5
    again = Toy()
    go(again, fabric, tmp_path)
    assert again.seen == []
    assert "toy was stopped at iteration 5: it knows it all" in capsys.readouterr().out
    assert again.weight() == stage.weight()


def test_averaged_weights_are_kept_as_often_as_asked(fabric: Fabric, tmp_path: Path) -> None:
    stage = Toy()
    go(stage, fabric, tmp_path, keep_every=3)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["toy-000003", "toy-000006"]
    content = load_checkpoint(tmp_path / "kept/toy-000006/toy.pt")
    assert not {"modules", "optimisers", "extra"} & set(content), "nothing but what can be shown"
    assert (content["stage"], content["iteration"]) == ("toy", 6)
    assert content["ema"]["generator.weight"] != stage.weight()
    assert load_checkpoint(tmp_path / "toy.pt")["iteration"] == 8
    go(Toy(), fabric, tmp_path / "none")
    assert not (tmp_path / "none/kept").exists()


def test_what_is_read_from_the_footage_is_read_before_it_is_saved(fabric: Fabric, tmp_path: Path) -> None:
    stage = Toy(iterations=3)
    go(stage, fabric, tmp_path)
    content = load_checkpoint(tmp_path / "toy.pt")  # at 2, and at the end
    assert stage.refreshed == 2
    assert content["ema"]["generator.read"] == 2
    assert content["modules"]["net"]["read"] == 0, "the module that trains has no use for it"


@pytest.mark.usefixtures("ticking")
def test_a_resumed_run_draws_what_a_straight_one_draws(fabric: Fabric, tmp_path: Path) -> None:
    straight, first, second = Toy(8), Toy(8), Toy(8)
    go(straight, fabric, tmp_path / "straight")
    first.fails = {5: 1}
    first.rewinds = 0
    with pytest.raises(ValueError, match="lower the learning rate and resume"):
        go(first, fabric, tmp_path / "cut")
    go(second, fabric, tmp_path / "cut")
    assert iterations(second) == [4, 5, 6, 7]
    assert list(points_of(read_events(tmp_path / "cut", "toy"), "loss")) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert second.weight() == straight.weight()
    averages = [load_checkpoint(tmp_path / name / "toy.pt")["ema"] for name in ("straight", "cut")]
    assert torch.equal(averages[0]["generator.weight"], averages[1]["generator.weight"])
    assert isinstance(averages[0]["generator.weight"], Tensor)
