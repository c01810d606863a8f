"""The painter, and the mixture that content codes are drawn from: components, text, seams."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.model.painter import (
    GLOBAL_CODES,
    KEYS,
    LOCAL_CODES,
    SEAM,
    ContentPrior,
    Painter,
    filled_in,
    num_code_noise,
    num_codes,
    put_together,
    seam,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def make_prior(components: int = 32, text_dimensions: int = 0, mixing: float = 0.0) -> ContentPrior:
    """Return a prior of components far apart, whose captions are unit vectors."""
    torch.manual_seed(0)
    prior = ContentPrior(64, 64, components, text_dimensions, mixing)
    prior.means.copy_(torch.randn_like(prior.means))
    prior.spreads.fill_(0.1)
    if text_dimensions:
        prior.texts.copy_(F.normalize(torch.randn_like(prior.texts), dim=1))
    return prior


def draw(count: int, seed: int = 1) -> Tensor:
    return torch.randn(count, num_code_noise(64, 64), generator=torch.Generator().manual_seed(seed))


def nearest(prior: ContentPrior, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the number of the nearest component and which codes (B,) are it alone: within twice the spread."""
    found = torch.cdist(codes, prior.means).min(dim=1)
    return found.indices, found.values < 0.2 * num_codes(64, 64) ** 0.5


def test_the_painter_gives_back_what_it_was_given() -> None:
    torch.manual_seed(0)
    painter = Painter(64, 96)
    image, mask = torch.rand(2, 3, 64, 96), torch.zeros(2, 1, 64, 96)
    mask[:, :, :, :48] = 1
    painted = painter(image, mask, torch.randn(2, num_codes(64, 96)))
    assert torch.equal(painted[..., :48], image[..., :48])
    assert (painted[..., 48:] - image[..., 48:]).abs().max() > 0.1
    assert 0 <= painted.min() <= painted.max() <= 1
    hidden = painter(torch.rand(2, 3, 64, 96) * (1 - mask) + image * mask, mask, torch.zeros(2, num_codes(64, 96)))
    again = painter(image, mask, torch.zeros(2, num_codes(64, 96)))
    assert torch.equal(hidden, again), "what the mask hides must not reach the painter"


def test_codes_change_what_is_painted() -> None:
    torch.manual_seed(0)
    painter = Painter(64, 96)
    nothing = torch.zeros(2, 3, 64, 96)
    painted = painter(nothing, nothing[:, :1], torch.randn(2, num_codes(64, 96)))
    assert (painted[0] - painted[1]).abs().max() > 1e-4  # untrained; equal pictures would differ by 0


def test_a_picture_has_no_rim() -> None:
    """The same everywhere in, the same everywhere out: what surrounds a picture does not show at its borders."""
    painter = Painter(64, 96).eval()
    with torch.no_grad():
        painter.grain4.zero_()
        painter.grain2.zero_()
        code = torch.randn(1, num_codes(64, 96))
        code[:, GLOBAL_CODES:] = torch.randn(1, LOCAL_CODES, 1).expand(-1, -1, 8 * 12).flatten(1)
        painted = painter(torch.zeros(1, 3, 64, 96), torch.zeros(1, 1, 64, 96), code)
    torch.testing.assert_close(painted, painted[:, :, 32:33, 48:49].expand_as(painted), atol=1e-5, rtol=0)


def test_without_seams_a_code_is_one_component_and_a_spread() -> None:
    prior = make_prior()
    codes = prior(draw(200))
    chosen, is_alone = nearest(prior, codes)
    assert is_alone.float().mean() > 0.6  # the others are between the two that the noise likes best
    assert len(set(chosen.tolist())) > 25, "different noise chooses different components"
    off = (codes - prior.means[chosen])[is_alone]
    assert 0.09 < off.std() < 0.13
    exact = torch.zeros(1, num_code_noise(64, 64))
    exact[0, :KEYS] = 5 * prior.keys[7]
    assert torch.allclose(prior(exact)[0], prior.means[7], atol=0.05)
    # The second choice, and the seam's noise, do not matter.
    noise = draw(1)
    other = noise.clone()
    other[:, KEYS : 2 * KEYS + SEAM * SEAM] *= -1
    assert torch.allclose(prior(noise), prior(other), atol=0.1)


def test_with_seams_always_a_code_is_two_components_on_either_side_of_a_border() -> None:
    prior = make_prior(mixing=1.0)
    prior.spreads.zero_()
    noise = torch.zeros(1, num_code_noise(64, 64))
    noise[0, :KEYS], noise[0, KEYS : 2 * KEYS] = 5 * prior.keys[3], 5 * prior.keys[9]
    columns = torch.tensor([3.0, 3.0, -3.0, -3.0])  # the first on the left
    noise[0, 2 * KEYS : 2 * KEYS + SEAM * SEAM] = columns.repeat(SEAM)
    code = prior(noise)[0, GLOBAL_CODES:].reshape(LOCAL_CODES, 8, 8)
    first, second = (prior.means[number, GLOBAL_CODES:].reshape(LOCAL_CODES, 8, 8) for number in (3, 9))
    assert torch.allclose(code[..., :3], first[..., :3], atol=1e-3)
    assert torch.allclose(code[..., -3:], second[..., -3:], atol=1e-3)
    assert (code[..., 3:5] - first[..., 3:5]).abs().max() > 0.1


def test_text_picks_components_whose_captions_are_near() -> None:
    prior = make_prior(32, text_dimensions=16)
    for component in (4, 20):
        text = prior.texts[component : component + 1].expand(64, -1)
        chosen, is_alone = nearest(prior, prior(draw(64), text))
        fit = (prior.texts[chosen] @ prior.texts[component])[is_alone]
        assert (fit > 0.9).float().mean() > 0.8, "nearly always that caption's own component"
    # Of captions that are equally near, the noise chooses.
    prior.texts[:8] = prior.texts[0]
    chosen, _ = nearest(prior, prior(draw(200), prior.texts[:1].expand(200, -1)))
    assert len(set(chosen.tolist()) & set(range(8))) == 8
    assert (chosen < 8).float().mean() > 0.8


