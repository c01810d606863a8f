"""Frames of a bundle that takes texts as tokens are recorded: without a text, and with that of a golden run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.int8.moves import count_moves
from export.int8.recording import record_feeds
from export.manifest_entries import write_golden
from runtime.bundle.reader import open_bundle
from tests.runtime import prompted, worded


@pytest.mark.parametrize("seeds", [True, False])
def test_texts_of_golden_runs_are_played(seeds: bool, tmp_path: Path) -> None:
    folder = worded.build(tmp_path / "worded", seeds=seeds)
    frames = [np.zeros((worded.HEIGHT, worded.WIDTH, 3), np.uint8)]
    prompted.change(folder, golden=[write_golden(folder, "red", frames, [1], seed=1, text="red")])
    bundle, size = open_bundle(folder), (worded.WIDTH, worded.HEIGHT)
    feeds = record_feeds(bundle, 4, bundle.manifest.step, size, lambda _share: None)
    assert len(feeds) == 4 + count_moves(bundle.manifest)
    first, last = (feed["a_colour"].ravel() for feed in (feeds[0], feeds[3]))
    assert np.abs(first - last).max() > 0.05
    if not seeds:
        pad = [worded.END] * worded.CLIP_LENGTH
        assert np.allclose(first, worded.wanted_colour([worded.BEGIN, *pad][:8], [1]), atol=1e-5)
        assert np.allclose(last, worded.wanted_colour([worded.BEGIN, 513, *pad][:8], [4, 1]), atol=1e-5)
