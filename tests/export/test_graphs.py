"""Pixels at the end of the graph: against a library's conversion and against values worked out by hand."""

from __future__ import annotations

import av
import numpy as np
import pytest
import torch

from export.graphs import (
    ConditionGraph,
    StepGraph,
    condition_inputs,
    step_inputs,
    step_outputs,
    to_i420,
    to_rgb,
)
from export.onnx_writer import example_inputs, round_weights
from training.model.generator import CLIP, ConditionMemory, Shape, VideoGenerator


def test_rgb_rounds_to_the_nearest_level_and_clamps() -> None:
    values = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.2, -0.1]).reshape(1, 1, 2, 3).expand(1, 3, 2, 3)
    assert to_rgb(values)[0, :, :, 0].flatten().tolist() == [0, 0, 1, 255, 255, 0]
    assert to_rgb(values).shape == (1, 2, 3, 3)


@pytest.mark.parametrize(
    ("colour", "yuv"),
    [
        # ITU-R BT.709, limited range: black, white, and the primaries to the nearest level.
        ((0.0, 0.0, 0.0), (16, 128, 128)),
        ((1.0, 1.0, 1.0), (235, 128, 128)),
        ((1.0, 0.0, 0.0), (63, 102, 240)),
        ((0.0, 1.0, 0.0), (173, 42, 26)),
        ((0.0, 0.0, 1.0), (32, 240, 118)),
    ],
)
def test_i420_of_plain_colours(colour: tuple[float, ...], yuv: tuple[int, ...]) -> None:
    picture = torch.tensor(colour).reshape(1, 3, 1, 1).expand(1, 3, 8, 10)
    planes = to_i420(picture)[0].numpy()
    assert planes.shape == (12, 10)
    flat = planes.reshape(-1)
    assert set(flat[:80]) == {yuv[0]}
    assert set(flat[80:100]) == {yuv[1]}
    assert set(flat[100:]) == {yuv[2]}


def test_i420_agrees_with_a_library_on_a_smooth_picture() -> None:
    y, x = np.mgrid[0:64, 0:96] / 96.0
    picture = np.stack([x, y, 0.5 + 0.4 * np.sin(6 * x)], axis=-1)
    rgb = (picture * 255 + 0.5).astype(np.uint8)
    ours = to_i420(torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)[None])[0].numpy()
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24")
    theirs = frame.reformat(format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG", dst_color_range="MPEG")
    difference = np.abs(ours.astype(int) - theirs.to_ndarray().astype(int))
    assert difference.mean() < 0.6
    assert difference.max() <= 3


def test_the_step_graph_names_what_it_takes_and_gives() -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(Shape(64, 64, 4)).eval()
    round_weights(generator)
    condition, step = example_inputs(generator)
    assert len(step) == len(step_inputs())
    with torch.no_grad():
        outputs = StepGraph(generator)(*step)
        memory = ConditionGraph(generator)(*condition)
    named = dict(zip(step_outputs(), outputs, strict=True))
    assert named["rgb"].shape == (1, 64, 64, 3)
    assert named["i420"].shape == (1, 96, 64)
    assert torch.equal(named["rgb"], to_rgb(named["picture"]))
    # The image was given whole, so the memory's picture is it.
    assert torch.equal(to_rgb(memory[0]), condition[0])


def test_mix_chooses_the_memory() -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(Shape(64, 64, 4)).eval()
    _, step = example_inputs(generator)
    inputs = dict(zip(step_inputs(), step, strict=True))
    inputs["b_picture"] = 1 - inputs["a_picture"]
    graph = StepGraph(generator)

    def frame(mix: float) -> torch.Tensor:
        return graph(*{**inputs, "mix": torch.tensor([mix])}.values())[0]

    with torch.no_grad():
        swapped = graph(*{**inputs, "a_picture": inputs["b_picture"], "mix": torch.zeros(1)}.values())[0]
        assert torch.allclose(frame(1.0), swapped, atol=1e-5)
        assert not torch.allclose(frame(0.0), swapped, atol=1e-2)
        assert not torch.allclose(frame(0.5), frame(0.0), atol=1e-2)


@pytest.mark.parametrize("text", [0, 8])
def test_the_condition_graph_takes_what_it_names(text: int) -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(Shape(64, 64, 4, text_dimensions=text, encoder_scale=0.25)).eval()
    names = condition_inputs(generator)
    assert names == ["image", "mask", "clip", "given", "noise"] + ["text"] * bool(text)
    condition, _ = example_inputs(generator)
    inputs = dict(zip(names, condition, strict=True))
    assert [tuple(inputs[name].shape) for name in names[:4]] == [
        (1, 64, 64, 3),
        (1, 64, 64, 1),
        (1, 4, 64, 64, 3),
        (1, 1),
    ]
    assert CLIP == 4
    graph = ConditionGraph(generator)
    with torch.no_grad():
        made = ConditionMemory(*graph(*condition))
        # Pixels are turned the right way round: of a clip without an image the last frame is the picture.
        alone = ConditionMemory(*graph(*{**inputs, "mask": 0 * inputs["mask"]}.values()))
        untold = ConditionMemory(*graph(*{**inputs, "given": torch.zeros(1, 1)}.values()))
    assert torch.equal(to_rgb(alone.picture), inputs["clip"][:, -1])
    assert torch.equal(to_rgb(made.picture), inputs["image"])
    assert not torch.allclose(made.features8, untold.features8, atol=1e-4), "the clip is read"
    assert torch.equal(made.picture, untold.picture)


def test_rounding_reaches_weights_and_the_prior() -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(Shape(64, 64, 4, text_dimensions=8, encoder_scale=0.25))
    prior = generator.condition.prior
    for table in (prior.means, prior.spreads, prior.texts):
        table.normal_()
    round_weights(generator)
    for table in (prior.means, prior.spreads, prior.texts, generator.step.update.weight):
        assert torch.equal(table, table.half().float())
