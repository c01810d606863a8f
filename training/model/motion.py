"""What a clip says about its own motion: optical flow in the graph, without a weight.

Lucas and Kanade 1981, coarse to fine, one flow for all frames of the clip: the normal equations of every pair of frames
are added up before they are solved. A few poolings, products and warps, so that it runs wherever the condition graph
runs; good for what moves steadily, and sure of itself only where there is texture.

Legend: B batch, T frames, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.layers import Warp, resize, spread_in

LEVELS = (8, 8, 4, 2)  # the picture is divided by; each is one step of refinement
WINDOW = 5  # side of the window, in cells of the level
DOUBT = 2e-5  # added to the mean squared gradient: where there is less texture than this, the flow stays what it was
HALVINGS = 2  # of the coarsest level, to fill what is hidden; H and W are then multiples of 8 * 4
REACH = 1.0  # cells of the level by which one step may change the flow


class ObservedFlow(nn.Module):
    """Frames -> steady flow and how sure it is.

    Args:
        height: of the frames.
        width: the like.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.warps = nn.ModuleList(Warp(height // level, width // level, height, width) for level in LEVELS)

    def forward(self, frames: Tensor, seen: Tensor | None = None) -> Tensor:
        """Return the flow of clips.

        Args:
            frames: (B, T, 3, H, W) RGB in [0, 1], T at least 2.
            seen: (B, T, 1, H, W), 0 where a frame says nothing, else 1; None for 1 everywhere. H and W are then
                multiples of 32.

        Returns:
            (B, 3, H/4, W/4) float32: flow x, y in pixels per frame, and certainty in [0, 1].
        """
        batch, count = frames.shape[:2]
        with torch.autocast(frames.device.type, enabled=False):
            grey = frames.float().mean(dim=2)  # (B, T, H, W)
            flow = grey.new_zeros(batch, 2, self.height // LEVELS[0], self.width // LEVELS[0])
            certainty = flow[:, :1]
            for level, warp in zip(LEVELS, self.warps, strict=True):
                small = F.avg_pool2d(grey, level)
                size = small.shape[-2:]
                flow = resize(flow, *size)
                before = small[:, :-1].flatten(0, 1)[:, None]  # (B * (T - 1), 1, h, w)
                after = small[:, 1:].flatten(0, 1)[:, None]
                moves = flow[:, None].expand(-1, count - 1, -1, -1, -1).flatten(0, 1)
                after = warp(after, -moves)
                products = normal_equations(before, after)
                if seen is not None:  # a cell beside one that is hidden has an edge that is not the picture's
                    hidden = F.max_pool2d(F.max_pool2d(1 - seen.flatten(0, 1).float(), level), 3, 1, 1)
                    clear = (1 - hidden).unflatten(0, (batch, count))
                    both = clear[:, :-1] * clear[:, 1:]
                    products = products * both.flatten(0, 1)
                products = products.reshape(batch, count - 1, 5, *size).mean(dim=1)
                products = F.avg_pool2d(products, WINDOW, 1, WINDOW // 2, count_include_pad=False)
                step = solved(products).clamp(-REACH, REACH)
                if seen is None:
                    flow = flow + level * _smoothed(step)
                else:  # what is hidden has no say in what is beside it
                    says = both.mean(dim=1)
                    flow = flow + level * _smoothed(step * says) / (_smoothed(says) + 1e-3)
                    if level == LEVELS[0]:  # what is hidden starts the finer levels like what is around it
                        mean = (flow * says).mean(dim=(2, 3), keepdim=True) / (
                            says.mean(dim=(2, 3), keepdim=True) + 1e-4
                        )
                        flow = spread_in(flow * says, says, HALVINGS, 0.02, mean)
                energy = products[:, :1] + products[:, 2:3]
                certainty = energy / (energy + 2 * DOUBT)
            quarter = self.height // 4, self.width // 4
            return torch.cat([resize(flow, *quarter), resize(certainty, *quarter)], dim=1)


def normal_equations(before: Tensor, after: Tensor) -> Tensor:
    """Return the products of gradients and change, (B, 5, h, w): xx, xy, yy, xt, yt, of pictures (B, 1, h, w)."""
    middle = F.pad(0.5 * (before + after), (1, 1, 1, 1), mode="replicate")
    x = 0.5 * (middle[:, :, 1:-1, 2:] - middle[:, :, 1:-1, :-2])
    y = 0.5 * (middle[:, :, 2:, 1:-1] - middle[:, :, :-2, 1:-1])
    change = after - before
    return torch.cat([x * x, x * y, y * y, x * change, y * change], dim=1)


def solved(products: Tensor) -> Tensor:
    """Return the flow, (B, 2, h, w) in pixels, for averaged products (B, 5, h, w); 0 where there is no texture."""
    xx, xy, yy, xt, yt = (products[:, index : index + 1] for index in range(5))
    xx, yy = xx + DOUBT, yy + DOUBT
    return torch.cat([xy * yt - yy * xt, xy * xt - xx * yt], dim=1) / (xx * yy - xy * xy)


def _smoothed(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
