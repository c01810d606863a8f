"""The weights of a bundle of schema 1 are read from its graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import numpy_helper

from export.upgrade import read_weights
from runtime.bundle.reader import open_bundle
from training.config import load_config
from training.model.generator import VideoGenerator

ROOT = Path(__file__).parents[2]


def test_every_weight_is_found() -> None:
    bundle = open_bundle(ROOT / "bundles" / "satellite-256")
    config = load_config(ROOT / "training" / "configs" / "satellite-256.toml")
    weights = read_weights(bundle, config)
    generator = VideoGenerator(config.model)
    generator.load_state_dict(weights)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in bundle.step.graph.initializer}
    assert np.array_equal(generator.step.update.weight.detach().numpy(), stored["step.update.weight.half"])
    rates = generator.step.log_rate.exp()
    assert torch.all(rates[1:] > rates[:-1])
    assert 0.01 < rates[0] < rates[-1] < 1
    assert torch.all((generator.step.log_damping.exp() > 0.001) & (generator.step.log_damping.exp() < 0.1))


def test_another_configuration_is_refused() -> None:
    bundle = open_bundle(ROOT / "bundles" / "satellite-256")
    config = load_config(ROOT / "training" / "configs" / "satellite-256.toml", ["model.num_modes=8"])
    with pytest.raises(ValueError, match=r"has not the weights of that configuration: .* expected"):
        read_weights(bundle, config)
