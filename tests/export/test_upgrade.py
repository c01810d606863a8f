"""The weights of a bundle of schema 1 are read from its graphs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.upgrade import read_weights
from training.config import Config
from training.model.generator import Shape, VideoGenerator

CONFIG = Config(model=Shape(64, 64, 4, encoder_scale=0.25))


@pytest.fixture
def generator() -> VideoGenerator:
    torch.manual_seed(0)
    return VideoGenerator(CONFIG.model)


def graphs_of(generator: VideoGenerator) -> SimpleNamespace:
    """Return what is read of a bundle: graphs that store large weights in FP16, and what the exporter has computed."""
    models = {}
    for part in ("condition", "step"):
        stored = []
        for name, value in getattr(generator, part).state_dict().items():
            array = value.numpy()
            if name == "log_rate":
                stored.append(numpy_helper.from_array(np.exp(array)[None], "unsqueeze"))
            elif name == "log_damping":
                stored.append(numpy_helper.from_array(-np.exp(array), "neg"))
            elif array.size >= 256:
                stored.append(numpy_helper.from_array(array.astype(np.float16), f"{part}.{name}.half"))
            else:
                stored.append(numpy_helper.from_array(array, f"{part}.{name}"))
        stored.append(
            helper.make_tensor(f"{part}.another.weight", TensorProto.FLOAT, [1], [7.0])
        )  # of a layer that left
        models[part] = helper.make_model(helper.make_graph([], part, [], [], stored))
    return SimpleNamespace(path=Path("bundles/old"), **models)


def test_every_weight_is_found(generator: VideoGenerator) -> None:
    weights = read_weights(graphs_of(generator), CONFIG)  # type: ignore[arg-type]
    wanted = generator.state_dict()
    assert set(weights) == set(wanted)
    for name, value in wanted.items():
        torch.testing.assert_close(weights[name], value, atol=2e-3, rtol=1e-3, msg=name)


def test_another_configuration_is_refused(generator: VideoGenerator) -> None:
    other = Config(model=Shape(64, 64, 8, encoder_scale=0.25))
    with pytest.raises(ValueError, match=r"bundles/old has not the weights of that configuration: .* expected"):
        read_weights(graphs_of(generator), other)  # type: ignore[arg-type]
