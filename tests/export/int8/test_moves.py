"""Controls at both ends and a cross-fade are calibrated with, and compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from export.int8 import command
from export.int8.moves import count_moves
from export.int8.recording import record_feeds
from runtime.bundle.reader import open_bundle, read_manifest
from tests import tiny
from tests.export.int8.convolving import build

RUN = "controls and a cross-fade in FP32"


def test_controls_at_both_ends_and_a_cross_fade_are_recorded(tmp_path: Path) -> None:
    bundle = open_bundle(tiny.build(tmp_path / "tiny"))
    shares: list[float] = []
    feeds = record_feeds(bundle, 2, bundle.manifest.step, (64, 48), shares.append)
    assert len(feeds) == 2 + count_moves(bundle.manifest)
    assert shares[-1] == 1
    assert all(np.array_equal(feed["control"], [[1.5, 0]]) for feed in feeds[:2])
    moved, fading = feeds[2:10], feeds[10:]
    ends = [[0, 0], [4, 0], [1.5, -8], [1.5, 8]]
    assert [feed["control"].tolist()[0] for feed in moved] == [end for end in ends for _ in range(2)]
    assert all(np.array_equal(feed["control"], [[1.5, 0]]) for feed in fading)
    assert any(0 < feed["mix"].item() < 1 for feed in fading)
    assert not np.array_equal(fading[2]["a_picture_slot"], fading[2]["b_picture_slot"])


def test_a_layer_that_a_control_drives_out_of_its_range_stays_in_float(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command.run([str(build(tmp_path / "source", controlled=True)), "--out", str(out), "--frames", "4", "--rounds", "1"])
    verified = read_manifest(out).verified
    assert verified["int8"]["in_float"] == ["third"]
    moved = [check for check in verified["parity"] if check["run"] == RUN]
    assert {check["engine"] for check in moved} == {"openvino", "onnxruntime"}
    assert all(check["passed"] and check["precision"] == "int8" for check in moved)


def test_bundles_without_controls_and_scenes_have_nothing_to_move(tmp_path: Path) -> None:
    assert count_moves(read_manifest(build(tmp_path / "plain"))) == 0
