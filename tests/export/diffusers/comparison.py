"""Makes the same frames with a bundle and with diffusers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from export.diffusers.exporter import seed_noise
from export.diffusers.job import PipelineJob
from export.diffusers.parity import SEED
from export.diffusers.reference import ReferencePipeline
from runtime import Generator
from runtime.golden import psnr_db
from tests.export.diffusers.tiny import PROMPT, SIZE

Pixels = npt.NDArray[np.uint8]


class Exported(NamedTuple):
    """A bundle, the pipeline that it was made of, and the job."""

    bundle: Path
    pipeline: Path
    job: PipelineJob


def live_frames(count: int) -> Pixels:
    """Return live pictures that differ clearly, uint8 (count, SIZE, SIZE, 3): blocks of random colours."""
    blocks = np.random.default_rng(3).integers(0, 256, (count, SIZE // 16, SIZE // 16, 3), np.uint8)
    return blocks.repeat(16, axis=1).repeat(16, axis=2)


def reference_of(
    exported: Exported, live: Pixels | None, reference: ReferencePipeline | None = None, **job: Any
) -> list[Pixels]:
    """Return a frame of diffusers for each live frame, or one; `job` replaces fields of the job."""
    changed = dataclasses.replace(exported.job, **job)
    reference = reference or ReferencePipeline(changed)
    noise = seed_noise(reference.noise_shape)
    pictures = [None] if live is None else list(live)
    return [reference.frame(PROMPT, noise, picture, changed.strength) for picture in pictures]


def bundle_frames(
    bundle: Path, count: int, live: Pixels | None, *, precision: str = "fp32", **controls: float
) -> list[Pixels]:
    """Return frames of a bundle in ONNX Runtime with the noise of `SEED`."""
    frames = []
    with Generator.open(bundle, engine="onnxruntime", precision=precision, renewal=False, seed=SEED) as generator:
        generator.condition(text=PROMPT, seed=SEED)
        for name, value in controls.items():
            generator.set_control(name, value)
        for number in range(count):
            if live is not None:
                generator.feed_live(live[number])
            frames.append(next(generator).copy())
    return frames


def worst_db(ours: list[Pixels], theirs: list[Pixels]) -> float:
    """Return the PSNR of the worst pair of frames; 99 for identical ones."""
    return min(min(psnr_db(one, other), 99.0) for one, other in zip(ours, theirs, strict=True))
