"""Losses against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from training.stages import losses


def test_pooled_l1_averages_over_block_sizes() -> None:
    real = torch.zeros(1, 1, 2, 2)
    made = torch.tensor([[[[1.0, -1.0], [0.0, 0.0]]]])
    # Pixel by pixel the mean of |1|, |-1|, 0, 0 is 0.5; over the 2 x 2 block the values cancel.
    assert losses.pooled_l1(made, real, (1,)).item() == pytest.approx(0.5)
    assert losses.pooled_l1(made, real, (2,)).item() == pytest.approx(0.0)
    assert losses.pooled_l1(made, real, (1, 2)).item() == pytest.approx(0.25)


def test_flow_error_is_the_length_of_the_difference_beside_the_clips_own_speed() -> None:
    made, real = torch.zeros(1, 2, 1, 1), torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    expected = (math.sqrt(25 + 0.3**2) - 0.3) / 5.1
    assert losses.flow_error(made, real).item() == pytest.approx(expected)
    # A clip that moves a tenth as fast and is as wrong counts for much more than a tenth.
    both = losses.flow_error(torch.zeros(2, 2, 1, 1), torch.cat([real, 0.1 * real]))
    slow = (math.sqrt(0.25 + 0.3**2) - 0.3) / 0.6
    assert both.item() == pytest.approx((expected + slow) / 2, rel=1e-4)
    assert slow > 0.4 * expected
    assert losses.flow_error(real, real).item() == pytest.approx(0, abs=1e-6)


def test_a_picture_alone_may_move_the_other_way_round_and_only_as_a_whole() -> None:
    real = torch.zeros(2, 2, 1, 4)
    real[:, 0] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    real[:, 1] = 1.5
    turned = real * torch.tensor([-1.0, 1.0]).reshape(1, 2, 1, 1)
    assert losses.flow_error(turned, real).item() == pytest.approx(0, abs=1e-6)
    assert losses.flow_error(turned, real, torch.tensor([True, True])).item() > 1
    half = losses.flow_error(turned, real, torch.tensor([True, False])).item()
    assert half == pytest.approx(losses.flow_error(turned, real, torch.tensor([True, True])).item() / 2)
    assert losses.flow_error(-real, real).item() > 0.5, "what falls does not rise"
    mixed = torch.cat([real[..., :2], turned[..., 2:]], dim=3)
    assert losses.flow_error(mixed, real).item() > 0.3, "one way for the whole clip"
    assert losses.flow_error(real, real, torch.tensor([True, True])).item() == pytest.approx(0, abs=1e-6)


def test_the_best_answer_to_doubt_about_a_flow_is_the_mean_and_not_stillness() -> None:
    # Of three clips that look alike two stand still and one moves: which one flow for all errs least?
    real = torch.tensor([0.0, 0.0, 0.3]).reshape(3, 1, 1, 1) * torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    errors = {
        speed: losses.flow_error(torch.tensor([speed, 0.0]).reshape(1, 2, 1, 1).expand(3, -1, -1, -1), real).item()
        for speed in (0.0, 0.03, 0.1, 0.2)
    }
    assert min(errors, key=errors.__getitem__) in (0.03, 0.1)


def test_what_moves_weighs_more_and_all_places_together_as_many() -> None:
    assert torch.equal(losses.where_it_moves(torch.full((1, 4, 4), 3.0)), torch.ones(1, 4, 4))
    amount = torch.zeros(1, 10, 10)
    amount[:, :, :2] = 2.0
    weights = losses.where_it_moves(amount)
    assert torch.allclose(weights[:, :, 2:], torch.tensor(0.5))
    assert torch.allclose(weights[:, :, :2], torch.tensor(0.5 + 0.5 * math.sqrt(5)))
    assert 0.5 < weights.mean() <= 1
    assert torch.allclose(losses.where_it_moves(torch.zeros(1, 2, 2)), torch.tensor(0.5)), "nothing divides by 0"


def test_sway_error_is_the_log_of_the_ratio_and_forgives_what_is_below_a_sixth_of_a_pixel() -> None:
    one, two = torch.full((1, 1, 2, 2), 1.0), torch.full((1, 1, 2, 2), 2.0)
    assert losses.sway_error(one, one).item() == 0
    assert losses.sway_error(one, two).item() == pytest.approx(math.log(2.15 / 1.15))
    assert losses.sway_error(two, one).item() == pytest.approx(math.log(2.15 / 1.15))
    assert losses.sway_error(0.1 * one, 0.05 * one).item() < 0.25 < math.log(2)


def test_what_is_not_finite_is_divergence() -> None:
    losses.require_finite(torch.tensor(3.0), "finetune", 7)
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(losses.DivergenceError, match=f"finetune diverged at iteration 7: its loss is {value}"):
            losses.require_finite(torch.tensor(value), "finetune", 7)


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
