"""A trained generator at another frame size: the same weights, the same scene."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training.checkpoint import load_generator, save_checkpoint
from training.config import Config, FootageConfig, PretrainConfig
from training.model.generator import CLIP, ConditionMemory, Shape, VideoGenerator, phase_field
from training.model.layers import pixel_grid
from training.model.painter import GLOBAL_CODES, KEYS, LOCAL_CODES, SEAM, Painter, num_code_noise, num_codes
from training.model.resizing import Resizing, resized, resizing_matrix
from training.sampling import rollout

CONFIG = Config(
    model=Shape(96, 96, 4, 16, text_dimensions=8, components=4, encoder_scale=0.25),
    footage=FootageConfig(short_side=108, crop_min=96, crop_max=108, horizon_frames=12),
    pretrain=PretrainConfig(stride_max=3, crop=96),
)
SIZES = [(128, 96), (192, 192), (64, 64), (64, 160)]  # width and height; the last one grows and shrinks


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def generator() -> VideoGenerator:
    """A generator whose codes are seen in its pictures, place by place."""
    torch.manual_seed(0)
    made = VideoGenerator(CONFIG.model).eval().requires_grad_(False)
    for layer in (made.condition.painter.to_rgb, made.condition.painter.merge8):
        layer.weight.mul_(4)
    prior = made.condition.prior
    coarse = torch.randn(4 * LOCAL_CODES, 1, 3, 3)  # three cells to a scene: a layout that a small frame can show
    local = F.interpolate(coarse, size=(12, 12), mode="bilinear").reshape(4, -1)
    prior.means.copy_(torch.cat([torch.randn(4, GLOBAL_CODES), 4 * local], dim=1))
    prior.spreads.fill_(0.02)
    prior.texts.copy_(F.normalize(torch.randn(4, 8), dim=1))
    return made


@pytest.fixture(scope="module")
def run(generator: VideoGenerator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    content: dict[str, Any] = {
        "config": CONFIG.to_dict(), "stage": "pretrain", "iteration": 3, "footage": [], "data": "here", "words": "",
        "ema": {f"generator.{key}": value for key, value in generator.state_dict().items()},
    }  # fmt: skip
    save_checkpoint(folder / "pretrain.pt", content)
    return folder


def noise_of(size: tuple[int, int], seed: int = 0) -> Tensor:
    """Return what one seed makes its scene from, (1, N), at a size (width, height)."""
    return torch.randn(1, num_code_noise(size[1], size[0]), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def made_up(generator: VideoGenerator, seed: int = 0) -> ConditionMemory:
    """Return the memory of a scene that is made up from a seed."""
    width, height = generator.shape.width, generator.shape.height
    nothing = torch.zeros(1, 3, height, width)
    return generator.condition(
        nothing, nothing[:, :1], nothing[:, None].expand(-1, CLIP, -1, -1, -1), torch.zeros(1, 1),
        noise_of((width, height), seed), torch.zeros(1, 8),
    )  # fmt: skip


def likeness(one: Tensor, two: Tensor) -> float:
    """Return the correlation of two pictures (1, 3, any, any) seen in 6x6 blocks."""
    blocks = [F.interpolate(picture, size=(6, 6), mode="area") for picture in (one, two)]
    centred = [(block - block.mean(dim=(2, 3), keepdim=True)).flatten() for block in blocks]
    return float(F.cosine_similarity(*centred, dim=0))


def test_the_trained_size_is_the_same_generator(generator: VideoGenerator, run: Path) -> None:
    assert resized(generator, (96, 96)) is generator
    (plain, config, facts), (asked, same, _) = load_generator(run), load_generator(run, (96, 96))
    assert config == same == CONFIG
    assert facts["trained_size"] == (96, 96)
    for one, two in zip(plain.named_parameters(), asked.named_parameters(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])
    for one, two in zip(plain.named_buffers(), asked.named_buffers(), strict=True):
        assert one[0] == two[0]
        assert torch.equal(one[1], two[1])
    assert torch.equal(made_up(plain).picture, made_up(asked).picture)


def test_there_and_back_is_the_same_generator(generator: VideoGenerator) -> None:
    back = resized(resized(resized(generator, (192, 128)), (64, 64)), (96, 96))
    assert type(back.condition.painter) is Painter
    for one, two in zip(made_up(generator), made_up(back), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("size", SIZES)
def test_weights_stay_and_what_is_in_pixels_is_built_for_the_size(
    generator: VideoGenerator, size: tuple[int, int]
) -> None:
    width, height = size
    made = resized(generator, size)
    assert generator.shape == CONFIG.model, "the trained one is left alone"
    assert made.shape == replace(CONFIG.model, width=width, height=height)
    assert not made.training
    kept, state = generator.state_dict(), made.state_dict()
    assert list(kept) == list(state)
    assert all(torch.equal(kept[key], state[key]) for key in kept)
    fresh = dict(VideoGenerator(made.shape).named_buffers())
    for name, buffer in made.named_buffers():
        if name.startswith(("step.", "condition.encoder.")):
            assert torch.equal(buffer, fresh[name]), name
    assert torch.equal(made.step.phases, phase_field(height // 4, width // 4))
    assert torch.equal(made.step.warp8.grid, pixel_grid(height // 8, width // 8))
    assert made.step.warp1.scale.flatten().tolist() == pytest.approx([2 / width, 2 / height])
    assert made.step.initial_state(2).hidden.shape == (2, 32, height // 8, width // 8)
    # What was optimised place by place is the trained size's.
    for name in ("grain4", "grain2"):
        assert torch.equal(getattr(made.condition.painter, name), getattr(generator.condition.painter, name)), name
    assert torch.equal(made.condition.prior.keys, generator.condition.prior.keys)


@pytest.mark.parametrize("size", SIZES)
def test_a_seed_draws_the_same_code_at_every_size(generator: VideoGenerator, size: tuple[int, int]) -> None:
    noise, other = noise_of((96, 96), 5), noise_of(size, 5)
    code, same = generator.condition.prior(noise), resized(generator, size).condition.prior(other)
    assert same.shape == code.shape == (1, num_codes(96, 96))
    assert torch.equal(same[:, :GLOBAL_CODES], code[:, :GLOBAL_CODES])
    assert (same - code).abs().max() < 10 * 0.02, "places are shaken by numbers of their own"
    # Each cell is shaken by the noise that lies at its place.
    width, height = size
    shared = 2 * KEYS + SEAM * SEAM + 1 + GLOBAL_CODES
    corner = other.clone()
    corner[:, shared:].reshape(1, LOCAL_CODES, height // 8, width // 8)[..., : height // 16, : width // 16] += 1
    moved = resized(generator, size).condition.prior(corner) - same
    moved = moved[:, GLOBAL_CODES:].reshape(LOCAL_CODES, 12, 12)
    assert torch.allclose(moved[:, :6, :6], torch.full((8, 6, 6), 0.02), atol=1e-5)
    assert moved[:, 6:].abs().max() == moved[:, :, 6:].abs().max() == 0


@pytest.mark.parametrize("size", SIZES)
def test_a_scene_keeps_its_layout_and_plays_at_the_new_size(generator: VideoGenerator, size: tuple[int, int]) -> None:
    width, height = size
    made = resized(generator, size)
    for seed in (1, 2):
        picture, scene = made_up(made, seed).picture, made_up(generator, seed).picture
        assert picture.shape == (1, 3, height, width)
        assert likeness(picture, scene) > 0.98
        # The measure tells a picture that was read in the wrong order, or the wrong way round.
        turned = scene.transpose(2, 3), scene.flip(3), scene.flip(2), scene.roll(24, 3)
        assert max(likeness(picture, wrong) for wrong in turned) < 0.9
    image, mask = torch.zeros(1, 3, height, width), torch.zeros(1, 1, height, width)
    frames = rollout(made, image, mask, noise_of(size), (1, 8))
    assert frames[8].shape == (1, 3, height, width)
    assert all(frame.isfinite().all() and frame.min() >= 0 and frame.max() <= 1 for frame in frames.values())


@pytest.mark.parametrize("size", SIZES)
def test_what_is_given_stays_to_the_pixel_and_the_rest_joins_it(
    generator: VideoGenerator, size: tuple[int, int]
) -> None:
    width, height = size
    painter = resized(generator, size).condition.painter.requires_grad_(False)
    image = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(2, 1, height, width)
    mask[1, ..., : width // 2] = 0
    code = generator.condition.prior(noise_of((96, 96))).expand(2, -1)
    painted = painter(image, mask, code)
    assert torch.equal(painted[0], image[0])
    assert torch.equal(painted[1, ..., width // 2 :], image[1, ..., width // 2 :])
    # A given red half is the painter's hint at every size, and what hidden pixels say never is.
    red = torch.tensor([0.9, 0.1, 0.1]).reshape(1, 3, 1, 1).expand(1, 3, height, width)
    hint, silent = painter(red, mask[1:], code[:1]), painter(red * mask[1:], mask[1:], code[:1])
    assert torch.equal(hint, silent)
    smooth = generator.condition.painter(
        red[:, :, :1, :1].expand(1, 3, 96, 96), (torch.arange(96) >= 48).float().expand(1, 1, 96, 96), code[:1]
    )
    assert likeness(hint, smooth) > 0.97


@pytest.mark.parametrize(("count", "wanted"), [(96, 96), (96, 192), (96, 64), (256, 64), (64, 96)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_resizing_keeps_flat_places_and_slopes(count: int, wanted: int, mode: str) -> None:
    matrix = resizing_matrix(count, wanted, mode)
    assert matrix.shape == (wanted, count)
    assert torch.allclose(matrix.sum(dim=1), torch.ones(wanted), atol=1e-5)
    if count == wanted:
        assert torch.equal(matrix, torch.eye(count))
    if mode == "bilinear":
        assert matrix.min() >= 0
    centres = (torch.arange(wanted) + 0.5) * count / wanted - 0.5
    slope = matrix @ torch.arange(float(count))
    inside = slice(wanted // 8, -wanted // 8)
    assert torch.allclose(slope[inside], centres[inside], atol=0.05)  # of a pixel
    picture = torch.rand(2, 3, count, 40, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(picture, size=(wanted, 56), mode=mode, antialias=True)
    assert torch.allclose(Resizing((count, 40), (wanted, 56), mode)(picture), expected, atol=1e-5)


def test_the_configuration_tells_the_size_and_keeps_the_training(run: Path) -> None:
    made, config, facts = load_generator(run, (160, 128))
    assert not made.training
    assert (config.model.width, config.model.height) == (160, 128)
    assert made.shape == config.model
    assert replace(config, model=CONFIG.model) == CONFIG
    assert facts["trained_size"] == (96, 96)
    _, small, _ = load_generator(run, (64, 96))  # smaller than what it was trained on at a time
    assert small.pretrain == replace(CONFIG.pretrain, crop=0)
    assert small.footage == CONFIG.footage


@pytest.mark.parametrize("size", [(100, 128), (128, 90), (32, 128), (0, 0), (-64, 64)])
def test_a_size_that_does_not_fit_is_refused_in_one_sentence(run: Path, size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"frame size is {size[0]}x{size[1]}, expected multiples of 32") as caught:
        load_generator(run, size)
    assert "\n" not in str(caught.value)
