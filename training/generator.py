"""The generator: a picture is made rarely (`Condition`), its motion every frame (`Step`).

Legend: B batch, C channels, H height, W width, K oscillator modes. Displacements are in pixels of the full frame.
A frame is displaced from the anchor, never from the frame before it, so errors cannot pile up: the form of Generative
Image Dynamics (arXiv 2309.07906, modes) and of Eulerian motion fields (arXiv 2011.15128, two-phase transport).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.layers import FiLMBlock, Warp, conv, repeat_subpixels, resize, upsample
from training.painter import ContentPrior, Painter
from training.trunk import Trunk

STYLE = 64


class Memory(NamedTuple):
    """What `Condition` hands to `Step`; the field names are the slots of the bundle."""

    picture: Tensor  # (B, 3, H, W) RGB in [0, 1]
    features4: Tensor  # (B, 32, H/4, W/4)
    features8: Tensor  # (B, 64, H/8, W/8)
    style: Tensor  # (B, STYLE)
    modes: Tensor  # (B, 4K, H/8, W/8): real and imaginary part, x and y, of each oscillator mode, pixels
    flow: Tensor  # (B, 3, H/4, W/4): steady flow x, y in pixels per frame, and how free to move, in [0, 1]


class State(NamedTuple):
    """What `Step` carries from frame to frame; zeros at the start."""

    oscillators: Tensor  # (B, 2K) FP32, real parts then imaginary parts
    clock: Tensor  # (B, 1) FP32 in [0, 1): the transport's phase
    hidden: Tensor  # (B, 32, H/8, W/8) in [-1, 1]


@dataclass(frozen=True)
class Shape:
    """Everything about the generator that is not a weight."""

    height: int = 128
    width: int = 128
    num_modes: int = 16
    period_frames: int = 24  # one phase of the transport lives this long
    encoder_scale: float = 1.0  # factor on the encoder's channels
    encoder_depth: int = 1  # residual blocks at each of its four levels

    def __post_init__(self) -> None:
        if self.height % 32 or self.width % 32 or min(self.height, self.width) < 64:
            raise ValueError(
                f"frame size is {self.width}x{self.height}, expected multiples of 32 from 64 up: change height or width"
            )

        if not 0.25 <= self.encoder_scale <= 32 or not 1 <= self.encoder_depth <= 32:
            raise ValueError(
                f"encoder_scale is {self.encoder_scale} and encoder_depth {self.encoder_depth}, "
                "expected 0.25 to 32 and 1 to 32"
            )

    @property
    def num_noise(self) -> int:
        """Return how many normal values one frame draws: two per oscillator and 16 for the hidden state."""
        return 2 * self.num_modes + 16


class Encoder(nn.Module):
    """Picture -> features, style and motion: what pretraining starts and everything else reuses."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.trunk = Trunk(shape.encoder_scale, shape.encoder_depth)
        c4, c8, c16, c32 = self.trunk.channels
        self.up16 = conv(c32, c16, 1)
        self.up8 = conv(c16, c8)
        self.to_features4 = conv(c4, 32, 1)
        self.to_features8 = conv(c8, 64, 1)
        self.to_style = nn.Linear(c32, STYLE)
        self.motion8 = conv(c8, 64)
        self.to_modes = conv(64, 4 * shape.num_modes, 1)
        self.motion4 = conv(64 + c4, 48)
        self.to_flow = conv(48, 3)
        with torch.no_grad():
            self.to_modes.weight.mul_(0.1)
            self.to_flow.weight.mul_(0.1)

    def forward(self, picture: Tensor) -> Memory:
        """Return the memory of a picture (B, 3, H, W) in [0, 1]."""
        x4, x8, x16, x32 = self.trunk(picture)
        y16 = x16 + self.up16(upsample(x32))
        y8 = x8 + self.up8(F.leaky_relu(upsample(y16), 0.2))
        motion8 = F.leaky_relu(self.motion8(F.leaky_relu(y8, 0.2)), 0.2)
        motion4 = F.leaky_relu(self.motion4(torch.cat([upsample(motion8), x4], dim=1)), 0.2)
        raw = self.to_flow(motion4).float()
        return Memory(
            picture=picture,
            features4=self.to_features4(x4),
            features8=self.to_features8(y8),
            style=torch.tanh(self.to_style(x32.mean(dim=(2, 3)))),
            modes=4.0 * torch.tanh(self.to_modes(motion8).float()),
            flow=torch.cat([6.0 * torch.tanh(raw[:, :2] / 2), torch.sigmoid(raw[:, 2:] + 1)], dim=1),
        )


