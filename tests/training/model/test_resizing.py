"""A trained generator at another work size: the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from training.model.generator import Shape, VideoGenerator, phase_field
from training.model.layers import pixel_grid
from training.model.resizing import at_work_size

SHAPE = Shape(96, 96, 4, 16, text_dimensions=8, components=4, encoder_scale=0.25)


@pytest.mark.parametrize("size", [(128, 96), (64, 64), (64, 160)])
def test_weights_stay_and_what_is_in_pixels_is_built_for_the_size(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    generator = VideoGenerator(SHAPE).eval()
    width, height = size
    made = at_work_size(generator, size)
    assert generator.shape == SHAPE, "the trained one is left alone"
    assert made.shape == replace(SHAPE, width=width, height=height)
    assert not made.training
    kept, state = generator.state_dict(), made.state_dict()
    assert list(kept) == list(state)
    assert all(torch.equal(kept[key], state[key]) for key in kept)
    assert made.condition.painter is generator.condition.painter
    assert torch.equal(made.step.phases, phase_field(height // 4, width // 4))
    grid = pixel_grid(height // 4, width // 4)
    assert torch.equal(made.step.warp4.columns.expand(1, height // 4, -1), grid[..., 0])
    assert torch.equal(made.step.warp4.rows.expand(1, -1, width // 4), grid[..., 1])
    assert made.step.warp4.scale.flatten().tolist() == pytest.approx([2 / width, 2 / height])
    assert made.condition.encoder.observed.height == height


@pytest.mark.parametrize("size", [(100, 128), (128, 90), (32, 128)])
def test_a_size_that_does_not_fit_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"frame size is {size[0]}x{size[1]}, expected multiples of 32"):
        at_work_size(VideoGenerator(SHAPE), size)
