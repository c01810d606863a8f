"""Pictures without a mask: a network says what may move in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.errors import EngineError
from runtime.generator import Generator
from runtime.prompts.hints import Hints, to_hints
from tests import flowing, moving, reddish, tiny

WIDTH, HEIGHT = 128, 64
HOW = {"engine": "openvino", "precision": "fp32", "size": (WIDTH, HEIGHT)}


@pytest.fixture(scope="module")
def areas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reddish.build(tmp_path_factory.mktemp("areas") / "reddish")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.build(tmp_path_factory.mktemp("moving") / "moving", frame=(WIDTH, HEIGHT))


def picture() -> np.ndarray:
    """Return a picture with stripes; its right half is red, where things may move."""
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, ::8, 1:] = 255
    pixels[:, WIDTH // 2 :, 0] = 255
    return pixels


def free_of(generator: Generator, **prompt: object) -> np.ndarray:
    """Return the memory that says what is free to move, (h, w)."""
    free: np.ndarray = generator.prepare(**prompt).tensors["free"][0, 0]  # type: ignore[arg-type]
    return free


def test_what_is_not_red_stands_still(bundle: Path, areas: Path) -> None:
    with Generator.open(bundle, areas=areas, **HOW) as generator:  # type: ignore[arg-type]
        generator.condition(image=picture())
        for name in ("x_a", "x_b"):
            generator.set_control(name, 4)
        frame = next(generator)
        free = free_of(generator, image=picture())
    assert np.array_equal(frame[:, : WIDTH // 2 - 8], picture()[:, : WIDTH // 2 - 8])
    assert not np.array_equal(frame[:, WIDTH // 2 + 8 :], picture()[:, WIDTH // 2 + 8 :])
    columns = free.shape[1] // 2
    assert free[:, : columns - 1].max() == 0
    assert free[:, columns + 1 :].min() == pytest.approx(1)


@pytest.mark.parametrize("has_network", [False, True])
@pytest.mark.parametrize("fit", ["contain", "blur"])
def test_what_is_beside_a_picture_stands_still(bundle: Path, areas: Path, fit: str, has_network: bool) -> None:
    """The picture is square in a frame of 2 to 1, and red below the middle: its edges must not sway."""
    square = np.zeros((HEIGHT, HEIGHT, 3), np.uint8)
    square[::8] = 255
    square[HEIGHT // 2 :, :, 0] = 255
    square[: HEIGHT // 2, :, 0] = 0
    with Generator.open(bundle, areas=areas if has_network else None, **HOW) as generator:  # type: ignore[arg-type]
        generator.fit = fit
        free = free_of(generator, image=square)
    rows, columns = free.shape
    quarter = columns // 4
    assert max(free[:, : quarter - 1].max(), free[:, -quarter + 1 :].max()) == 0  # 2 of 4 quarters are beside it
    assert free[:, quarter].max() < 0.9  # it comes to rest at its edge
    middle = free[:, quarter + 2 : -quarter - 2]
    assert middle[rows // 2 + 1 :].min() > 0.9
    assert middle[: rows // 2 - 1].max() == (0 if has_network else pytest.approx(1))


def test_without_the_network_everything_may_move(bundle: Path) -> None:
    with Generator.open(bundle, **HOW) as generator:  # type: ignore[arg-type]
        assert free_of(generator, image=picture()).min() == pytest.approx(1)


def test_a_mask_that_was_given_and_a_past_come_first(bundle: Path, areas: Path) -> None:
    mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
    with Generator.open(bundle, areas=areas, **HOW) as generator:  # type: ignore[arg-type]
        assert free_of(generator, image=picture(), moving=mask).min() == pytest.approx(1)
        assert free_of(generator, past=np.stack([picture()] * 2)).min() == pytest.approx(1)


def test_pictures_that_are_made_up_are_free(bundle: Path, areas: Path) -> None:
    """What is painted is plain, and red for some seeds only; it was made to be moved."""
    with Generator.open(bundle, areas=areas, **HOW) as generator:  # type: ignore[arg-type]
        assert all(free_of(generator, seed=seed).min() == pytest.approx(1) for seed in range(4))


def test_a_network_that_no_engine_can_open_is_left_out(
    bundle: Path, areas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise EngineError("no memory")

    with Generator.open(bundle, areas=areas, **HOW) as generator:  # type: ignore[arg-type]
        monkeypatch.setattr("runtime.engines.opening.choose_engine", refuse)
        assert free_of(generator, image=picture()).min() == pytest.approx(1)


def test_an_arrow_moves_what_the_network_holds(tmp_path: Path, areas: Path) -> None:
    """A person who draws knows better; without hints it stands still."""
    plain = np.zeros((flowing.HEIGHT, flowing.WIDTH, 3), np.uint8)
    hints = {"vectors": [[0.25, 0.5, 0.2, 0.0]]}
    for reads_hints in (False, True):
        built = flowing.build(tmp_path / str(reads_hints), reads_hints=reads_hints)
        with Generator.open(built, engine="openvino", precision="fp32", areas=areas) as generator:
            still = generator.prepare(image=plain)
            assert still.tensors["flow"][0, 2].max() == 0
            for drawn in (generator.prepare(image=plain, hints=hints), generator.redraw(still, to_hints(hints))):
                flow = drawn.tensors["flow"][0]
                assert (flow[0] * flow[2]).max() > 0
            undone = generator.redraw(generator.prepare(image=plain, hints=hints), Hints())
            assert undone.tensors["flow"][0, 2].max() == 0


def test_bundles_that_take_no_mask_stay_as_they_are(tmp_path: Path, areas: Path) -> None:
    with Generator.open(tiny.build(tmp_path / "tiny"), areas=areas) as generator:
        assert next(generator).shape == (48, 64, 3)


def test_other_bundles_are_refused(bundle: Path) -> None:
    with pytest.raises(ValueError, match="does not say what may move: it must turn a live picture alone into an RGB"):
        Generator.open(bundle, areas=bundle)
