"""The benchmark of endless clips: what jumps are chosen by, and how seams are judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.quality import jump_choice  # noqa: E402 - PyTorch may be missing
from benchmarks.quality.clip_features import NAMES, NetworkFeatures, make_features  # noqa: E402
from benchmarks.quality.loops import _walked  # noqa: E402
from benchmarks.quality.seams import SeamJudge, has_reached  # noqa: E402
from runtime.clips.clip_frames import read_clip  # noqa: E402
from runtime.clips.endless import make_endless  # noqa: E402
from tests.runtime.clips.clip_of_waves import waves  # noqa: E402
from training.model.areas import Backbone  # noqa: E402

BUNDLE = Path(__file__).parents[3] / "bundles" / "landscape"
SIZE = (128, 64)


class Difference:
    """A stand-in for LPIPS: the mean difference."""

    def distance(self, one: np.ndarray, two: np.ndarray) -> np.ndarray:
        return np.abs(one.astype(np.float32) - two).mean(axis=(1, 2, 3))


def test_every_description_knows_like_from_unlike(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(Backbone(is_whole=True).state_dict(), tmp_path / "lite.pth")
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
