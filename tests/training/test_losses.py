"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training import losses


def test_pooled_l1_averages_over_block_sizes() -> None:
    real = torch.zeros(1, 1, 2, 2)
    made = torch.tensor([[[[1.0, -1.0], [0.0, 0.0]]]])
    # Pixel by pixel the mean of |1|, |-1|, 0, 0 is 0.5; over the 2 x 2 block the values cancel.
    assert losses.pooled_l1(made, real, (1,)).item() == pytest.approx(0.5)
    assert losses.pooled_l1(made, real, (2,)).item() == pytest.approx(0.0)
    assert losses.pooled_l1(made, real, (1, 2)).item() == pytest.approx(0.25)


def test_flow_error_is_the_length_of_the_difference() -> None:
    made, real = torch.zeros(1, 2, 1, 1), torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    assert losses.flow_error(made, real).item() == pytest.approx(math.sqrt(25 + 1e-4))


def test_code_divergence_is_zero_at_the_prior_and_known_elsewhere() -> None:
    zero = torch.zeros(2, 3)
    assert losses.code_divergence(zero, zero).item() == 0
    # KL(N(1, 1) || N(0, 1)) = 1/2; KL(N(0, e) || N(0, 1)) = (e - 1 - 1) / 2.
    assert losses.code_divergence(zero + 1, zero).item() == pytest.approx(0.5)
    assert losses.code_divergence(zero, zero + 1).item() == pytest.approx((math.e - 2) / 2)


def test_motion_energy_mismatch_is_the_log_of_the_ratio() -> None:
    real = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.2)])[None]
    half = torch.stack([torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1)])[None]
    floor = 0.5 / 255
    assert losses.motion_energy_mismatch(real, real).item() == 0
    expected = math.log((0.2 + floor) / (0.1 + floor))
    assert losses.motion_energy_mismatch(half, real).item() == pytest.approx(expected, rel=1e-5)
    frozen = torch.zeros(1, 2, 3, 4, 4)
    assert losses.motion_energy_mismatch(frozen, real).item() > losses.motion_energy_mismatch(half, real).item()


def test_relativistic_losses_compare_pairs_and_only_the_own_side_gets_a_gradient() -> None:
    fake, real = torch.tensor([1.0], requires_grad=True), torch.tensor([3.0], requires_grad=True)
    generator = losses.relativistic_generator(fake, real)
    assert generator.item() == pytest.approx(math.log1p(math.exp(2)))
    generator.backward()
    assert fake.grad is not None
    assert fake.grad.item() < 0  # a step against it makes the fake look more real
    assert real.grad is None
    discriminator = losses.relativistic_discriminator(fake.detach(), real.detach())
    assert discriminator.item() == pytest.approx(math.log1p(math.exp(-2)))


def test_penalty_and_feature_distance() -> None:
    assert losses.finite_difference_penalty(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0])).item() == 2.0
    fake, real = [torch.tensor([[1.0], [3.0]])], [torch.tensor([[0.0], [1.0]])]
    assert losses.feature_distance(fake, real).item() == pytest.approx(1.5)
