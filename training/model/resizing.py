"""A trained generator at another frame size, with the same weights.

What is learned are convolutions, and they work on any size. What a frame size is built into falls into two kinds.

In pixels, and built anew: sampling grids, the clocks' phases (waves of about 100 pixels) and the observed flow. All
displacements (flow, sway, wind) stay in pixels of the frame, so on a frame of twice the side a place moves as many
pixels per frame, half as much of the picture.

In places, and kept: the mixture's local codes and the painter's noise. They were optimised together, cell by cell,
until each code gave its own picture back, and they do not survive being moved to other cells: with codes resized over
tiled noise, pictures lose most of their detail and get the texture of leather. So what is made up is made up at the
trained size and then resized as a picture; where parts are given, the painter sees them at the trained size. A scene is
stretched to the frame, its layout stays. It gets no sharper by being larger.

A picture or clip that is given whole is never resized here: it is played in all its detail.

Legend: B batch, H height, W width of the frame; h, w of the trained frame.
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.model.generator import VideoGenerator
from training.model.painter import LOCAL_CODES, ContentPrior, Painter, num_code_noise


def resizing_matrix(count: int, wanted: int, mode: str) -> Tensor:
    """Return what resizes one side of a picture, (wanted, count): each row sums to 1, the identity at the same size.

    Args:
        count: pixels that there are.
        wanted: pixels that there are to be.
        mode: "bilinear", which never leaves the range of its pixels, or "bicubic", which is sharper. Both average over
            what a smaller picture cannot show.
    """
    return F.interpolate(torch.eye(count)[None, None], size=(wanted, count), mode=mode, antialias=True)[0, 0]


class Resizing(nn.Module):
    """Resizes pictures from one size to another, as two products with constants: every engine has those.

    Args:
        before: height and width of what comes.
        after: height and width of what is wanted.
        mode: as for `resizing_matrix`.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, before: tuple[int, int], after: tuple[int, int], mode: str) -> None:
        super().__init__()
        self.register_buffer("rows", resizing_matrix(before[0], after[0], mode), persistent=False)
        columns = resizing_matrix(before[1], after[1], mode).T.contiguous()
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, picture: Tensor) -> Tensor:
        """Return the picture (B, C, *before) as (B, C, *after), in FP32 whatever the autocast."""
        with torch.autocast(picture.device.type, enabled=False):
            return torch.matmul(torch.matmul(self.rows, picture.float()), self.columns)


class ResizedPrior(ContentPrior):
    """The mixture of the trained size, fed with as much noise as a generator of the frame's size is given.

    Noise that chooses components, their border and the values that reach the whole picture is the same at every size:
    a seed's scene stays that scene. A cell of the trained size takes the noise of the cell of the frame that lies
    there; cells that must share one are shaken alike.

    Args:
        height, width: of the trained frame.
        components, text_dimensions, mixing: as for `ContentPrior`.
        frame: height and width of the frame.
    """

    taken: Tensor

    def __init__(
        self, height: int, width: int, components: int, text_dimensions: int, mixing: float, frame: tuple[int, int]
    ) -> None:
        super().__init__(height, width, components, text_dimensions, mixing)
        cells = LOCAL_CODES * (frame[0] // 8) * (frame[1] // 8)
        shared = num_code_noise(*frame) - cells
        local = torch.arange(cells).reshape(LOCAL_CODES, frame[0] // 8, frame[1] // 8)
        rows, columns = (
            torch.arange(trained // 8) * (side // 8) // (trained // 8)
            for trained, side in zip((height, width), frame, strict=True)
        )
        local = local[:, rows][:, :, columns].flatten()
        self.register_buffer("taken", torch.cat([torch.arange(shared), shared + local]), persistent=False)

    def forward(self, noise: Tensor, text: Tensor | None = None) -> Tensor:
        """Return codes (B, `num_codes(h, w)`) for noise (B, `num_code_noise(H, W)`) and text, as `ContentPrior`."""
        return super().forward(noise.index_select(1, self.taken), text)


class ResizedPainter(Painter):
    """The painter of the trained size for frames of another size.

    Args:
        height, width: of the trained frame.
        text_dimensions: as for `Painter`.
        frame: height and width of the frame.
    """

    def __init__(self, height: int, width: int, text_dimensions: int, frame: tuple[int, int]) -> None:
        super().__init__(height, width, text_dimensions)
        self.look = Resizing(frame, (height, width), "bilinear")
        self.show = Resizing((height, width), frame, "bicubic")

    def forward(self, image: Tensor, mask: Tensor, code: Tensor, text: Tensor | None = None) -> Tensor:
        """Return the completed picture (B, 3, H, W), equal to `image` where the mask is 1.

        Args:
            image, mask: of the frame's size, otherwise as for `Painter.forward`.
            code: (B, `num_codes(h, w)`), of the trained size.
            text: as for `Painter.forward`.
        """
        share = self.look(mask)
        seen = self.look(image * mask) / share.clamp(min=1e-4)  # a cell's colour is that of its given part
        painted = self.show(super().forward(seen.clamp(0.0, 1.0), share, code, text)).clamp(0.0, 1.0)
        return image * mask + painted * (1 - mask)


def resized(generator: VideoGenerator, size: tuple[int, int]) -> VideoGenerator:
    """Return the generator for frames of another size: the same weights, with the same names and shapes.

    Args:
        generator: for whole frames; left as it is, and returned itself if it has that size already. What was resized
            before is resized from the trained size again.
        size: width and height in pixels.

    Raises:
        ValueError: they are not multiples of 32 from 64 up.
    """
    width, height = size
    shape = dataclasses.replace(generator.shape, height=height, width=width)
    if shape == generator.shape:
        return generator
    made = VideoGenerator(shape)
    painter = generator.condition.painter
    trained, frame = (painter.height, painter.width), (height, width)
    if trained != frame:
        made.condition.prior = ResizedPrior(
            *trained, shape.components, shape.text_dimensions, mixing=shape.mixing, frame=frame
        )
        made.condition.painter = ResizedPainter(*trained, shape.text_dimensions, frame)
    made.load_state_dict(generator.state_dict())
    return made.to(next(generator.parameters()).device).train(generator.training)
