"""A pipeline without a live input, whose noise moves, against diffusers."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np

from export.diffusers.exporter import seed_noise
from export.diffusers.parity import SEED
from export.diffusers.reference import ReferencePipeline
from runtime import Generator
from tests.export.diffusers.comparison import Exported, worst_db
from tests.export.diffusers.tiny import PROMPT

EVERY = 24  # frames from one noise to the next: 3 s at 8 per second


def test_moving_noise_is_that_of_diffusers(export_tiny: Callable[..., Exported]) -> None:
    exported = export_tiny("turbo", mode="txt2img", fps=Fraction(8))
    reference = ReferencePipeline(exported.job)
    theirs = [reference.frame(PROMPT, _noise(frame, reference.noise_shape), None) for frame in range(50)]
    for precision, least in (("fp32", 50), ("fp16", 30)):
        ours = []
        with Generator.open(exported.bundle, engine="onnxruntime", precision=precision, seed=SEED) as generator:
            generator.condition(text=PROMPT, seed=SEED)
            ours = [next(generator).copy() for _ in range(50)]
        assert worst_db(ours, theirs) >= least
    assert worst_db(ours[:1], ours[-1:]) < 30, "the picture moves"


def _noise(frame: int, shape: tuple[int, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the noise of a frame: on its way from one code to the next, with the variance of each."""
    number, place = divmod(frame, EVERY)
    if number == 0:
        return seed_noise(shape)
    one, other = seed_noise(shape, index=number - 1), seed_noise(shape, index=number)
    share = (place + 1) / EVERY
    mixed = (1 - share) * one + share * other
    correlation = np.clip(np.mean(one * other) / np.sqrt(np.mean(one**2) * np.mean(other**2)), 0, 1)
    variance = (1 - share) ** 2 + share**2 + 2 * share * (1 - share) * correlation
    return np.asarray(mixed / np.sqrt(variance), np.float32)
