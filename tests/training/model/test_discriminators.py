"""The discriminators: what they look at, and what they must not look at."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from training.model.discriminators import HEAD, Discriminator, DiscriminatorOutput, augment

SCALE = 0.25
CLIPS = (2, 3, 3, 64, 64)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def discriminator() -> Discriminator:
    torch.manual_seed(0)
    return Discriminator(3, SCALE, 1).eval().requires_grad_(False)


def test_a_verdict_has_a_logit_for_every_place_and_one_for_the_whole(discriminator: Discriminator) -> None:
    torch.manual_seed(1)
    verdict = discriminator(torch.rand(CLIPS), 2)
    assert [part.shape for part in verdict.logits] == [(2, 256), (2, 64), (2, 16), (2, 1)]
    sizes = ((16, 16), (8, 8), (4, 4), (2, 2))
    expected = [(2, 3 * channels, *size) for channels, size in zip(discriminator.trunk.channels, sizes, strict=True)]
    assert [part.shape for part in verdict.features] == expected
    assert verdict.summary.shape == (2, HEAD)
    second = verdict.take(1, 2)
    assert [part.shape for part in second.logits] == [(1, 256), (1, 64), (1, 16), (1, 1)]
    assert all(torch.equal(one[0], two[1]) for one, two in zip(second.features, verdict.features, strict=True))
    pictures = Discriminator(1, SCALE, 1, 16)(torch.rand(2, 1, 3, 64, 64))
    assert [part.shape for part in pictures.logits] == [(2, 256), (2, 64), (2, 16), (2, 1)]
    assert pictures.features[0].shape[1] == discriminator.trunk.channels[0]


def test_clips_are_judged_one_by_one(discriminator: Discriminator) -> None:
    torch.manual_seed(1)
    clips = torch.rand(CLIPS)
    both, second = discriminator(clips), discriminator(clips[1:])
    for one, two in zip(both.take(1, 2).logits, second.logits, strict=True):
        assert torch.allclose(one, two, atol=1e-5)


def test_the_gap_is_read_by_the_logit_of_the_whole_alone(discriminator: Discriminator) -> None:
    torch.manual_seed(1)
    clips = torch.rand(CLIPS)
    near, far = discriminator(clips, 1), discriminator(clips, 4)
    for one, two in zip(near.logits[:-1], far.logits[:-1], strict=True):
        assert torch.equal(one, two)
    assert (near.logits[-1] - far.logits[-1]).abs().min() > 1e-4
    # In logarithms: from 1 to 2 is as far as from 2 to 4.
    pooled = torch.cat([F.leaky_relu(near.features[-1], 0.2).mean(dim=(2, 3))])
    before = [
        discriminator.whole(pooled) + discriminator.from_gap(torch.tensor([[gap]]).log()) for gap in (1.0, 2.0, 4.0)
    ]
    assert torch.allclose(before[2] - before[1], before[1] - before[0], atol=1e-5)
    assert torch.allclose(F.leaky_relu(before[2], 0.2), far.summary, atol=1e-5)


def test_a_caption_changes_the_logit_of_the_whole_alone() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(1, SCALE, 1, text_dimensions=8).eval().requires_grad_(False)
    verdict = discriminator(torch.rand(2, 1, 3, 64, 64))
    texts = F.normalize(torch.randn(2, 8), dim=1)
    told = discriminator.with_captions(verdict, texts)
    for one, two in zip(verdict.logits[:-1], told.logits[:-1], strict=True):
        assert torch.equal(one, two)
    assert (verdict.logits[-1] - told.logits[-1]).abs().min() > 1e-5
    fit = (verdict.summary * discriminator.from_text(texts)).sum(dim=1, keepdim=True) / HEAD**0.5
    assert torch.allclose(told.logits[-1], verdict.logits[-1] + fit, atol=1e-6)
    untold = discriminator.with_captions(verdict, torch.zeros(2, 8))
    assert torch.equal(untold.logits[-1], verdict.logits[-1]), "no caption, no say"
    mute = Discriminator(1, SCALE, 1)
    assert mute.with_captions(verdict, torch.zeros(2, 0)) is verdict


def test_clips_of_frozen_frames_have_no_change(discriminator: Discriminator) -> None:
    torch.manual_seed(1)
    first = torch.rand(2, 1, 3, 64, 64)
    for feature, channels in zip(
        discriminator(first.expand(CLIPS)).features, discriminator.trunk.channels, strict=True
    ):
        assert feature[:, channels:].abs().max() < 1e-4
        assert feature[:, :channels].abs().max() > 1e-2
    changed = torch.cat([first, first, first.roll(2, dims=4)], dim=1)
    for feature, channels in zip(discriminator(changed).features, discriminator.trunk.channels, strict=True):
        assert feature[:, channels : 2 * channels].abs().max() < 1e-4, "from the first to the second nothing changes"
        assert feature[:, 2 * channels :].abs().max() > 1e-2


def test_every_parameter_of_a_discriminator_gets_a_gradient() -> None:
    torch.manual_seed(0)
    for discriminator in (Discriminator(3, SCALE, 1), Discriminator(1, SCALE, 1, 8)):
        verdict = discriminator(torch.rand(2, discriminator.frames, 3, 64, 64), 3)
        verdict = discriminator.with_captions(verdict, F.normalize(torch.randn(2, 8), dim=1))
        torch.cat([part.flatten() for part in verdict.logits]).square().mean().backward()
        starved = [
            name
            for name, value in discriminator.named_parameters()
            if value.grad is None or not value.grad.abs().sum() > 0
        ]
        assert [name for name in starved if not name.startswith("from_gap") or discriminator.frames > 1] == []


def test_the_discriminator_learns_to_tell_moving_from_frozen_clips() -> None:
    torch.manual_seed(0)
    discriminator = Discriminator(3, SCALE, 1)
    optimiser = torch.optim.Adam(discriminator.parameters(), 4e-3)
    still = torch.rand(4, 1, 3, 32, 32).expand(-1, 3, -1, -1, -1)
    moving = torch.stack([torch.roll(still[:, 0], shift, dims=-1) for shift in (0, 1, 3)], dim=1)
    for _ in range(20):
        pairs = zip(discriminator(still).logits, discriminator(moving).logits, strict=True)
        loss = torch.stack([F.softplus(one - two).mean() for one, two in pairs]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1


def test_augmentation_treats_all_frames_of_a_clip_alike() -> None:
    torch.manual_seed(0)
    frame = torch.rand(3, 1, 3, 32, 32)
    changed = augment(frame.expand(-1, 4, -1, -1, -1), torch.Generator().manual_seed(5))
    assert changed.shape == (3, 4, 3, 32, 32)
    assert torch.allclose(changed, changed[:, :1].expand_as(changed), atol=1e-6)
    assert (changed[:, 0] - frame[:, 0]).abs().mean() > 0.01


def test_gradients_flow_through_the_augmentation() -> None:
    clips = torch.rand(2, 3, 3, 32, 32, requires_grad=True)
    augment(clips, torch.Generator().manual_seed(0)).square().sum().backward()
    assert clips.grad is not None
    assert (clips.grad.abs().flatten(1).sum(dim=1) > 0).all()


def test_a_verdict_is_plain_data() -> None:
    assert DiscriminatorOutput._fields == ("logits", "features", "summary")