class Condition(nn.Module):
    """The first graph: image, mask and noise -> memory."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.prior = ContentPrior(shape.height, shape.width)
        self.painter = Painter(shape.height, shape.width)
        self.encoder = Encoder(shape)

    def from_code(self, image: Tensor, mask: Tensor, code: Tensor) -> Memory:
        """Return the memory for a content code; arguments as for `Painter.forward`."""
        return self.encoder(self.painter(image, mask, code))

    def forward(self, image: Tensor, mask: Tensor, noise: Tensor) -> Memory:
        """Return the memory for standard normal noise (B, `num_code_noise`), from which the content code is drawn."""
        return self.from_code(image, mask, self.prior(noise))


class Step(nn.Module):
    """The second graph: memory, state, noise and controls -> a frame and the next state."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        height, width = shape.height, shape.width
        # From the slow sway of a trunk to leaves in the wind: 0.02 to 0.6 radians per frame.
        rates = torch.logspace(math.log10(0.02), math.log10(0.6), shape.num_modes)
        self.log_rate = nn.Parameter(rates.log())
        self.log_damping = nn.Parameter(torch.full((shape.num_modes,), math.log(0.02)))
        self.noise_to_hidden = nn.Linear(16, 32)
        self.update = conv(64 + 4 + 32, 64)
        self.candidate = conv(64 + 4 + 32, 32)
        self.to_displacement = conv(32, 2)
        self.warp4 = Warp(height // 4, width // 4, height, width)
        self.warp8 = Warp(height // 8, width // 8, height, width)
        self.warp1 = Warp(height, width, height, width)
        self.merge8 = conv(64 + 32, 64)
        self.block8 = FiLMBlock(64, STYLE)
        self.merge4 = conv(64 + 32, 64)
        self.block4 = FiLMBlock(64, STYLE)
        self.expand2 = conv(64, 64, 1)  # 16 channels at 1/2
        self.merge2 = conv(16 + 24, 32)
        self.refine2 = conv(32, 32)
        self.to_residual = conv(32, 16)  # 4 channels at 1/1
        with torch.no_grad():
            self.to_displacement.weight.mul_(0.1)
            self.to_residual.weight.mul_(0.1)
        for layer in (self.expand2, self.to_residual):
            repeat_subpixels(layer)

    def initial_state(self, batch: int, device: torch.device | str = "cpu") -> State:
        """Return the state before the first frame: zeros, as the bundle's contract says."""
        h8, w8 = self.shape.height // 8, self.shape.width // 8
        return State(
            torch.zeros(batch, 2 * self.shape.num_modes, device=device),
            torch.zeros(batch, 1, device=device),
            torch.zeros(batch, 32, h8, w8, device=device),
        )

    def sway(self, memory: Memory, state: State) -> Tensor:
        """Return the modal displacement (B, 2, H/8, W/8) in pixels: the modes weighted by the oscillators."""
        batch, _, h8, w8 = memory.modes.shape
        modes = memory.modes.float().reshape(batch, 2 * self.shape.num_modes, 2 * h8 * w8)
        weights = state.oscillators[:, None] * (1.0 / math.sqrt(self.shape.num_modes))
        return torch.matmul(weights, modes).reshape(batch, 2, h8, w8)

    def advance(self, memory: Memory, state: State, noise: Tensor, control: Tensor) -> State:
        """Move the state on by one frame: cheap, at 1/8 of the size, without a picture.

        Args:
            memory: what is playing.
            state: the frame before.
            noise: (B, `Shape.num_noise`) standard normal.
            control: (B, 3): motion (factor of speed), wind x and y (pixels per frame).

        Returns:
            The next state; oscillators stay of unit variance, the hidden state in [-1, 1], the clock in [0, 1).
        """
        with torch.autocast(noise.device.type, enabled=False):
            speed = control[:, 0:1].float()
            k = self.shape.num_modes
            angle = self.log_rate.exp()[None] * speed
            radius = torch.exp(-self.log_damping.exp()[None] * speed)
            cos, sin = radius * torch.cos(angle), radius * torch.sin(angle)
            real, imaginary = state.oscillators[:, :k], state.oscillators[:, k:]
            rotated = torch.cat([cos * real - sin * imaginary, sin * real + cos * imaginary], dim=1)
            kick = torch.sqrt(1 - radius * radius + 1e-8).repeat(1, 2) * noise[:, : 2 * k].float()
            oscillators = (rotated + kick).clamp(-4.0, 4.0)
            clock = state.clock + speed / self.shape.period_frames
            clock = clock - torch.floor(clock)
        swayed = self.sway(memory, State(oscillators, clock, state.hidden))
        coarse_flow = F.avg_pool2d(memory.flow, 2)[:, :2]
        seen = torch.cat(
            [memory.features8, swayed.to(memory.features8.dtype), coarse_flow.to(memory.features8.dtype)], 1
        )
        seen = torch.cat([seen, state.hidden.to(seen.dtype)], dim=1)
        gates = torch.sigmoid(self.update(seen).float())
        update, reset = gates.chunk(2, dim=1)
        update = update * speed[:, :, None, None].clamp(0.0, 1.0)
        nudge = self.noise_to_hidden(noise[:, 2 * k :])[:, :, None, None]
        gated = torch.cat([seen[:, :68], (reset * state.hidden).to(seen.dtype)], dim=1)
        candidate = torch.tanh((self.candidate(gated) + nudge).float())
        hidden = state.hidden + update * (candidate - state.hidden)
        return State(oscillators, clock, hidden)

    def transport(self, memory: Memory, control: Tensor, age: Tensor) -> Tensor:
        """Return the displacement (B, 2, H/4, W/4) of a phase of `age` (B, 1) frames along the steady flow.

        The flow is followed by the midpoint rule: straight steps would unwind a storm's spiral.
        """
        flow, free = memory.flow[:, :2].float(), memory.flow[:, 2:].float()
        flow = (flow + control[:, 1:3, None, None].float()) * free
        age = age[:, :, None, None]
        return self.warp4(flow, flow * (0.5 * age)) * age

    def render(self, memory: Memory, state: State, control: Tensor) -> Tensor:
        """Return the frame (B, 3, H, W), RGB in [0, 1], of a state."""
        height, width = self.shape.height, self.shape.width
        with torch.autocast(state.clock.device.type, enabled=False):
            swayed = self.sway(memory, state) + 2.0 * torch.tanh(self.to_displacement(state.hidden.float()))
            swayed = resize(swayed, height // 4, width // 4) * memory.flow[:, 2:].float()
            # At clock 0 the first phase is in the middle of its life: age 0, full weight, the anchor itself.
            first = state.clock + 0.5
            first = first - torch.floor(first)
            weight = (1.0 - torch.abs(2.0 * first - 1.0))[:, :, None, None]
            period = float(self.shape.period_frames)
            move_a = swayed + self.transport(memory, control, (first - 0.5) * period)
            move_b = swayed + self.transport(memory, control, (state.clock - 0.5) * period)
            full_a, full_b = resize(move_a, height, width), resize(move_b, height, width)
            picture_a = self.warp1(memory.picture.float(), full_a)
            picture_b = self.warp1(memory.picture.float(), full_b)
            picture = picture_b + weight * (picture_a - picture_b)
        features_a, features_b = self.warp4(memory.features4, move_a), self.warp4(memory.features4, move_b)
        features = features_b + weight.to(features_a.dtype) * (features_a - features_b)
        move8 = F.avg_pool2d(move_a * weight + move_b * (1 - weight), 2)
        x = torch.cat([self.warp8(memory.features8, move8), state.hidden.to(memory.features8.dtype)], dim=1)
        x = self.block8(self.merge8(x), memory.style)
        x = self.block4(self.merge4(torch.cat([upsample(x), features], dim=1)), memory.style)
        x = F.pixel_shuffle(self.expand2(F.leaky_relu(x, 0.2)), 2)
        seen = torch.cat([picture, picture_a - picture_b], dim=1)
        x = self.merge2(torch.cat([x, F.pixel_unshuffle(2 * seen - 1, 2).to(x.dtype)], dim=1))
        x = self.refine2(F.leaky_relu(x, 0.2))
        made = F.pixel_shuffle(self.to_residual(F.leaky_relu(x, 0.2)), 2).float()  # (B, 4, H, W)
        # Where the mask opens, a synthesised colour replaces the warped one; elsewhere the picture stays sharp.
        mask = torch.sigmoid(made[:, 3:] - 2.0)
        return (picture + mask * (0.5 + 0.5 * torch.tanh(made[:, :3]) - picture)).clamp(0.0, 1.0)

    def forward(self, memory: Memory, state: State, noise: Tensor, control: Tensor) -> tuple[Tensor, State]:
        """Return the next frame (B, 3, H, W) in [0, 1] and its state."""
        state = self.advance(memory, state, noise, control)
        return self.render(memory, state, control), state


def dissolve(a: Memory, b: Memory, mix: Tensor) -> Memory:
    """Return a + mix * (b - a) for every part of two memories; mix is (1,) or (B,) in [0, 1]."""
    return Memory(*(x + mix.reshape(-1, *([1] * (x.dim() - 1))) * (y - x) for x, y in zip(a, b, strict=True)))


class VideoGenerator(nn.Module):
    """Both graphs in one module, so that one checkpoint and one EMA hold them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.condition = Condition(shape)
        self.step = Step(shape)
