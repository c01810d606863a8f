"""The graphs that are exported: what they take and give."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from export.graphs import CONDITION_INPUTS, STEP_INPUTS, STEP_OUTPUTS, ConditionGraph, PaintGraph, StepGraph
from export.onnx_writer import round_weights
from export.parity.reference import displaced
from tests import moving
from training.model.enlarger import Enlarger
from training.model.generator import CLIP, MotionMemory, Shape, VideoGenerator


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    torch.manual_seed(0)
    made = VideoGenerator(Shape(64, 96, 4, text_dimensions=8, encoder_scale=0.25)).eval().requires_grad_(False)
    made.step.to_displacement.weight.mul_(10)
    made.condition.prior.means.normal_()
    made.condition.painter.to_rgb.weight.mul_(10)
    round_weights(made)
    return made


def memory_of(generator: VideoGenerator, **changes: torch.Tensor) -> MotionMemory:
    graph = ConditionGraph(generator)
    inputs = dict(zip(CONDITION_INPUTS, graph.example_inputs(), strict=True))
    return graph(*{**inputs, **changes}.values())


def test_the_step_graph_names_what_it_takes_and_gives(generator: VideoGenerator) -> None:
    graph = StepGraph(generator)
    inputs = graph.example_inputs(memory_of(generator))
    assert len(inputs) == len(STEP_INPUTS)
    outputs = dict(zip(STEP_OUTPUTS, graph(*inputs), strict=True))
    assert outputs["moves"].shape == (1, 5, 16, 24)
    assert 0 <= outputs["moves"][:, 4].min() <= outputs["moves"][:, 4].max() <= 1
    for before, after in zip(("oscillators", "clock", "hidden"), STEP_OUTPUTS[1:], strict=True):
        assert outputs[after].shape == inputs[STEP_INPUTS.index(before)].shape


def test_mix_chooses_the_memory(generator: VideoGenerator) -> None:
    graph = StepGraph(generator)
    one = memory_of(generator)
    other = memory_of(generator, image=255 - ConditionGraph(generator).example_inputs()[0])
    inputs = dict(zip(STEP_INPUTS, graph.example_inputs(one), strict=True))
    inputs |= {f"b_{slot}": part for slot, part in zip(MotionMemory._fields, other, strict=True)}
    alone = graph(*graph.example_inputs(other))[0]

    def moves(mix: float) -> torch.Tensor:
        return graph(*{**inputs, "mix": torch.tensor([mix])}.values())[0]

    assert torch.allclose(moves(1.0), alone, atol=1e-5)
    assert not torch.allclose(moves(0.0), alone, atol=1e-3)
    assert not torch.allclose(moves(0.5), moves(0.0), atol=1e-4)


def test_the_condition_graph_reads_picture_clip_and_mask(generator: VideoGenerator) -> None:
    assert CLIP == 4
    made, untold = memory_of(generator), memory_of(generator, given=torch.zeros(1, 1))
    assert not torch.allclose(made.features8, untold.features8, atol=1e-4), "the clip is read"
    half = torch.full((1, 64, 96, 1), 255, dtype=torch.uint8)
    half[:, :, :48] = 0
    masked = memory_of(generator, moving=half)
    assert torch.equal(masked.flow[:, 2, :, 12:], made.flow[:, 2, :, 12:])
    assert masked.flow[:, 2, :, :12].abs().max() == 0
    assert torch.equal(masked.flow[:, :2], made.flow[:, :2])


def test_what_must_not_move_stands_still(generator: VideoGenerator) -> None:
    half = torch.full((1, 64, 96, 1), 255, dtype=torch.uint8)
    half[:, :, :48] = 0
    graph = StepGraph(generator)
    inputs = list(graph.example_inputs(memory_of(generator, moving=half)))
    for _ in range(5):
        moves, *states = graph(*inputs)
        inputs[7:10] = states
    assert moves[:, :4, :, :12].abs().max() == 0
    assert moves[:, :4, :, 12:].abs().max() > 0.01


def test_a_painted_picture_is_that_of_its_noise_and_text(generator: VideoGenerator) -> None:
    graph = PaintGraph(generator)
    noise, text = graph.example_inputs(8)
    picture = graph(noise, text)
    assert (picture.shape, picture.dtype) == ((1, 64, 96, 3), torch.uint8)
    assert not torch.equal(graph(-noise, text), picture)
    assert len(graph.example_inputs(0)) == 1


def test_what_the_painter_sees_of_nothing_is_constant(generator: VideoGenerator) -> None:
    """The exported graph has these constants instead of the layers that compute them."""
    graph = PaintGraph(generator)
    noise, text = graph.example_inputs(8)
    condition = generator.condition
    nothing = torch.zeros(1, 3, 64, 96)
    whole = condition.painter(nothing, nothing[:, :1], condition.prior(noise, text), text)
    picture = graph(noise, text).permute(0, 3, 1, 2) / 255.0
    assert generator.shape.painted_sharpness == 1
    assert (picture - whole).abs().max() < 0.003


def test_an_enlarger_enlarges_what_is_painted(generator: VideoGenerator) -> None:
    small = PaintGraph(generator)
    inputs = small.example_inputs(8)
    generator.enlarger = Enlarger(4, 1).eval().requires_grad_(False)
    try:
        large = PaintGraph(generator)(*inputs)
    finally:
        generator.enlarger = None
    assert large.shape == (1, 256, 384, 3)
    blocks = large.float().unflatten(1, (64, 4)).unflatten(3, (96, 4)).mean(dim=(2, 4))
    assert (blocks - small(*inputs).float()).abs().mean() < 6


def test_the_reference_moves_whole_pixels_exactly() -> None:
    picture = moving.picture_of(64, 32)
    moves = torch.zeros(1, 5, 8, 16)
    moves[:, 0], moves[:, 1], moves[:, 4] = 3, -2, 1
    frame = displaced(picture, moves, (64, 32))
    assert np.array_equal(frame[4:-4, 4:-4], np.roll(picture, (-2, 3), axis=(0, 1))[4:-4, 4:-4])
    assert np.array_equal(displaced(picture, torch.zeros(1, 5, 8, 16), (64, 32)), picture)


def test_rounding_reaches_weights_and_the_prior() -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(Shape(64, 64, 4, text_dimensions=8, encoder_scale=0.25))
    prior = generator.condition.prior
    for table in (prior.means, prior.spreads, prior.texts):
        table.normal_()
    round_weights(generator)
    for table in (prior.means, prior.spreads, prior.texts, generator.step.update.weight):
        assert torch.equal(table, table.half().float())
