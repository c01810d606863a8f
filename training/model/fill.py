"""Fills holes of live video: what was seen behind a hole is brought back in place, the rest filled smoothly or painted.

What is remembered follows the flow around the hole (Lucas and Kanade, without weights; `ObservedFlow`), takes on the
light of the present frame by a smooth difference spread in from the hole's rim (after Poisson image editing, Perez et
al. 2003), and is believed as far as it agrees with what is seen. The rest is a smooth fill. A network may paint on it:
encoder and decoder of the pretraining (the trunk, the painter's coarse half), with which its training begins.

Legend: B batch, H height, W width of the frame; h, w of the picture that the network sees, both multiples of
`MULTIPLE`; H and W are `reduction` times as large.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.checkpoint import part_of
from training.model.layers import PlanarWarp, ResidualBlock, conv, enlarge, repeat_subpixels, resize, spread_in
from training.model.motion import ObservedFlow, normal_equations, solved
from training.model.painter import EDGE
from training.model.trunk import Trunk

MULTIPLE = 32  # the trunk halves the size five times
MOST_SIDE = 256  # pixels of the shorter side of what the network sees
LEVELS = 5  # halvings of a smooth fill
LEAST_CHANGE = 0.003  # of brightness, of which more or less is noise
LEAST_SHARE = 0.12  # of a change that the flow has to explain to be followed; twice as much counts in full
WIDE = 9  # cells of 4 pixels over which flow is averaged
CUBIC = 0.6  # share of bicubic sampling; alone it makes waves of six pixels 3 % stronger in every frame
CELL = 4  # pixels of the cells in which the light is compared
TEXTURE = 2e-4  # mean squared gradient above which the flow of a place counts in the hole
MINORITY = 0.35  # share of such places that may move beside a hole without its moving
NOISE = 0.03  # of brightness: what is remembered may differ by so much and is believed
DOUBT = 12.0  # how fast it is believed less beyond that
PAINTED = 0.6  # how far one's own painting is believed in the next frame
LUMA = (0.2126, 0.7152, 0.0722)  # BT.709
CONTROLS = ("memory",)


class FillState(NamedTuple):
    """What is carried from frame to frame; zeros at the start."""

    picture: Tensor  # (B, 3, H, W) RGB in [0, 1], the last frame without its holes
    trust: Tensor  # (B, 1, H, W) how far it is known, in [0, 1]
    before: Tensor  # (B, 2, h, w) its brightness, and where it was seen


class Filled(NamedTuple):
    """A frame, and what it was put together from."""

    frame: Tensor  # (B, 3, H, W) RGB in [0, 1]
    state: FillState
    painted: Tensor  # (B, 3, h, w) RGB, about in [0, 1]
    trust: Tensor  # (B, 1, H, W) share of what was remembered


def reduction(height: int, width: int) -> int:
    """Return how many times smaller than the frame the picture is that the network sees."""
    return -(-min(height, width) // MOST_SIDE)


class Filler(nn.Module):
    """Frames with holes -> whole frames.

    Args:
        height: of the frames in pixels.
        width: the like.
        remembers: whether frames before are used; False for a comparison.
        paints: whether the network paints what never was seen; False leaves it filled smoothly, without a weight.
    """

    luma: Tensor

    def __init__(self, height: int, width: int, *, remembers: bool = True, paints: bool = True) -> None:
        super().__init__()
        self.height, self.width, self.remembers, self.paints = height, width, remembers, paints
        self.reduction = reduction(height, width)
        step = MULTIPLE * self.reduction
        self.padded = tuple(-(-side // step) * step for side in (height, width))
        tall, wide = self.padded
        self.small = tall // self.reduction, wide // self.reduction
        self.observed = ObservedFlow(*self.small)
        self.shift = PlanarWarp(*self.small, *self.small)
        self.move = PlanarWarp(tall, wide, *self.small, padding_mode="zeros")
        self.move_cubic = PlanarWarp(tall, wide, *self.small, mode="bicubic")
        self.register_buffer("luma", torch.tensor(LUMA).reshape(1, 3, 1, 1), persistent=False)
        if paints:
            self._build()

    def _build(self) -> None:
        self.trunk = Trunk()
        self.trunk.blocks[0] = nn.ModuleList()  # a fifth of the time
        c4, c8, c16, c32 = self.trunk.channels
        self.beside = conv(4, self.trunk.stem.out_channels, 1)  # where the picture is known
        self.bottom = conv(c32, 96, padding_mode=EDGE)
        self.block32 = ResidualBlock(96, EDGE)
        self.skip16 = conv(c16, 96, 1)
        self.merge16 = conv(96, 96, padding_mode=EDGE)
        self.block16 = ResidualBlock(96, EDGE)
        self.skip8 = conv(c8, 96, 1)
        self.merge8 = conv(96, 96, padding_mode=EDGE)
        self.narrow4 = conv(96, 64, 1)
        self.skip4 = conv(c4, 64, 1)
        self.merge4 = conv(64, 64, padding_mode=EDGE)
        self.narrow2 = conv(64, 32, 1)
        self.last = conv(32, 12, padding_mode=EDGE)  # three colours of 2 x 2 pixels
        with torch.no_grad():
            for layer in (self.beside, self.last):
                assert layer.bias is not None
                layer.bias.zero_()
            self.beside.weight.zero_()
            self.last.weight.mul_(0.3)
            repeat_subpixels(self.last)

    @torch.no_grad()
    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Take over encoder and painter of a trained generator, as far as they are shared.

        Args:
            weights: by their names in `VideoGenerator`.

        Raises:
            ValueError: they are of another size.
        """
        trunk = part_of(weights, "condition.encoder.trunk.")
        try:
            self.trunk.load_state_dict({name: trunk[name] for name in self.trunk.state_dict()})
        except (RuntimeError, KeyError):
            raise ValueError(
                "the encoder of --start has other channels than this network's: name a start with "
                "model.encoder_scale 1 and encoder_depth 1, such as bundles/landscape"
            ) from None
        painter = part_of(weights, "condition.painter.")
        # What the code 0 says: the painter is modulated by it, this network has it in its weights.
        style = F.leaky_relu(painter["from_code.bias"], 0.2)
        style = F.leaky_relu(F.linear(style, painter["mapping.1.weight"], painter["mapping.1.bias"]), 0.2)
        for name, block in (("block32", self.block32), ("block16", self.block16)):
            part = part_of(painter, f"{name}.")
            scale, shift = F.linear(style, part["modulation.weight"], part["modulation.bias"]).chunk(2)
            block.first.weight.copy_(part["first.weight"] * (1 + scale)[:, None, None, None])
            block.first.bias.copy_(part["first.bias"] * (1 + scale) + shift)
            block.second.weight.copy_(part["second.weight"])
            block.second.bias.copy_(part["second.bias"])
        for name, layer in (("merge16", self.merge16), ("merge8", self.merge8)):
            layer.weight.copy_(painter[f"{name}.weight"][:, : layer.in_channels])
            assert layer.bias is not None
            layer.bias.copy_(painter[f"{name}.bias"])

    def initial_state(self, batch: int, device: torch.device | str = "cpu") -> FillState:
        """Return the state before the first frame: zeros, as the bundle's contract says."""
        return FillState(
            torch.zeros(batch, 3, *self.padded, device=device),
            torch.zeros(batch, 1, *self.padded, device=device),
            torch.zeros(batch, 2, *self.small, device=device),
        )

    def forward(self, frame: Tensor, mask: Tensor, state: FillState, memory: Tensor) -> Filled:
        """Return the frame without holes, and the next state.

        Args:
            frame: (B, 3, H, W) RGB in [0, 1]; what it says in a hole does not matter.
            mask: (B, 1, H, W) in [0, 1], 0 in a hole.
            state: of the frame before.
            memory: (B, 1) how far what was seen before is used, in [0, 1].
        """
        tall, wide = self.padded
        if (tall, wide) != (self.height, self.width):
            space = (0, wide - self.width, 0, tall - self.height)
            frame, mask = F.pad(frame, space, mode="replicate"), F.pad(mask, space, mode="replicate")
        seen = frame * mask
        if self.remembers:
            moved, trust, now = self.brought(seen, mask, state)
            trust = trust * memory[:, :, None, None]
        else:
            moved, trust, now = state.picture, 0 * state.trust, state.before
        known = mask + (1 - mask) * trust
        put_together = seen + (1 - mask) * trust * moved  # times `known`
        painted = self.paint(self.reduced(put_together), self.reduced(known))
        whole = put_together + (1 - known) * self.enlarged(painted)
        whole = whole.clamp(0.0, 1.0)
        next_trust = mask + (1 - mask) * trust.clamp(min=PAINTED)
        after = FillState(whole, next_trust, now)
        return Filled(whole[:, :, : self.height, : self.width], after, painted, trust)

    def brought(self, seen: Tensor, mask: Tensor, state: FillState) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is remembered in place, how far it is believed, and brightness and mask for the next frame.

        Args:
            seen: (B, 3, H, W), 0 in holes.
            mask: (B, 1, H, W).
            state: of the frame before.

        Returns:
            (B, 3, H, W), (B, 1, H, W) in [0, 1], (B, 2, h, w).
        """
        # A place counts as seen if all of it is.
        clear = 1 - F.max_pool2d(1 - mask, self.reduction) if self.reduction > 1 else mask
        grey = (self.reduced(seen) * self.luma).sum(dim=1, keepdim=True)
        now = torch.cat([grey, clear], dim=1)
        flow = self.flow(state.before, now)
        full = self.enlarged(flow)
        plain = self.move(torch.cat([state.picture, state.trust], dim=1), full)
        moved, trust = plain[:, :3] + CUBIC * (self.move_cubic(state.picture, full) - plain[:, :3]), plain[:, 3:]
        # Compared where both are known; the difference at a hole's rim is continued into it.
        difference = self.reduced(mask * trust * (seen - moved))
        error = (F.avg_pool2d(difference, 2) * self.luma).sum(dim=1, keepdim=True).abs()
        # In large cells: what does not quite fit at the rim would flicker in the hole.
        both = torch.cat([F.avg_pool2d(difference, CELL), F.avg_pool2d(error, CELL // 2)], dim=1)
        counts = F.avg_pool2d(self.reduced(mask * trust), CELL)
        mean = both.mean(dim=(2, 3), keepdim=True) / (counts.mean(dim=(2, 3), keepdim=True) + 1e-4)
        spread = resize(spread_in(both, counts, 2, 1e-3, mean), *self.padded)
        alike = torch.exp(-DOUBT * (spread[:, 3:] - NOISE).clamp(min=0.0))
        return moved + spread[:, :3], trust * alike, now

    def flow(self, before: Tensor, now: Tensor) -> Tensor:
        """Return how the picture has moved, (B, 2, h, w) pixels of the small picture; in holes, as around them.

        Args:
            before: (B, 2, h, w), brightness and mask.
            now: the like.
        """
        pair = torch.stack([before[:, :1], now[:, :1]], dim=1)
        clear = torch.stack([before[:, 1:], now[:, 1:]], dim=1)
        flow = self.observed(pair, clear)[:, :2]
        gradient = F.pad((pair[:, 0, :, 1:, 1:] - pair[:, 0, :, :-1, :-1]).square(), (0, 1, 0, 1))
        pays, texture = self.explained(before, now, resize(flow, *self.small), gradient)
        weight = texture / (texture + TEXTURE)
        # The flow of single places is noisy: it is averaged over those whose change it explains, and spread.
        votes = F.avg_pool2d(torch.cat([flow * weight * pays, weight * pays], dim=1), WIDE, 1, WIDE // 2)
        mean = votes.mean(dim=(2, 3), keepdim=True)
        follows = spread_in(votes[:, :2], votes[:, 2:], LEVELS - 2, 1e-3, mean[:, :2] / (mean[:, 2:] + 1e-4))
        # Where nothing moves, following it would blur what is remembered. Most of what is around a hole decides whether
        # it moves, so that a passer-by beside it does not take the background along.
        follows = resize(follows, *self.small)
        # Once more with wide windows: Lucas and Kanade's steps are too short where texture is fine.
        follows = follows + self.step(before, now, follows)
        pays, _ = self.explained(before, now, follows, gradient)
        votes = F.avg_pool2d(torch.cat([weight * pays, weight], dim=1), WIDE, 1, WIDE // 2)
        mean = votes.mean(dim=(2, 3), keepdim=True)
        share = spread_in(votes[:, :1], votes[:, 1:], LEVELS - 2, 1e-3, mean[:, :1] / (mean[:, 1:] + 1e-4))
        share = ((share - MINORITY) * (1 / (1 - 2 * MINORITY))).clamp(0.0, 1.0)
        return follows * resize(share, *self.small)

    def step(self, before: Tensor, now: Tensor, flow: Tensor) -> Tensor:
        """Return what a flow lacks, (B, 2, h, w) pixels, by the mean over wide windows; arguments as of `explained`."""
        shifted = self.shift(before, flow)
        both = 1 - F.max_pool2d(1 - now[:, 1:] * shifted[:, 1:], 3, 1, 1)
        products = torch.cat([normal_equations(shifted[:, :1], now[:, :1]), torch.ones_like(both)], dim=1) * both
        wide = F.avg_pool2d(F.avg_pool2d(products, 4), WIDE, 1, WIDE // 2)
        says = wide[:, 5:]
        lacks = solved(wide[:, :5]).clamp(-1.0, 1.0) * says
        mean = lacks.mean(dim=(2, 3), keepdim=True) / (says.mean(dim=(2, 3), keepdim=True) + 1e-4)
        return resize(spread_in(lacks, says, LEVELS - 2, 1e-3, mean), *self.small)

    def explained(self, before: Tensor, now: Tensor, flow: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far a flow explains what has changed, and the texture, both (B, 1, h/4, w/4), of what is seen.

        Args:
            before, now: (B, 2, h, w), brightness and mask.
            flow: (B, 2, h, w) pixels.
            gradient: (B, 1, h, w) squared.
        """
        shifted = self.shift(before, flow)
        # Beside a hole there are edges that are not the picture's.
        both = 1 - F.max_pool2d(1 - before[:, 1:] * now[:, 1:] * shifted[:, 1:], 3, 1, 1)
        change = (before[:, :1] - now[:, :1]).abs()
        gain = change - (shifted[:, :1] - now[:, :1]).abs()
        near = F.avg_pool2d(F.avg_pool2d(torch.cat([gain, change, gradient], dim=1) * both, 4), 5, 1, 2)
        share = near[:, :1] / (near[:, 1:2] + LEAST_CHANGE)
        return ((share - LEAST_SHARE) * (1 / LEAST_SHARE)).clamp(0.0, 1.0), near[:, 2:]

    def paint(self, picture: Tensor, known: Tensor) -> Tensor:
        """Return a picture painted where nothing is known, (B, 3, h, w), about in [0, 1].

        Args:
            picture: (B, 3, h, w) RGB times `known`.
            known: (B, 1, h, w) in [0, 1].
        """
        with torch.autocast(picture.device.type, enabled=False):
            # One's own painting is no ground for the fill: it would hold on to itself, and wander.
            sure = ((known.float() - PAINTED) * (1 / (1 - PAINTED))).clamp(min=0.0)
            half, share = F.avg_pool2d(picture.float() / (known.float() + 1e-4) * sure, 2), F.avg_pool2d(sure, 2)
            mean = (half.mean(dim=(2, 3), keepdim=True) + 0.5e-4) / (share.mean(dim=(2, 3), keepdim=True) + 1e-4)
            smooth = picture + (1 - known) * enlarge(spread_in(half, share, LEVELS - 1, 1e-3, mean))
        if not self.paints:
            return smooth
        beside = self.beside(F.pixel_unshuffle(known - 1, 2))
        x4, x8, x16, x32 = self.trunk(smooth, beside=beside)
        x = self.block32(self.bottom(F.leaky_relu(x32, 0.2)))
        x = self.block16(self.merge16(enlarge(x) + self.skip16(x16)))
        x = self.merge8(enlarge(x) + self.skip8(x8))
        x = enlarge(self.narrow4(F.leaky_relu(x, 0.2))) + self.skip4(x4)
        x = x + self.merge4(F.leaky_relu(x, 0.2))
        x = enlarge(self.narrow2(F.leaky_relu(x, 0.2)))
        return smooth + F.pixel_shuffle(self.last(F.leaky_relu(x, 0.2)), 2).float()

    def reduced(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, h, w)."""
        return F.avg_pool2d(x, self.reduction) if self.reduction > 1 else x

    def enlarged(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, H, W)."""
        return resize(x, *self.padded) if self.reduction > 1 else x
