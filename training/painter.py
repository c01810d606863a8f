"""The painter: completes a picture from the parts that are given, or makes one up from a content code.

Legend: B batch, C channels, H height, W width. It runs once per prompt, never per frame.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.layers import FiLMBlock, ResidualBlock, conv, enlarge, upsample

GLOBAL_CODES = 64  # values of the content code that reach the whole picture
LOCAL_CODES = 12  # channels of the content code that belong to one place, at 1/16 of the size
GRAIN = 4  # channels of fixed noise
COMPONENTS = 256  # of the mixture that content codes are drawn from
FILL_LEVELS = 5  # the coarsest average has blocks of 32 pixels
KEYS = 32  # noise values that choose the component


def num_codes(height: int, width: int) -> int:
    """Return the length of the content code for a picture of this size."""
    return GLOBAL_CODES + LOCAL_CODES * (height // 16) * (width // 16)


def num_code_noise(height: int, width: int) -> int:
    """Return how many standard normal values make one content code."""
    return KEYS + num_codes(height, width)


class ContentPrior(nn.Module):
    """Noise -> content code: a mixture of the posteriors of footage (VampPrior, arXiv 1705.07120, eq. 9).

    The components' means and spreads are read from the footage once, before the adversarial stage. The first noise
    values choose among them, softly, so that noise that moves a little moves the picture a little.
    """

    means: Tensor
    spreads: Tensor
    keys: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        size = num_codes(height, width)
        self.register_buffer("means", torch.zeros(COMPONENTS, size))
        self.register_buffer("spreads", torch.ones(COMPONENTS, size))
        keys = torch.randn(COMPONENTS, KEYS, generator=torch.Generator().manual_seed(1))
        self.register_buffer("keys", keys / keys.norm(dim=1, keepdim=True), persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        """Return codes (B, `num_codes`) for standard normal noise (B, `num_code_noise`)."""
        with torch.autocast(noise.device.type, enabled=False):
            # Scores are standard normal; at 12 times that, one component nearly always has the say alone.
            weights = torch.softmax(12.0 * torch.matmul(noise[:, :KEYS], self.keys.T), dim=1)
            return torch.matmul(weights, self.means) + torch.matmul(weights, self.spreads) * noise[:, KEYS:]


def filled_in(image: Tensor, mask: Tensor) -> Tensor:
    """Return the picture with hidden places filled smoothly from what is seen around them, by a pyramid of averages.

    Args:
        image: (B, 3, H, W) RGB in [0, 1]; what it says where the mask is 0 does not matter.
        mask: (B, 1, H, W), 1 where the image is given.

    Returns:
        (B, 3, H, W); the image where the mask is 1, a grey of 0.5 everywhere if nothing is given.
    """
    sums, weights = [image * mask], [mask]
    for _ in range(FILL_LEVELS):
        sums.append(F.avg_pool2d(sums[-1], 2))
        weights.append(F.avg_pool2d(weights[-1], 2))
    # Each level trusts its own average where it has one, else the coarser level's.
    whole = mask.mean(dim=(2, 3), keepdim=True)
    value = ((image * mask).mean(dim=(2, 3), keepdim=True) + 0.5 * 1e-4) / (whole + 1e-4)
    value = value.expand(-1, -1, *sums[-1].shape[2:])
    for level in range(FILL_LEVELS, -1, -1):
        if value.shape[2:] != sums[level].shape[2:]:
            value = enlarge(value)
        value = (sums[level] + 1e-3 * value) / (weights[level] + 1e-3)
    return value


class Painter(nn.Module):
    """A U-Net from (picture, mask) and a content code to the whole picture.

    Image given: the mask is 1 everywhere and the picture comes back untouched. Nothing given: the mask is 0 and the
    code alone decides. Parts given: what is hidden is completed. One network, so that one pretraining serves all three.
    """

    grain4: Tensor
    grain2: Tensor

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.stem = conv(64 + 48, 48)  # 1/4
        self.down8 = conv(48, 64, stride=2)
        self.down16 = conv(64, 96, stride=2)
        self.down32 = conv(96, 128, stride=2)
        style = 96
        self.mapping = nn.Sequential(
            nn.Linear(GLOBAL_CODES, style), nn.LeakyReLU(0.2), nn.Linear(style, style), nn.LeakyReLU(0.2)
        )
        self.bottom = conv(128, 128)
        self.block32 = FiLMBlock(128, style)
        self.merge16 = conv(128 + LOCAL_CODES, 128)
        self.block16 = FiLMBlock(128, style)
        self.narrow8 = conv(128, 96)
        self.block8 = FiLMBlock(96, style)
        self.narrow4 = conv(96 + GRAIN, 64)
        self.block4 = FiLMBlock(64, style)
        self.skip16 = conv(96, 128, 1)
        self.skip8 = conv(64, 96, 1)
        self.skip4 = conv(48, 64, 1)
        self.narrow2 = conv(64 + GRAIN, 32)
        self.block2 = ResidualBlock(32)
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

    def forward(self, image: Tensor, mask: Tensor, code: Tensor) -> Tensor:
        """Return the completed picture.

        Args:
            image: (B, 3, H, W) RGB in [0, 1].
            mask: (B, 1, H, W), 1 where the image is given and 0 where it is to be made up.
            code: (B, `num_codes(H, W)`) content code, standard normal.

        Returns:
            (B, 3, H, W) RGB in [0, 1]; equal to `image` where the mask is 1.
        """
        batch = image.shape[0]
        with torch.autocast(image.device.type, enabled=False):
            smooth = filled_in(image.float(), mask.float())
        known = torch.cat([(2 * image - 1) * mask, mask, 2 * smooth - 1], dim=1)
        x4 = self.stem(F.pixel_unshuffle(known, 4))
        x8 = self.down8(F.leaky_relu(x4, 0.2))
        x16 = self.down16(F.leaky_relu(x8, 0.2))
        x32 = self.down32(F.leaky_relu(x16, 0.2))
        local = code[:, GLOBAL_CODES:].reshape(batch, LOCAL_CODES, self.height // 16, self.width // 16)
        style = self.mapping(code[:, :GLOBAL_CODES])
        x = self.block32(self.bottom(F.leaky_relu(x32, 0.2)), style)
        x = self.merge16(torch.cat([enlarge(x) + self.skip16(x16), local.to(x.dtype)], dim=1))
        x = self.block16(x, style)
        x = self.block8(self.narrow8(enlarge(x)) + self.skip8(x8), style)
        grain4, grain2 = (grain.expand(batch, -1, -1, -1).to(x.dtype) for grain in (self.grain4, self.grain2))
        x = self.block4(self.narrow4(torch.cat([enlarge(x), grain4], dim=1)) + self.skip4(x4), style)
        # Enlarged, not shuffled: sub-pixels of their own are where a critic's first gradients grow a grid.
        x = self.block2(self.narrow2(torch.cat([enlarge(F.leaky_relu(x, 0.2)), grain2], dim=1)))
        x = F.leaky_relu(self.narrow1(enlarge(F.leaky_relu(x, 0.2))), 0.2)
        painted = torch.sigmoid(self.to_rgb(x).float() + torch.logit(smooth.clamp(0.02, 0.98)))  # (B, 3, H, W)
        return image * mask + painted * (1 - mask)


class CodeHead(nn.Module):
    """The posterior of the content code given what the encoder knows (first half of a VAE, Kingma and Welling 2014).

    Used in training only: it gives the painter codes that mean something, so that the adversarial stage does not start
    from noise.

    Args:
        channels: of the encoder's levels at 1/16 and 1/32.
    """

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.coarse = conv(channels[1], channels[0], 1)
        self.local = nn.Sequential(ResidualBlock(channels[0]), nn.LeakyReLU(0.2))
        self.to_local = conv(channels[0], 2 * LOCAL_CODES)
        self.whole = nn.Sequential(ResidualBlock(channels[1]), nn.LeakyReLU(0.2))
        self.to_global = nn.Linear(channels[1], 2 * GLOBAL_CODES)

    def forward(self, x16: Tensor, x32: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log-variance of the code, each (B, num_codes), for the encoder's two coarsest levels."""
        local = self.to_local(self.local(x16 + upsample(self.coarse(x32))))
        local_mean, local_logvar = local.float().flatten(2).chunk(2, dim=1)
        global_mean, global_logvar = self.to_global(self.whole(x32).mean(dim=(2, 3))).float().chunk(2, dim=1)
        mean = torch.cat([global_mean, local_mean.flatten(1)], dim=1)
        logvar = torch.cat([global_logvar, local_logvar.flatten(1)], dim=1)
        return mean, logvar.clamp(-8.0, 2.0)
