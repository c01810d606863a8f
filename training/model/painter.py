"""The painter: completes a picture from the parts that are given, or makes one up from a content code.

Legend: B batch, C channels, H height, W width. It runs once per prompt, never per frame.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import FiLMBlock, ResidualBlock, enlarge, spread_in, upsample
from training.model.layers import conv as padded

GLOBAL_CODES = 32  # values of the content code that reach the whole picture
LOCAL_CODES = 8  # channels of the content code that belong to one place, at 1/8 of the size
GRAIN = 4  # channels of fixed noise
FILL_LEVELS = 5  # the coarsest average has blocks of 32 pixels
KEYS = 32  # noise values that choose a component
SEAM = 4  # the border between two components is drawn from SEAM * SEAM noise values
CERTAINTY = 60.0  # scores are normal with this spread; at 12, one scene in five was a double exposure of two
TEXT_WEIGHT = 30.0  # a caption closer by 0.1 (cosine) is worth three spreads of the noise
SHARPNESS = 6.0  # of the border
AFFINITY = 16.0  # the second component's caption is like the first one's: water meets water, not a washing line
ANOTHER = 100.0  # spreads of the noise by which the first component is kept from being the second one, too
EDGE = "replicate"  # zeros around a picture leave a bright rim


def num_codes(height: int, width: int) -> int:
    """Return the length of the content code for a picture of this size."""
    return GLOBAL_CODES + LOCAL_CODES * (height // 8) * (width // 8)


def num_code_noise(height: int, width: int) -> int:
    """Return how many standard normal values make one content code."""
    return 2 * KEYS + SEAM * SEAM + 1 + num_codes(height, width)


def put_together(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    """Return content codes that are one code's in some places and another's in the rest.

    Args:
        first, second: (B, `num_codes(8 h, 8 w)`).
        share: (B, 1, h, w) of the first, in [0, 1].
    """
    batch, _, h8, w8 = share.shape
    whole = share.mean(dim=(2, 3))
    mixed_global = second[:, :GLOBAL_CODES] + whole * (first[:, :GLOBAL_CODES] - second[:, :GLOBAL_CODES])
    a, b = (code[:, GLOBAL_CODES:].reshape(batch, LOCAL_CODES, h8, w8) for code in (first, second))
    return torch.cat([mixed_global, (b + share * (a - b)).flatten(1)], dim=1)


def seam(noise: Tensor, height: int, width: int, mixing: float, alone: Tensor | None = None) -> Tensor:
    """Return the share of the first of two components, (B, 1, height, width) in [0, 1].

    Args:
        noise: (B, SEAM * SEAM + 1) standard normal; the last value decides whether there is a border at all.
        height, width: of the local codes.
        mixing: how readily there is one, in [0, 1].
        alone: (B, 1), 1 where there must not be one, else 0; None for 0.
    """
    coarse = noise[:, : SEAM * SEAM].reshape(-1, 1, SEAM, SEAM)
    wave = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    # At mixing 1 the border is wherever the noise changes its sign; at 0 it is out of the noise's reach.
    reach = 4.0 * (1 - mixing) * (1 + noise[:, -1:].abs())
    if alone is not None:
        reach = reach + 8.0 * alone
    return torch.sigmoid(SHARPNESS * (wave + reach[:, :, None, None]))


class ContentPrior(nn.Module):
    """Noise, and text if there is some -> content code: a mixture of the posteriors of footage.

    VampPrior (arXiv 1705.07120, eq. 9), with two changes: a scene may be put together from two components along a
    smooth border (of like captions, where there are any), and text prefers components whose captions say the like. The
    components are read from the footage at the end of a training run.
    """

    means: Tensor
    spreads: Tensor
    texts: Tensor
    keys: Tensor

    def __init__(self, height: int, width: int, components: int, text_dimensions: int = 0, mixing: float = 0.0) -> None:
        super().__init__()
        self.height, self.width, self.mixing = height, width, mixing
        size = num_codes(height, width)
        self.register_buffer("means", torch.zeros(components, size))
        self.register_buffer("spreads", torch.zeros(size))
        self.register_buffer("texts", torch.zeros(components, text_dimensions))
        keys = torch.randn(components, KEYS, generator=torch.Generator().manual_seed(1))
        self.register_buffer("keys", keys / keys.norm(dim=1, keepdim=True), persistent=False)

    def choose(self, noise: Tensor, bias: Tensor) -> Tensor:
        """Return the components' weights (B, components): nearly always one of them is 1, the others 0.

        Args:
            noise: (B, KEYS) standard normal.
            bias: (B, components) or (1, 1), in spreads of the noise.
        """
        return torch.softmax(CERTAINTY * (torch.matmul(noise, self.keys.T) + bias), dim=1)

    def forward(self, noise: Tensor, text: Tensor | None = None) -> Tensor:
        """Return codes (B, `num_codes`) for noise (B, `num_code_noise`) and text (B, D) unit vectors or zeros."""
        with torch.autocast(noise.device.type, enabled=False):
            listens = self.texts.shape[1] > 0
            bias, alone = noise.new_zeros(1, 1), None
            if listens:
                text = noise.new_zeros(len(noise), self.texts.shape[1]) if text is None else text
                bias = TEXT_WEIGHT * torch.matmul(text, self.texts.T)
                alone = text.square().sum(
                    dim=1, keepdim=True
                )  # words say what is wanted: what they choose stands alone
            first = self.choose(noise[:, :KEYS], bias)
            if listens:
                like = torch.matmul(torch.matmul(first, self.texts), self.texts.T)
                bias = bias + AFFINITY * like - ANOTHER * first
            second = self.choose(noise[:, KEYS : 2 * KEYS], bias)
            one, other = (torch.matmul(weights, self.means) for weights in (first, second))
            last = 2 * KEYS + SEAM * SEAM + 1
            share = seam(noise[:, 2 * KEYS : last], self.height // 8, self.width // 8, self.mixing, alone)
            return put_together(one, other, share) + self.spreads * noise[:, last:]


def filled_in(image: Tensor, mask: Tensor) -> Tensor:
    """Return the picture with hidden places filled smoothly from what is seen around them, by a pyramid of averages.

    Args:
        image: (B, 3, H, W) RGB in [0, 1]; what it says where the mask is 0 does not matter.
        mask: (B, 1, H, W), 1 where the image is given.

    Returns:
        (B, 3, H, W); the image where the mask is 1, a grey of 0.5 everywhere if nothing is given.
    """
    whole = mask.mean(dim=(2, 3), keepdim=True)
    mean = ((image * mask).mean(dim=(2, 3), keepdim=True) + 0.5 * 1e-4) / (whole + 1e-4)
    return spread_in(image * mask, mask, FILL_LEVELS, 1e-3, mean)


class Seen(NamedTuple):
    """What the painter has seen of a picture."""

    smooth: Tensor  # (B, 3, H, W) the picture, filled in
    x32: Tensor  # (B, 96, H/32, W/32), and the ways past the levels between:
    x16: Tensor  # (B, 96, H/16, W/16)
    x8: Tensor  # (B, 96, H/8, W/8)
    x4: Tensor  # (B, 64, H/4, W/4)


class Painter(nn.Module):
    """A U-Net from (picture, mask) and a content code to the whole picture.

    Image given: the mask is 1 everywhere and the picture comes back untouched. Nothing given: the mask is 0 and the
    code alone decides. Parts given: what is hidden is completed. One network, so that one pretraining serves all three.
    """

    grain4: Tensor
    grain2: Tensor

    def __init__(self, height: int, width: int, text_dimensions: int = 0) -> None:
        super().__init__()
        self.height, self.width = height, width
        conv = functools.partial(padded, padding_mode=EDGE)
        self.stem = conv(64 + 48, 48)  # 1/4
        self.down8 = conv(48, 64, stride=2)
        self.down16 = conv(64, 96, stride=2)
        self.down32 = conv(96, 96, stride=2)
        style = 96
        self.from_code = nn.Linear(GLOBAL_CODES, style)
        self.from_text = nn.Linear(text_dimensions, style, bias=False) if text_dimensions else None
        self.mapping = nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(style, style), nn.LeakyReLU(0.2))
        self.bottom = conv(96, 96)
        self.block32 = FiLMBlock(96, style, EDGE)
        self.merge16 = conv(96, 96)
        self.block16 = FiLMBlock(96, style, EDGE)
        self.merge8 = conv(96 + LOCAL_CODES, 96)
        self.block8 = FiLMBlock(96, style, EDGE)
        self.again8 = FiLMBlock(96, style, EDGE)
        self.narrow4 = conv(96 + GRAIN, 64)
        self.block4 = FiLMBlock(64, style, EDGE)
        self.skip16 = conv(96, 96, 1)
        self.skip8 = conv(64, 96, 1)
        self.skip4 = conv(48, 64, 1)
        self.narrow2 = conv(64 + GRAIN, 32)
        self.block2 = ResidualBlock(32, EDGE)
        self.narrow1 = conv(32, 16)
        self.to_rgb = conv(16, 3)
        with torch.no_grad():
            self.to_rgb.weight.mul_(0.3)
        # Fixed noise to carve texture from, as StyleGAN's (arXiv 1812.04948, section 3.2); without it, early
        # adversarial training answers the demand for detail with a regular grid.
        random = torch.Generator().manual_seed(0)
        self.register_buffer(
            "grain4", torch.randn(1, GRAIN, height // 4, width // 4, generator=random), persistent=False
        )
        self.register_buffer(
            "grain2", torch.randn(1, GRAIN, height // 2, width // 2, generator=random), persistent=False
        )

    def forward(self, image: Tensor, mask: Tensor, code: Tensor, text: Tensor | None = None) -> Tensor:
        """Return the completed picture.

        Args:
            image: (B, 3, H, W) RGB in [0, 1].
            mask: (B, 1, H, W), 1 where the image is given and 0 where it is to be made up.
            code: (B, `num_codes(H, W)`) content code.
            text: (B, D) unit vectors, zeros where there is no text; None if the painter does not listen to text.

        Returns:
            (B, 3, H, W) RGB in [0, 1]; equal to `image` where the mask is 1.
        """
        painted = self.paint(self.see(image, mask), code, text)
        return image * mask + painted * (1 - mask)

    def see(self, image: Tensor, mask: Tensor) -> Seen:
        """Return what is seen of a picture; arguments as in `forward`."""
        with torch.autocast(image.device.type, enabled=False):
            smooth = filled_in(image.float(), mask.float())
        known = torch.cat([(2 * image - 1) * mask, mask, 2 * smooth - 1], dim=1)
        x4 = self.stem(F.pixel_unshuffle(known, 4))
        x8 = self.down8(F.leaky_relu(x4, 0.2))
        x16 = self.down16(F.leaky_relu(x8, 0.2))
        x32 = self.down32(F.leaky_relu(x16, 0.2))
        return Seen(smooth, self.bottom(F.leaky_relu(x32, 0.2)), self.skip16(x16), self.skip8(x8), self.skip4(x4))

    def paint(self, seen: Seen, code: Tensor, text: Tensor | None = None) -> Tensor:
        """Return a picture, (B, 3, H, W) RGB in [0, 1]; arguments as in `forward`."""
        batch = code.shape[0]
        local = code[:, GLOBAL_CODES:].reshape(batch, LOCAL_CODES, self.height // 8, self.width // 8)
        style = self.from_code(code[:, :GLOBAL_CODES])
        if self.from_text is not None and text is not None:
            style = style + self.from_text(text)
        style = self.mapping(style)
        x = self.block32(seen.x32, style)
        x = self.block16(self.merge16(enlarge(x) + seen.x16), style)
        x = self.merge8(torch.cat([enlarge(x) + seen.x8, local.to(x.dtype)], dim=1))
        x = self.again8(self.block8(x, style), style)
        grain4, grain2 = (grain.expand(batch, -1, -1, -1).to(x.dtype) for grain in (self.grain4, self.grain2))
        x = self.block4(self.narrow4(torch.cat([enlarge(x), grain4], dim=1)) + seen.x4, style)
        # Enlarged, not shuffled: sub-pixels of their own are where a discriminator's first gradients grow a grid.
        x = self.block2(self.narrow2(torch.cat([enlarge(F.leaky_relu(x, 0.2)), grain2], dim=1)))
        x = F.leaky_relu(self.narrow1(enlarge(F.leaky_relu(x, 0.2))), 0.2)
        return torch.sigmoid(self.to_rgb(x).float() + torch.logit(seen.smooth.clamp(0.02, 0.98)))

    @torch.no_grad()
    def seen_nothing(self) -> Seen:
        """Return what is seen if nothing is given, with one value per channel: it is the same everywhere."""
        nothing = torch.zeros(1, 3, 64, 64)
        return Seen(*(level.mean(dim=(2, 3), keepdim=True) for level in self.see(nothing, nothing[:, :1])))


class CodeHead(nn.Module):
    """The posterior of the content code given what the encoder knows (first half of a VAE, Kingma and Welling 2014).

    Used in training only: it gives the painter codes that mean something, so that the adversarial stage does not start
    from noise.

    Args:
        channels: of the encoder's levels at 1/8, 1/16 and 1/32.
    """

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        c8, c16, c32 = channels
        self.coarse = padded(c32, c16, 1)
        self.medium = padded(c16, c8, 1)
        self.local = nn.Sequential(ResidualBlock(c8), nn.LeakyReLU(0.2))
        self.to_local = padded(c8, 2 * LOCAL_CODES)
        self.whole = nn.Sequential(ResidualBlock(c32), nn.LeakyReLU(0.2))
        self.to_global = nn.Linear(c32, 2 * GLOBAL_CODES)

    def forward(self, x8: Tensor, x16: Tensor, x32: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the code, each (B, num_codes), for the encoder's three coarsest levels."""
        local = x8 + upsample(self.medium(x16 + upsample(self.coarse(x32))))
        local_mean, local_logvar = self.to_local(self.local(local)).float().flatten(2).chunk(2, dim=1)
        global_mean, global_logvar = self.to_global(self.whole(x32).mean(dim=(2, 3))).float().chunk(2, dim=1)
        mean = torch.cat([global_mean, local_mean.flatten(1)], dim=1)
        logvar = torch.cat([global_logvar, local_logvar.flatten(1)], dim=1)
        return mean, logvar.clamp(-8.0, 2.0)
