"""The probe: linear classifiers on frozen features, and the table that shows the figures."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.training.tasks.test_task import make_config, moving_shapes
from training.data.footage import Batch
from training.model.trunk import Trunk, previous_rows
from training.tasks.probe import fit_linear, load_pretrainer, pooled_features, probe_classes, table_of
from training.tasks.task import Clips, TaskMeasure


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def test_a_linear_classifier_separates_what_can_be_separated() -> None:
    torch.manual_seed(0)
    centres = torch.tensor([[5.0, 0, 0], [0, 5.0, 0], [0, 0, 5.0]])
    truth = torch.arange(90) % 3
    features = centres[truth] + torch.randn(90, 3)
    features[:, 1] *= 1000  # scales do not matter
    features = torch.cat([features, torch.full((90, 1), 7.0)], dim=1)  # nor does what never changes
    classify = fit_linear(features[:60], truth[:60], 3)
    assert (classify(features[60:]).argmax(dim=1) == truth[60:]).float().mean() > 0.95
    assert classify(features).shape == (90, 3)
    with torch.no_grad():  # as the probe calls it
        again = fit_linear(features[:60], truth[:60], 3)
    assert torch.allclose(again(features), classify(features), atol=1e-4)
    noise = fit_linear(torch.randn(60, 3), truth[:60], 3)
    assert (noise(torch.randn(600, 3)).argmax(dim=1) == torch.arange(600) % 3).float().mean() < 0.5


def test_pooled_features_are_means_over_frames_and_places() -> None:
    torch.manual_seed(0)
    trunk = Trunk(0.25).eval().requires_grad_(False)
    clips = moving_shapes(3)
    features = pooled_features(trunk, [clips, clips])
    assert features.shape == (6, sum(trunk.channels[1:]))
    assert torch.equal(features[:3], features[3:])
    levels = trunk(clips.frames[1], previous_rows(1, 4))
    expected = torch.cat([level.mean(dim=(0, 2, 3)) for level in levels[1:]])
    assert torch.allclose(features[1], expected, atol=1e-5)


class _Sampler:
    """Clips whose class is their colour: what a `ClipSampler` gives."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels, self.num_scenes = labels, 4
        self.scenes = ["a", "b", "c", "d"]

    def draw(self, iteration: int, batch: int, offsets: list[int]) -> Batch:
        labels = [self.labels[index % len(self.labels)] for index in range(batch)]
        frames = torch.randint(
            0, 60, (batch, len(offsets), 3, 64, 64), generator=torch.Generator().manual_seed(iteration)
        )
        for row, label in enumerate(labels):
            frames[row, :, {"red": 0, "green": 1}.get(label, 2)] += 150
        values = {
            "frames": frames.byte(), "flow": torch.zeros(batch, 2, 16, 16), "captions": labels, "scenes": labels,
            "labels": labels, "names": labels, "sway": torch.zeros(batch, 1, 16, 16),
        }  # fmt: skip
        return Batch(**{name: values[name] for name in Batch._fields})


def test_classes_are_probed_beside_encoders_never_trained() -> None:
    torch.manual_seed(0)
    trunk, config = Trunk(0.25).eval().requires_grad_(False), make_config()
    samplers = {"train": _Sampler(("red", "green", "blue", "")), "heldout": _Sampler(("red", "red", "green", "never"))}
    (measure,) = probe_classes(trunk, samplers, config)  # type: ignore[arg-type]
    assert measure.name == "linear probe, 2 classes"
    assert measure.value == 1
    assert measure.chance == pytest.approx(1 / 3)  # all are "green", the commonest (and first) of the training clips
    assert 0 <= measure.baseline <= 1
    for labels in (("",), ("red",)):
        few = {"train": _Sampler(labels), "heldout": _Sampler(("red", "green"))}
        assert probe_classes(trunk, few, config) == []  # type: ignore[arg-type]


def test_the_table_shows_every_figure_with_its_unit() -> None:
    table = table_of([
        TaskMeasure("position", "track error", 1.25, "lower", 30.5, 2.75, "template matching", "px"),
        TaskMeasure("order", "order accuracy", 0.5, "higher", 0.083),
    ])  # fmt: skip
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table)
    text = console.export_text()
    for part in ("1.250 px", "30.500 px", "2.750 px (template matching)", "lower is better", "0.083", "0.500"):
        assert part in text
    assert "None" not in text


def test_a_folder_without_a_pretraining_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no .*pretrain\.pt: run `python -m training pretrain CONFIG"):
        load_pretrainer(tmp_path, None)


def test_clips_of_a_batch_keep_their_labels() -> None:
    assert Clips.of(_Sampler(("red",)).draw(0, 2, [0, 1]), [0, 1]).labels == ["red", "red"]
