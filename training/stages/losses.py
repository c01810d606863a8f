"""Losses, each with its source. Legend: B batch, T frames, C channels, H height, W width."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pooled_l1(made: Tensor, real: Tensor, sizes: tuple[int, ...] = (1, 2, 4, 8)) -> Tensor:
    """Return the L1 distance averaged over block sizes; a scalar for pictures (B, C, H, W) in [0, 1].

    Coarse blocks forgive what has moved by less than their size, so the term pulls less towards standing still.
    """
    made, real = made.float(), real.float()
    terms = [(F.avg_pool2d(made, size) - F.avg_pool2d(real, size)).abs().mean() for size in sizes]
    return torch.stack(terms).mean()


def where_it_moves(amount: Tensor) -> Tensor:
    """Return weights (B, h, w) for what moves by `amount` (B, h, w): more where more moves, of mean about 1.

    Most places of most pictures stand still. With equal weights and an absolute error the best answer is stillness
    everywhere, and it is the answer that networks give.
    """
    share = amount / amount.mean(dim=(1, 2), keepdim=True).clamp(min=1e-3)
    return 0.5 + 0.5 * share.sqrt()


def flow_error(made: Tensor, real: Tensor, is_known: Tensor | None = None) -> Tensor:
    """Return the mean end-point error relative to each clip's own motion, quadratic below a third of a pixel.

    A picture does not tell whether its clouds drift left or right. Of all answers to such a question the mean is
    stillness; so where nothing but the picture was seen, the same motion the other way round is as right, for the
    whole clip at once. What falls still falls: only the horizontal part is turned round.

    Relative, because a brook that creeps is as much of a scene as a storm: in pixels, fast clips would be all that
    counts. Quadratic near 0, so that the best answer to doubt is the mean and not the median, which is stillness.

    Args:
        made: (B, 2, h, w) pixels per frame.
        real: the like; a clip that moves by less than a tenth of a pixel counts as if it moved by that.
        is_known: (B,) bool, for which clips there is only one way, since their past was seen; None: for none.
    """
    soft = 0.3
    speed = torch.sqrt((real**2).sum(dim=1))
    weight = where_it_moves(speed)
    turned = real * torch.tensor([-1.0, 1.0], device=real.device).reshape(1, 2, 1, 1)
    one, other = (
        (weight * (torch.sqrt(((made.float() - way) ** 2).sum(dim=1) + soft**2) - soft)).mean(dim=(1, 2))
        for way in (real, turned)
    )
    error = torch.minimum(one, other)
    if is_known is not None:
        error = torch.where(is_known, one, error)
    return (error / (speed.mean(dim=(1, 2)) + 0.1)).mean()


def sway_error(made: Tensor, real: Tensor) -> Tensor:
    """Return |log(made / real)| of root mean square displacements (B, 1, h, w) in pixels, softened near 0.

    In logarithms, so that a wall that sways by a little counts like a tree that sways by far too little.
    """
    floor = 0.15
    error = (torch.log(made.float() + floor) - torch.log(real + floor)).abs()
    return (error * where_it_moves(real[:, 0])[:, None]).mean()


def code_divergence(mean: Tensor, logvar: Tensor) -> Tensor:
    """Return KL(q(z|x) || N(0, 1)) per value of the code (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()


def motion_energy_mismatch(made: Tensor, real: Tensor) -> Tensor:
    """Return |log(motion of made / motion of real)|, the motion of a clip being its mean frame difference.

    Args:
        made: (B, T, C, H, W) consecutive frames.
        real: the like.
    """
    made_energy = (made[:, 1:] - made[:, :-1]).float().abs().mean(dim=(1, 2, 3, 4))
    real_energy = (real[:, 1:] - real[:, :-1]).float().abs().mean(dim=(1, 2, 3, 4))
    # Below one grey level the footage's own compression noise is all there is: no reason to imitate it.
    floor = 0.5 / 255
    return (torch.log(made_energy + floor) - torch.log(real_energy + floor)).abs().mean()


def relativistic_generator(fake: Tensor, real: Tensor) -> Tensor:
    """Return softplus(real - fake): the generator's side of the relativistic pairing loss (arXiv 2501.05441, eq. 2)."""
    return F.softplus(real.detach() - fake).mean()


def relativistic_discriminator(fake: Tensor, real: Tensor) -> Tensor:
    """Return the discriminator's side of the relativistic pairing loss: softplus(fake - real)."""
    return F.softplus(fake - real).mean()


def finite_difference_penalty(logits: Tensor, perturbed: Tensor) -> Tensor:
    """Return ||D(x) - D(x + sigma * e)||^2: R1 on real x, R2 on fake, without a double backward (arXiv 2501.08316)."""
    return (logits - perturbed).square().mean()


def feature_distance(fake: list[Tensor], real: list[Tensor]) -> Tensor:
    """Return the mean L1 distance of batch-mean features, level by level (Salimans et al. 2016, section 3.1)."""
    terms = [(f.float().mean(0) - r.detach().float().mean(0)).abs().mean() for f, r in zip(fake, real, strict=True)]
    return torch.stack(terms).mean()


class DivergenceError(ValueError):
    """Training has diverged; the weights since the last checkpoint are useless."""


def require_finite(loss: Tensor, stage: str, iteration: int) -> None:
    """Raise DivergenceError if a loss is not finite, before its gradients are computed."""
    if not bool(torch.isfinite(loss.detach())):
        raise DivergenceError(f"{stage} diverged at iteration {iteration}: its loss is {float(loss.detach())}")