def test_what_stands_together_is_alike_and_never_the_same_twice() -> None:
    prior = make_prior(32, text_dimensions=16, mixing=1.0)
    prior.texts[1::2] = F.normalize(prior.texts[::2] + 0.1 * torch.randn_like(prior.texts[::2]), dim=1)  # 16 pairs
    prior.spreads.zero_()
    noise = draw(200)
    codes = prior(noise)
    # At a seam one component fades into the other, so that both show in the local codes of some places.
    local = codes[:, GLOBAL_CODES:].reshape(200, LOCAL_CODES, 64)
    parts = prior.means[:, GLOBAL_CODES:].reshape(32, LOCAL_CODES, 64)
    distance = (local[:, None] - parts[None]).square().mean(dim=2)  # (codes, components, places)
    found = [set(distance[row].argmin(dim=0)[distance[row].amin(dim=0) < 0.05].tolist()) for row in range(200)]
    pairs = [sorted(components) for components in found if len(components) == 2]
    assert len(pairs) > 120, "nearly everywhere a border, and never one component beside itself"
    assert sum(a // 2 == b // 2 for a, b in pairs) > 0.9 * len(pairs)


def test_what_words_choose_stands_alone() -> None:
    prior = make_prior(32, text_dimensions=16, mixing=1.0)
    text = prior.texts[5:6].expand(100, -1)
    with_words, without = (nearest(prior, prior(draw(100), words))[1] for words in (text, None))
    assert with_words.all()
    assert without.float().mean() < 0.1


def test_no_text_leaves_the_choice_to_the_noise() -> None:
    listening, deaf = make_prior(32, text_dimensions=16), make_prior(32)
    deaf.means.copy_(listening.means)
    noise = draw(50)
    silence = listening(noise, torch.zeros(50, 16))
    assert torch.equal(silence, listening(noise))
    assert torch.equal(nearest(listening, silence)[0], nearest(deaf, deaf(noise))[0])
    # A text for one row is none of the others' business.
    text = torch.zeros(50, 16)
    text[3] = listening.texts[nearest(listening, silence)[0][3] - 1]
    moved = (listening(noise, text) - silence).abs().amax(dim=1)
    assert moved[3] > 0.5
    assert moved[torch.arange(50) != 3].max() < 1e-5


def test_a_seam_is_nowhere_at_mixing_0_and_a_border_at_1() -> None:
    noise = torch.randn(400, SEAM * SEAM + 1, generator=torch.Generator().manual_seed(0))
    shares = {mixing: seam(noise, 8, 12, mixing) for mixing in (0.0, 0.2, 0.5, 0.8, 1.0)}
    assert all(share.shape == (400, 1, 8, 12) for share in shares.values())
    assert shares[0.0].min() > 0.95
    assert shares[0.0].mean() > 0.9999
    border = shares[1.0]
    both = (border > 0.95).flatten(1).any(dim=1) & (border < 0.05).flatten(1).any(dim=1)
    assert both.float().mean() > 0.95
    assert border.mean().item() == pytest.approx(0.5, abs=0.03)
    assert ((border > 0.1) & (border < 0.9)).float().mean() < 0.5, "a border, no blend everywhere"
    whole = [share.mean().item() for share in shares.values()]
    assert whole == sorted(whole, reverse=True), "the more mixing, the more of the second"
    # At mixing 1 the value that says whether there is a border has no say.
    other = noise.clone()
    other[:, -1] = 0
    assert torch.equal(seam(other, 8, 12, 1.0), border)


def test_codes_are_put_together_place_by_place() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 3, num_codes(64, 96))
    ones = torch.ones(3, 1, 8, 12)
    assert torch.allclose(put_together(first, second, ones), first, atol=1e-6)
    assert torch.allclose(put_together(first, second, 0 * ones), second, atol=1e-6)
    share = ones.clone()
    share[..., 9:] = 0  # three quarters of the first, on the left
    mixed = put_together(first, second, share)
    a, b, m = (code[:, GLOBAL_CODES:].reshape(3, LOCAL_CODES, 8, 12) for code in (first, second, mixed))
    assert torch.allclose(m[..., :9], a[..., :9], atol=1e-6)
    assert torch.allclose(m[..., 9:], b[..., 9:], atol=1e-6)
    expected = 0.75 * first[:, :GLOBAL_CODES] + 0.25 * second[:, :GLOBAL_CODES]
    assert torch.allclose(mixed[:, :GLOBAL_CODES], expected, atol=1e-6)


def test_hidden_places_are_filled_from_what_is_seen_around_them() -> None:
    image = torch.zeros(1, 3, 64, 96)
    image[:, 0, :, :48], image[:, 1, :, 48:] = 0.8, 0.4  # the left half red, the right half green
    mask = torch.ones(1, 1, 64, 96)
    mask[:, :, 24:40, 8:24] = 0  # a hole in the red half
    hidden = mask.clone()
    filled = filled_in(image * mask + 5.0 * (1 - mask), hidden)  # what stands in the hole must not matter
    assert (filled - image).abs()[:, :, mask[0, 0] == 1].max() < 2e-3
    assert (filled[0, :, 24:40, 8:24] - torch.tensor([0.8, 0.0, 0.0])[:, None, None]).abs().max() < 0.05
    assert torch.allclose(filled_in(image, torch.zeros_like(mask)), torch.full_like(image, 0.5), atol=1e-4)
