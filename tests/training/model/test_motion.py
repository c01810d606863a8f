"""The motion that a clip shows: known moves are found again, flat places say that they know nothing."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.model.motion import ObservedFlow

HEIGHT, WIDTH = 64, 96


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def sliding(x: float, y: float, frames: int = 4, seed: int = 0) -> Tensor:
    """Return a clip (1, T, 3, H, W) of a soft texture that slides by (x, y) pixels per frame."""
    random = torch.Generator().manual_seed(seed)
    scene = torch.rand(1, 3, 20, 28, generator=random)
    scene = F.interpolate(scene, size=(HEIGHT + 64, WIDTH + 64), mode="bicubic").clamp(0, 1)
    rows, columns = torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5
    out = []
    for time in range(frames):
        grid_y = (rows + 32 - y * time) * 2 / (HEIGHT + 64) - 1
        grid_x = (columns + 32 - x * time) * 2 / (WIDTH + 64) - 1
        grid = torch.stack(torch.meshgrid(grid_y, grid_x, indexing="ij")[::-1], dim=-1)[None]
        out.append(F.grid_sample(scene, grid, align_corners=False))
    return torch.stack(out, dim=1)


@pytest.mark.parametrize(("x", "y"), [(0.0, 0.0), (1.0, 0.0), (-0.6, 1.3), (3.0, -2.0), (0.25, 0.1)])
def test_a_slide_is_found_again(x: float, y: float) -> None:
    found = ObservedFlow(HEIGHT, WIDTH)(sliding(x, y))
    assert found.shape == (1, 3, HEIGHT // 4, WIDTH // 4)
    inside = found[:, :, 3:-3, 3:-3]
    assert inside[:, 0].mean().item() == pytest.approx(x, abs=0.03 + 0.08 * abs(x))
    assert inside[:, 1].mean().item() == pytest.approx(y, abs=0.03 + 0.08 * abs(y))
    assert inside[:, :2].std(dim=(2, 3)).max() < 0.1 + 0.15 * max(abs(x), abs(y))
    assert inside[:, 2].mean() > 0.8


def test_flat_places_claim_nothing() -> None:
    clip = sliding(1.0, 0.0)
    clip[..., WIDTH // 2 :] = 0.5
    found = ObservedFlow(HEIGHT, WIDTH)(clip)
    left, right = found[..., 2:8], found[..., -6:-2]
    assert right[:, 2].max() < 0.05 < 0.8 < left[:, 2].mean()
    assert right[:, :2, :, -2:].abs().max() < 0.05  # a window of the coarsest level reaches 20 pixels over the edge
    assert left[:, 0, 3:-3].mean().item() == pytest.approx(1.0, abs=0.1)


def test_each_clip_of_a_batch_has_its_own_flow_and_nothing_to_learn() -> None:
    observed = ObservedFlow(HEIGHT, WIDTH)
    clips = torch.cat([sliding(1.0, 0.5), sliding(-1.0, 0.0, seed=1)])
    both = observed(clips)
    assert torch.allclose(both[1:], observed(clips[1:]), atol=1e-5)
    assert not list(observed.parameters())
    assert not observed.state_dict(), "a checkpoint of another size must load"


def test_a_hard_change_gives_finite_values() -> None:
    torch.manual_seed(0)
    clip = torch.rand(1, 4, 3, HEIGHT, WIDTH).round()  # nothing in one frame is in the next
    found = ObservedFlow(HEIGHT, WIDTH)(clip)
    assert torch.isfinite(found).all()
    assert 0 <= found[:, 2].min() <= found[:, 2].max() <= 1
    assert found[:, :2].abs().max() < 40
