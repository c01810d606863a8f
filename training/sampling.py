"""Samples of a generator: a contact sheet (PNG) and a clip (MP4).

Legend: B batch, T frames, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from torch import Tensor

from training.atomic_file import written
from training.config import Config
from training.data.footage import ClipSampler
from training.model.generator import CLIP, VideoGenerator
from training.model.painter import num_code_noise

SHEET_FRAMES = (1, 6, 12, 24, 48, 96, 192, 300)


@torch.no_grad()
def rollout(
    generator: VideoGenerator,
    image: Tensor,
    mask: Tensor,
    noise: Tensor,
    wanted: Sequence[int],
    seed: int = 0,
    text: Tensor | None = None,
) -> dict[int, Tensor]:
    """Run the generator and return the frames asked for.

    Args:
        generator: in evaluation mode.
        image: (B, 3, H, W) in [0, 1].
        mask: (B, 1, H, W), 1 where the image is given.
        noise: (B, N) standard normal, for the content codes.
        wanted: 1-based frame numbers; frame 0 is the anchor itself.
        seed: of the per-frame noise.
        text: (B, D) unit vectors or zeros, for a generator that takes text; None for no text.

    Returns:
        frame number -> (B, 3, H, W) in [0, 1].
    """
    device = image.device
    random = torch.Generator().manual_seed(seed)
    if text is None and generator.shape.text_dimensions:
        text = torch.zeros(len(image), generator.shape.text_dimensions, device=device)
    no_clip = torch.zeros(len(image), CLIP, *image.shape[1:], device=device)
    memory = generator.condition(image, mask, no_clip, torch.zeros(len(image), 1, device=device), noise, text)
    state = generator.step.initial_state(len(image), device)
    control = generator.step.paced(torch.tensor([[1.0, 0.0, 0.0]], device=device).expand(len(image), -1))
    frames = {0: memory.picture} if 0 in wanted else {}
    for number in range(1, max(wanted) + 1):
        kick = torch.randn(len(image), generator.shape.num_noise, generator=random).to(device)
        state = generator.step.advance(memory, state, kick, control)
        if number in wanted:
            frames[number] = generator.step.render(memory, state, control)
    return {number: frame.cpu() for number, frame in frames.items()}


def write_samples(generator: VideoGenerator, clips: ClipSampler, config: Config, path: Path) -> None:
    """Write PATH.png (five clips from held-out pictures and five from noise alone, over time) and PATH.mp4.

    Frames have the full size, even if the generator is trained on crops. The first three columns of the upper rows are
    real (frames 0, horizon / 2, horizon); the others are generated from frame 0.
    """
    device = next(generator.parameters()).device
    whole = VideoGenerator(config.model).to(device).eval()
    whole.load_state_dict(generator.state_dict())
    generator = whole
    clips = ClipSampler(clips.spans, config.footage, config.model.height, config.model.width, clips.seed)
    horizon = config.footage.horizon_frames
    real = clips.draw(2**20, 5, [0, horizon // 2, horizon]).frames.float() / 255.0
    first = real[:, 0]
    count = len(first)
    image = torch.cat([first, torch.zeros_like(first)])
    mask = torch.cat([torch.ones(count, 1, *first.shape[2:]), torch.zeros(count, 1, *first.shape[2:])])
    size = num_code_noise(config.model.height, config.model.width)
    noise = torch.randn(2 * count, size, generator=torch.Generator().manual_seed(1))
    frames = rollout(
        generator, image.to(device), mask.to(device), noise.to(device), list(range(97)) + list(SHEET_FRAMES)
    )
    rows = []
    for index in range(2 * count):
        made = [frames[number][index] for number in SHEET_FRAMES]
        left = list(real[index]) if index < count else [frames[0][index]] * 3
        rows.append(torch.cat([*left, *made], dim=2))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_png(path.with_suffix(".png"), to_pixels(torch.cat(rows, dim=1)))
    grid = [_tile(frames[number], 5) for number in range(1, 97)]
    write_mp4(path.with_suffix(".mp4"), grid, Fraction(config.footage.fps).limit_denominator(1001))


def to_pixels(picture: Tensor) -> np.ndarray:
    """Convert (3, H, W) in [0, 1] to uint8 (H, W, 3)."""
    return (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _tile(pictures: Tensor, columns: int) -> np.ndarray:
    rows = [torch.cat(list(pictures[start : start + columns]), dim=2) for start in range(0, len(pictures), columns)]
    return to_pixels(torch.cat(rows, dim=1))


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write uint8 RGB (H, W, 3) atomically."""
    with written(path) as partial:
        partial.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())


def write_mp4(path: Path, frames: Sequence[np.ndarray], fps: Fraction) -> None:
    """Write uint8 RGB frames (H, W, 3) of even size as H.264, atomically."""
    with written(path) as partial, av.open(str(partial), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
