"""A trained generator at another work size, with the same weights.

What is learned are convolutions, and they work on any size. Sampling grids, the clocks' phases and the observed flow
are built anew; displacements stay in pixels of the work size. The mixture of content codes and the painter keep the
trained size: their codes and noise were optimised together, cell by cell, and do not survive being moved.
"""

from __future__ import annotations

import dataclasses

from training.model.generator import VideoGenerator


def at_work_size(generator: VideoGenerator, size: tuple[int, int]) -> VideoGenerator:
    """Return a generator whose encoder and step work at another size; its painter keeps the trained size.

    Args:
        generator: for whole frames; left as it is. The result shares its mixture and painter.
        size: width and height in pixels.

    Raises:
        ValueError: they are not multiples of 32 from 64 up.
    """
    width, height = size
    made = VideoGenerator(dataclasses.replace(generator.shape, height=height, width=width))
    made.condition.prior, made.condition.painter = generator.condition.prior, generator.condition.painter
    made.enlarger = generator.enlarger
    made.load_state_dict(generator.state_dict())
    return made.to(next(generator.parameters()).device).train(generator.training)
