"""The generator: a picture is made rarely (`ConditionModel`), its motion every frame (`StepModel`).

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

from training.model.enlarger import Enlarger
from training.model.hints import HintReader, hint_maps
from training.model.layers import Warp, conv, resize, upsample
from training.model.motion import ObservedFlow
from training.model.painter import ContentPrior, Painter
from training.model.trunk import Levels, Trunk, previous_rows

CLIP = 4  # frames of a clip to go on from; the last one is the present
MAX_FLOW = 12.0  # pixels per frame
MAX_MODE = 8.0  # pixels, of one oscillator mode
MAX_LEARNED = 4.0  # pixels, of the recurrent displacement
SPREADING = 2.0  # periods after the start until places' clocks are as far apart as they get
CROSS_FADE = 0.5  # part of a phase's life in which it fades; two phases at once lose detail
SMOOTH = 8  # side of the blocks whose mean is not detail


class ConditionMemory(NamedTuple):
    """What `ConditionModel` hands to `StepModel`: a picture, and how it moves."""

    picture: Tensor  # (B, 3, H, W) RGB in [0, 1]
    features8: Tensor  # (B, 64, H/8, W/8)
    modes: Tensor  # (B, 4K, H/8, W/8): real and imaginary part, x and y, of each oscillator mode, pixels
    flow: Tensor  # (B, 3, H/4, W/4): steady flow x, y in pixels per frame, and how free to move, in [0, 1]


class MotionMemory(NamedTuple):
    """The part of a `ConditionMemory` that decides how a picture moves; the field names are slots of the bundle."""

    features8: Tensor  # (B, 64, H/8, W/8)
    modes: Tensor  # (B, 4K, H/8, W/8)
    flow: Tensor  # (B, 3, H/4, W/4)


class StepState(NamedTuple):
    """What `StepModel` carries from frame to frame; zeros at the start."""

    oscillators: Tensor  # (B, 2K) FP32, real parts then imaginary parts
    clock: Tensor  # (B, 2) FP32 in [0, 1]: the transport's phase, and how far phases differ from place to place
    hidden: Tensor  # (B, 32, H/8, W/8) in [-1, 1]


@dataclass(frozen=True)
class Shape:
    """Everything about the generator that is not a weight."""

    height: int = 128
    width: int = 128
    num_modes: int = 16
    period_frames: int = 24  # one phase of the transport lives this long
    text_dimensions: int = 0  # of the prompt's vector; 0: the generator does not listen to text
    components: int = 128  # of the mixture that content codes are drawn from
    mixing: float = 0.5  # how readily a scene is put together from two components: 0 never, 1 always
    pace: float = 1.0  # speed of playing at motion 1, calibrated so that footage and what is made move alike
    sharpness: float = 1.0  # gain on the finest detail of a picture that a bundle displaces, calibrated like the pace
    painted_sharpness: float = 1.0  # gain of detail in pictures that are made up, before they are played
    encoder_scale: float = 1.0  # factor on the encoder's channels
    encoder_depth: int = 1  # residual blocks at each of its four levels

    def __post_init__(self) -> None:
        if self.height % 32 or self.width % 32 or min(self.height, self.width) < 64:
            raise ValueError(
                f"frame size is {self.width}x{self.height}, expected multiples of 32 from 64 up: change height or width"
            )

        if not 2 <= self.components <= 4096 or not 0 <= self.mixing <= 1 or self.text_dimensions > 4096:
            raise ValueError(
                f"components is {self.components}, mixing {self.mixing} and text_dimensions {self.text_dimensions}, "
                "expected 2 to 4096, 0 to 1 and 0 to 4096"
            )

        if not 0.1 <= self.pace <= 10:
            raise ValueError(f"pace is {self.pace}, expected 0.1 to 10: times the speed that was learned")

        if not (0.5 <= self.sharpness <= 2 and 0.5 <= self.painted_sharpness <= 2):
            raise ValueError(
                f"sharpness is {self.sharpness} and painted_sharpness {self.painted_sharpness}, expected 0.5 to 2: "
                "factors on detail, 1 leaves it alone"
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


class FrameEncoder(nn.Module):
    """Picture -> features and motion: what pretraining starts and everything else reuses."""

    def __init__(self, shape: Shape, crop: int | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.observed = ObservedFlow(crop or shape.height, crop or shape.width)
        self.trunk = Trunk(shape.encoder_scale, shape.encoder_depth)
        c4, c8, c16, c32 = self.trunk.channels
        self.up16 = conv(c32, c16, 1)
        self.up8 = conv(c16, c8)
        self.to_features8 = conv(c8, 64, 1)
        self.motion8 = conv(c8, 64)
        self.to_modes = conv(64, 4 * shape.num_modes, 1)
        self.motion4 = conv(64 + c4 + 3, 48)
        self.to_flow = conv(48, 3)
        self.hints = HintReader(c8, 64, 48)
        with torch.no_grad():
            self.to_modes.weight.mul_(0.1)
            self.to_flow.weight.mul_(0.1)

    def forward(
        self,
        picture: Tensor,
        past: Tensor | None = None,
        has_past: Tensor | None = None,
        hints: Tensor | None = None,
    ) -> ConditionMemory:
        """Return the memory of a picture.

        Args:
            picture: (B, 3, H, W) in [0, 1].
            past: (B, `CLIP` - 1, 3, H, W), the frames before it, oldest first, or None: how things move is then read
                from the picture alone.
            has_past: (B, 1), 1 for pictures whose past is known, else 0; None: all, if there is a past.
            hints: (B, 5, H/8, W/8), see `training.model.hints`; None or zeros: there are none.
        """
        if past is None:
            return self.read(picture, self.trunk(picture), hints=hints)
        known = picture.new_ones(len(picture), 1) if has_past is None else has_past
        known = known[:, :, None, None]
        past = past * known[:, None] + picture[:, None] * (1 - known[:, None])
        frames = torch.cat([past, picture[:, None]], dim=1)
        batch, count = frames.shape[:2]
        chain = previous_rows(batch, count).to(picture.device)
        last = torch.arange(count - 1, batch * count, count, device=picture.device)
        levels = self.trunk(frames.flatten(0, 1), chain)
        levels = Levels(*(level[last] for level in levels))
        seen = self.observed(frames) * known
        return self.read(picture, levels, seen, hints)

    def read(
        self, picture: Tensor, levels: Levels, seen: Tensor | None = None, hints: Tensor | None = None
    ) -> ConditionMemory:
        """Return the memory of a picture whose levels are known.

        Args:
            picture: (B, 3, H, W) in [0, 1].
            levels: what the trunk knows about it.
            seen: (B, 3, H/4, W/4), what `ObservedFlow` saw in the frames before; None if there were none.
            hints: (B, 5, H/8, W/8), see `training.model.hints`; None or zeros: there are none.
        """
        x4, x8, x16, x32 = levels
        if seen is None:
            seen = x4.new_zeros(len(x4), 3, *x4.shape[2:])
        y16 = x16 + self.up16(upsample(x32))
        y8 = x8 + self.up8(F.leaky_relu(upsample(y16), 0.2))
        told = None if hints is None else hint_maps(hints)
        active8 = F.leaky_relu(y8, 0.2)
        motion8 = self.motion8(active8)
        if told is not None:
            motion8 = motion8 + self.hints.at8(active8, told).to(motion8.dtype)
        motion8 = F.leaky_relu(motion8, 0.2)
        motion4 = self.motion4(torch.cat([upsample(motion8), x4, seen.to(x4.dtype)], dim=1))
        if told is not None:
            motion4 = motion4 + self.hints.at4(told, *x4.shape[2:]).to(motion4.dtype)
        motion4 = F.leaky_relu(motion4, 0.2)
        raw = self.to_flow(motion4).float()
        flow, free = MAX_FLOW * torch.tanh(raw[:, :2] / 4), torch.sigmoid(raw[:, 2:] + 1)
        if told is not None:
            flow, free = self.hints.moved(flow, free, motion4, told)
            flow = flow.clamp(-MAX_FLOW, MAX_FLOW)
        return ConditionMemory(
            picture=picture,
            features8=self.to_features8(y8),
            modes=MAX_MODE * torch.tanh(self.to_modes(motion8).float() / 2),
            flow=torch.cat([flow, free], dim=1),
        )


class ConditionModel(nn.Module):
    """The first graph: image, clip, text and noise, each if it is there -> memory.

    Args:
        shape: of the generator.
        crop: side of the square that it works on, None for the whole frame. The weights are the same.
    """

    def __init__(self, shape: Shape, crop: int | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.prior = ContentPrior(
            shape.height, shape.width, shape.components, shape.text_dimensions, mixing=shape.mixing
        )
        self.painter = Painter(crop or shape.height, crop or shape.width, shape.text_dimensions)
        self.encoder = FrameEncoder(shape, crop)

    def from_code(
        self,
        image: Tensor,
        mask: Tensor,
        code: Tensor,
        text: Tensor | None = None,
        past: Tensor | None = None,
        has_past: Tensor | None = None,
        hints: Tensor | None = None,
    ) -> ConditionMemory:
        """Return the memory for a content code.

        Args:
            image, mask, code, text: as for `Painter.forward`.
            past, has_past, hints: as for `FrameEncoder.forward`.
        """
        return self.encoder(self.painter(image, mask, code, text), past, has_past, hints)

    def forward(
        self,
        image: Tensor,
        mask: Tensor,
        clip: Tensor,
        clip_given: Tensor,
        noise: Tensor,
        text: Tensor | None = None,
        hints: Tensor | None = None,
    ) -> ConditionMemory:
        """Return the memory for what is given.

        Args:
            image: (B, 3, H, W) RGB in [0, 1].
            mask: (B, 1, H, W), 1 where the image is given.
            clip: (B, `CLIP`, 3, H, W) RGB in [0, 1], the last frame being the present.
            clip_given: (B, 1), 1 where the clip is given, else 0.
            noise: (B, `num_code_noise`) standard normal, from which the content code is drawn.
            text: (B, `Shape.text_dimensions`) unit vectors, zeros where there is no text; None if the generator does
                not listen to text.
            hints: as for `FrameEncoder.forward`.
        """
        # Where no image is given, the clip's present is the picture.
        from_clip = clip_given[:, :, None, None] * (1 - mask)
        image = image * mask + clip[:, -1] * from_clip
        known = mask + from_clip
        memory = self.from_code(image, known, self.prior(noise, text), text, clip[:, :-1], clip_given, hints)
        if self.shape.painted_sharpness == 1:
            return memory
        gain = (self.shape.painted_sharpness - 1) * (1 - known)
        return memory._replace(picture=(memory.picture + gain * detail_of(memory.picture)).clamp(0.0, 1.0))


def detail_of(picture: Tensor) -> Tensor:
    """Return what a picture (B, 3, H, W) has beyond the means of blocks of `SMOOTH` pixels, same shape."""
    return picture - resize(F.avg_pool2d(picture, SMOOTH), *picture.shape[2:])


def phase_field(height: int, width: int) -> Tensor:
    """Return how far ahead each place's clock runs, (1, 1, height, width) in periods: smooth, -0.25 to 0.25.

    Waves of about 100 frame pixels in directions that have no common period; `height` and `width` are the frame's / 4.
    """
    y, x = torch.meshgrid(
        4.0 * torch.arange(height, dtype=torch.float32), 4.0 * torch.arange(width, dtype=torch.float32), indexing="ij"
    )
    waves = ((0.045, 0.021, 0.4), (-0.028, 0.039, 2.1), (0.017, -0.052, 4.4))
    total = sum((torch.sin(u * x + v * y + start) for u, v, start in waves), torch.zeros(()))
    return (0.25 / len(waves)) * total[None, None]


class StepModel(nn.Module):
    """The second graph: memory, state, noise and controls -> a frame and the next state."""

    phases: Tensor

    def __init__(self, shape: Shape, crop: int | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.height, self.width = height, width = crop or shape.height, crop or shape.width
        self.register_buffer("phases", phase_field(height // 4, width // 4), persistent=False)
        # From the slow sway of a trunk to leaves in the wind: 0.02 to 0.6 radians per frame.
        rates = torch.logspace(math.log10(0.02), math.log10(0.6), shape.num_modes)
        self.log_rate = nn.Parameter(rates.log())
        self.log_damping = nn.Parameter(torch.full((shape.num_modes,), math.log(0.02)))
        self.noise_to_hidden = nn.Linear(16, 32)
        self.update = conv(64 + 4 + 32, 64)
        self.candidate = conv(64 + 4 + 32, 32)
        self.to_displacement = conv(32, 2)
        self.warp4 = Warp(height // 4, width // 4, height, width)
        self.warp1 = Warp(height, width, height, width)
        with torch.no_grad():
            self.to_displacement.weight.mul_(0.1)

    def initial_state(self, batch: int, device: torch.device | str = "cpu") -> StepState:
        """Return the state before the first frame: zeros, as the bundle's contract says."""
        h8, w8 = self.height // 8, self.width // 8
        return StepState(
            torch.zeros(batch, 2 * self.shape.num_modes, device=device),
            torch.zeros(batch, 2, device=device),
            torch.zeros(batch, 32, h8, w8, device=device),
        )

    def sway(self, memory: ConditionMemory | MotionMemory, state: StepState) -> Tensor:
        """Return the modal displacement (B, 2, H/8, W/8) in pixels: the modes weighted by the oscillators."""
        batch, _, h8, w8 = memory.modes.shape
        modes = memory.modes.float().reshape(batch, 2 * self.shape.num_modes, 2 * h8 * w8)
        weights = state.oscillators[:, None] * (1.0 / math.sqrt(self.shape.num_modes))
        return torch.matmul(weights, modes).reshape(batch, 2, h8, w8)

    def expected_sway(self, memory: ConditionMemory, horizon: int) -> Tensor:
        """Return how far places swing about their steady way within `horizon` frames, root mean square.

        The like of `TakeRecord.sway`, for undamped oscillators of unit variance: a mode that turns once in a thousand
        frames has hardly moved within thirty.

        Args:
            memory: its modes say how far each oscillator swings where.
            horizon: frames.

        Returns:
            (B, 1, H/8, W/8) pixels.
        """
        time = torch.arange(horizon + 1, device=memory.modes.device, dtype=torch.float32)
        turned = torch.exp(1j * self.log_rate.detach().exp()[:, None] * time)  # (K, T + 1)
        line = 1 + (turned[:, -1:] - 1) * (time / horizon)
        share = (turned - line).abs().square().mean(dim=1)  # (K,): of the variance that is seen
        batch, _, h8, w8 = memory.modes.shape
        power = memory.modes.float().square().reshape(batch, 2, self.shape.num_modes, 2, h8, w8).sum(dim=(1, 3))
        total = (power * share[:, None, None]).sum(dim=1, keepdim=True) / self.shape.num_modes
        return torch.sqrt(total + 1e-6)

    def advance(
        self, memory: ConditionMemory | MotionMemory, state: StepState, noise: Tensor, control: Tensor
    ) -> StepState:
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
            clock = state.clock[:, :1] + speed / self.shape.period_frames
            clock = clock - torch.floor(clock)
            spread = (state.clock[:, 1:] + speed / (SPREADING * self.shape.period_frames)).clamp(0.0, 1.0)
            clock = torch.cat([clock, spread], dim=1)
        swayed = self.sway(memory, StepState(oscillators, clock, state.hidden))
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
        return StepState(oscillators, clock, hidden)

    def transport(self, memory: ConditionMemory | MotionMemory, control: Tensor, age: Tensor) -> Tensor:
        """Return the displacement (B, 2, H/4, W/4) of a phase of `age` (B, 1, H/4, W/4) frames along the steady flow.

        The flow is followed by the midpoint rule: straight steps would unwind a storm's spiral.
        """
        flow, free = memory.flow[:, :2].float(), memory.flow[:, 2:].float()
        flow = (flow + control[:, 1:3, None, None].float()) * free
        return self.warp4(flow, flow * (0.5 * age)) * age

    def learned(self, hidden: Tensor) -> Tensor:
        """Return the recurrent displacement (B, 2, H/8, W/8) in pixels: none for a hidden state of zeros."""
        bias = self.to_displacement.bias
        assert bias is not None
        moved = torch.tanh(self.to_displacement(hidden.float())) - torch.tanh(bias)[None, :, None, None]
        return MAX_LEARNED * moved

    def moves(self, memory: ConditionMemory | MotionMemory, state: StepState, control: Tensor) -> Tensor:
        """Return how the picture moves, (B, 5, H/4, W/4) float32.

        Channels: x and y of the first phase, x and y of the second (pixels of the frame, positive right and down), and
        the share of the first in [0, 1].
        """
        with torch.autocast(state.clock.device.type, enabled=False):
            swayed = self.sway(memory, state) + self.learned(state.hidden)
            swayed = resize(swayed, self.height // 4, self.width // 4) * memory.flow[:, 2:].float()
            # At the start every place is at clock 0: the first phase is in the middle of its life, age 0, full weight,
            # the anchor itself. From then on places drift apart, so that they do not all cross-fade at once.
            clock = state.clock[:, :1, None, None] + state.clock[:, 1:, None, None] * self.phases
            second = clock - torch.floor(clock)
            first = second + 0.5
            first = first - torch.floor(first)
            weight = 1.0 - torch.abs(2.0 * first - 1.0)  # (B, 1, H/4, W/4)
            share = ((weight - 0.5) * (1 / CROSS_FADE) + 0.5).clamp(0.0, 1.0)
            period = float(self.shape.period_frames)
            move_a = swayed + self.transport(memory, control, (first - 0.5) * period)
            move_b = swayed + self.transport(memory, control, (second - 0.5) * period)
            return torch.cat([move_a, move_b, share], dim=1)

    def render(self, memory: ConditionMemory, state: StepState, control: Tensor) -> Tensor:
        """Return the frame (B, 3, H, W), RGB in [0, 1], of a state: the picture, displaced."""
        with torch.autocast(state.clock.device.type, enabled=False):
            moves = resize(self.moves(memory, state, control), self.height, self.width)
            picture_a = self.warp1(memory.picture.float(), moves[:, :2])
            picture_b = self.warp1(memory.picture.float(), moves[:, 2:4])
            return picture_b + moves[:, 4:] * (picture_a - picture_b)

    def paced(self, control: Tensor) -> Tensor:
        """Return controls (B, 3) as `advance` and `render` want them: motion 1 at the shape's pace, wind as it was."""
        return torch.cat([self.shape.pace * control[:, :1], control[:, 1:] / self.shape.pace], dim=1)

    def forward(
        self, memory: ConditionMemory, state: StepState, noise: Tensor, control: Tensor
    ) -> tuple[Tensor, StepState]:
        """Return the next frame (B, 3, H, W) in [0, 1] and its state, at the shape's `pace`."""
        control = self.paced(control)
        state = self.advance(memory, state, noise, control)
        return self.render(memory, state, control), state


def dissolve(a: MotionMemory, b: MotionMemory, mix: Tensor) -> MotionMemory:
    """Return a + mix * (b - a) for every part of two memories; mix is (1,) or (B,) in [0, 1]."""
    return MotionMemory(*(x + mix.reshape(-1, *([1] * (x.dim() - 1))) * (y - x) for x, y in zip(a, b, strict=True)))


class VideoGenerator(nn.Module):
    """Both graphs in one module, so that one checkpoint and one EMA hold them.

    Args:
        shape: of the generator.
        crop: side of the square that it works on while it trains, None for the whole frame: the same weights in fewer
            pixels at the same scale.
    """

    def __init__(self, shape: Shape, crop: int | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.condition = ConditionModel(shape, crop)
        self.step = StepModel(shape, crop)
        self.enlarger: Enlarger | None = None  # of painted pictures; trained by itself, and added for export
