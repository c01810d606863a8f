"""Copies are detected; precision and recall have known values."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.quality.memory import distances, nearness, precision_recall, small_pictures


def test_distances() -> None:
    assert distances([[0, 0], [3, 4]], [[0, 0], [0, 4]]).tolist() == [[0, 4], [5, 3]]


def test_copies_are_nearer_to_the_training_footage_than_new_footage_is() -> None:
    rng = np.random.default_rng(0)
    training, heldout = rng.normal(size=(60, 16)), rng.normal(size=(20, 16))
    copier = nearness(training[:20] + 0.01 * rng.normal(size=(20, 16)), training, heldout)
    honest = nearness(rng.normal(size=(20, 16)), training, heldout)
    assert copier["ratio"] < 0.05
    assert copier["nearer_than_5_percent_of_heldout"] == 1
    assert copier["to_heldout"]["value"] > 10 * copier["to_training"]["value"]
    assert 0.8 < honest["ratio"] < 1.25
    assert honest["nearer_than_5_percent_of_heldout"] < 0.4
    # 20 of 60 training clips are drawn at a time, one third of what was copied.
    assert copier["nearest_is_training"] > 0.6
    assert 0.3 < honest["nearest_is_training"] < 0.7


def test_a_continuation_is_not_compared_with_its_own_scene() -> None:
    heldout = np.array([[0.0], [10.0]])
    own = nearness(heldout, np.array([[5.0]]), heldout, made_groups=["a", "b"], heldout_groups=["a", "b"])
    assert own["to_heldout"]["value"] == 10


def test_small_pictures_ignore_contrast_and_detect_a_copy() -> None:
    rng = np.random.default_rng(1)
    clip = rng.integers(0, 200, (16, 64, 64, 3), np.uint8)
    rows = small_pictures(clip)
    assert rows.shape == (2, 16 * 16 * 3)
    assert np.linalg.norm(rows, axis=1) == pytest.approx([1, 1])
    darker = (clip * 0.5).astype(np.uint8)
    other = rng.integers(0, 200, (16, 64, 64, 3), np.uint8)
    assert distances(small_pictures(darker), rows).min() < 0.1
    assert distances(small_pictures(other), rows).min() > 1
    assert np.allclose(small_pictures(np.full((1, 64, 64, 3), 7, np.uint8)), 0)


def test_precision_and_recall() -> None:
    rng = np.random.default_rng(2)
    real = rng.normal(size=(100, 2))
    assert precision_recall(real, real) == (1, 1)
    assert precision_recall(real, real + 100) == (0, 0)
    narrow = real[:5] * 0.01  # one mode of many: what is made is real, but most of what is real is not made
    precision, recall = precision_recall(real, narrow)
    assert precision == 1
    assert recall < 0.2
    with pytest.raises(ValueError, match="4 clips or more"):
        precision_recall(real[:3], real)
