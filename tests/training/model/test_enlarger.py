"""The enlarger: size, reach, edges."""

from __future__ import annotations

import pytest
import torch

from training.model.enlarger import FACTOR, Enlarger


@pytest.fixture
def enlarger() -> Enlarger:
    torch.manual_seed(0)
    made = Enlarger(8, 3).eval().requires_grad_(False)
    made.last.weight.mul_(20)
    return made


def test_a_picture_becomes_four_times_as_large(enlarger: Enlarger) -> None:
    picture = torch.rand(2, 3, 12, 20)
    large = enlarger.whole(picture)
    assert large.shape == (2, 3, 48, 80)
    assert 0 <= large.min() < large.max() <= 1


def test_it_starts_as_a_smooth_enlargement() -> None:
    """Pixels of a block start equal, so that there is no grid to unlearn."""
    torch.manual_seed(0)
    fresh, picture = Enlarger(8, 3), torch.full((1, 3, 12, 12), 0.5)
    inner = fresh(picture)[:, :, 20:-20, 20:-20]
    assert torch.allclose(inner, inner.mean(dim=(2, 3), keepdim=True).expand_as(inner), atol=1e-5)


def test_a_plain_picture_has_no_rim(enlarger: Enlarger) -> None:
    plain = torch.tensor([0.2, 0.5, 0.8])[None, :, None, None].expand(1, 3, 16, 16)
    large = enlarger.whole(plain).unflatten(2, (-1, FACTOR)).unflatten(4, (-1, FACTOR))
    assert torch.allclose(large, large[:, :, 8:9, :, 8:9].expand_as(large), atol=1e-5)


def test_a_pixel_reaches_as_far_as_is_said(enlarger: Enlarger) -> None:
    picture = torch.full((1, 3, 32, 32), 0.5)
    changed = picture.clone()
    changed[:, :, 16, 16] = 1.0
    difference = (enlarger(changed) - enlarger(picture)).abs().amax(dim=(0, 1))
    rows = torch.nonzero(difference.amax(dim=1))[:, 0] // FACTOR
    assert 16 - enlarger.reach <= rows.min() <= 14
    assert 18 <= rows.max() <= 16 + enlarger.reach
