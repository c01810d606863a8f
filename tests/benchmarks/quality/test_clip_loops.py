"""The benchmark of endless clips: what jumps are chosen by, and how seams are judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.quality import jump_choice  # noqa: E402 - PyTorch may be missing
from benchmarks.quality.clip_features import NAMES, NetworkFeatures, make_features  # noqa: E402
from benchmarks.quality.lite_network import LiteNetwork  # noqa: E402
from benchmarks.quality.loops import _walked  # noqa: E402
from benchmarks.quality.seams import SeamJudge, has_reached  # noqa: E402
from runtime.clips.clip_frames import read_clip  # noqa: E402
from runtime.clips.endless import make_endless  # noqa: E402
from tests.runtime.clips.clip_of_waves import waves  # noqa: E402

BUNDLE = Path(__file__).parents[3] / "bundles" / "landscape"
SIZE = (128, 64)


class Difference:
    """A stand-in for LPIPS: the mean difference."""

    def distance(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return np.abs(one.astype(np.float32) - two).mean(axis=(1, 2, 3))


def lite_weights() -> dict[str, Any]:
    """Return random weights in the shapes of EfficientNet-Lite0."""
    rng = torch.Generator().manual_seed(0)
    weights: dict[str, Any] = {}

    def add(name: str, norm: str, *shape: int) -> None:
        weights[f"{name}.weight"] = torch.randn(shape, generator=rng) * (2 / np.prod(shape[1:])) ** 0.5
        for part in ("running_mean", "bias"):
            weights[f"{norm}.{part}"] = torch.zeros(shape[0])
        for part in ("running_var", "weight"):
            weights[f"{norm}.{part}"] = torch.ones(shape[0])

    add("_conv_stem", "_bn0", 32, 3, 3, 3)
    channels, block = 32, 0
    stages = (
        (1, 16, 3, 1),
        (2, 24, 3, 6),
        (2, 40, 5, 6),
        (3, 80, 3, 6),
        (3, 112, 5, 6),
        (4, 192, 5, 6),
        (1, 320, 3, 6),
    )
    for repeats, out, kernel, factor in stages:
        for _ in range(repeats):
            name, hidden = f"_blocks.{block}", channels * factor
            if factor > 1:
                add(f"{name}._expand_conv", f"{name}._bn0", hidden, channels, 1, 1)
            add(f"{name}._depthwise_conv", f"{name}._bn1", hidden, 1, kernel, kernel)
            add(f"{name}._project_conv", f"{name}._bn2", out, hidden, 1, 1)
            channels, block = out, block + 1
    return weights


def test_the_levels_of_the_imagenet_network(tmp_path: Path) -> None:
    torch.save(lite_weights(), tmp_path / "lite.pth")
    levels = LiteNetwork.read(tmp_path / "lite.pth").levels(torch.rand(2, 3, 64, 96))
    assert [tuple(level.shape) for level in levels] == [(2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)]


def test_files_that_hold_other_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    for name, expected in (("text.pth", "cannot be read"), ("other.pth", "has not the weights"), ("no", "cannot be")):
        with pytest.raises(ValueError, match=expected):
            LiteNetwork.read(tmp_path / name)


def test_every_description_knows_like_from_unlike(tmp_path: Path) -> None:
    torch.save(lite_weights(), tmp_path / "lite.pth")
    frames = waves(31, *SIZE)
    small = np.stack([frames[0], frames[30], frames[1], 255 - frames[0]])
    found = {}
    for name, describe in make_features([*NAMES], BUNDLE, tmp_path / "lite.pth").items():
        described = describe(small)
        assert described.dtype == np.float32
        assert len(described) == 4
        away = [float(np.square(described[0] - other).mean()) for other in described[1:]]
        assert away[0] == 0, "the same picture"
        assert 0 < away[1] < away[2], name
        found[name] = described
    assert found["encoder"].shape == found["untrained"].shape
    assert not np.allclose(found["encoder"], found["untrained"])


def test_cells_have_the_same_length() -> None:
    features = NetworkFeatures(lambda frames: [frames[:, :, ::8, ::8] + 0.1])
    one, two = features(np.stack([waves(1, *SIZE)[0], waves(1, *SIZE)[0] // 2]))
    assert np.square(one).sum() == pytest.approx(1)
    assert np.square(two).sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("names", "expected"), [(["colours"], "--features has 'colours'"), (["imagenet"], "needs the")]
)
def test_bad_names_are_refused(names: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make_features(names, BUNDLE, None)


def test_a_jump_between_equal_moments_is_not_seen_and_a_cut_is() -> None:
    clip = read_clip(waves(90, *SIZE), SIZE, SIZE, fps=30.0)
    judge = SeamJudge(clip, Difference())  # type: ignore[arg-type]
    unseen, cut = clip.frames[10:20], np.concatenate([clip.frames[10:14], clip.frames[27:31]])
    assert has_reached(judge.figures([unseen]))
    assert judge.figures([unseen])["ghost"] == 0
    assert not has_reached(judge.figures([cut]))


def test_what_is_seen_in_ten_minutes() -> None:
    clip = make_endless(read_clip(waves(90, *SIZE), SIZE, SIZE, fps=30.0))
    found = _walked(clip)
    assert 0.5 < found["seen"] <= 1
    assert 0.5 < found["again_s"] < 10
    assert 0 <= found["repeated"] <= 1


def test_choices_are_summed_up() -> None:
    good, bad = ({"lpips": value, "flow": 1.0, "detail": 1.0, "ghost": 0.0} for value in (1.0, 2.0))
    clips = [
        {"colour": {"jumps": 3, "ms": 1.0, "at_limit": good, "best": good}},
        {"colour": {"jumps": 0, "ms": 3.0, "at_limit": None, "best": bad}},
    ]
    one = jump_choice.summarise(clips)["colour"]
    assert (one["clips"], one["with_jumps"], one["reached"], one["best_reached"], one["ms"]) == (2, 1, 1, 1, 2.0)
    assert (one["lpips"], one["best_lpips"]) == (1.0, 1.5)
    assert "| mean colours of squares | 1 of 2 | 1 | 1.00 | 1.00 | 1 of 2 |" in jump_choice.to_table({"colour": one})[2]
