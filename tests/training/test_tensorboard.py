"""What a stage writes is what TensorBoard shows, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.training.events import points_of, read_events
from training.tasks.task import TaskMeasure
from training.tensorboard import TensorBoardLog


def test_measures_of_one_name_lie_in_series_beside_one_another(tmp_path: Path) -> None:
    measures = [
        TaskMeasure("order", "accuracy", 0.5, "higher", 0.125, 0.25, "shortest path"),
        TaskMeasure("position", "track error", 1.5, "lower", unit="px"),
    ]
    with TensorBoardLog(tmp_path, "pretrain") as board:
        board.add_scalars(7, {"order/accuracy": 0.75})
        board.add_measures(7, measures)
    found = {
        series: read_events(tmp_path, "pretrain", series) for series in ("training", "heldout", "chance", "baseline")
    }
    assert {series: points_of(events, "order/accuracy") for series, events in found.items()} == {
        "training": {7: 0.75}, "heldout": {7: 0.5}, "chance": {7: 0.125}, "baseline": {7: 0.25},
    }  # fmt: skip
    assert {series for series, events in found.items() if "position/track error" in events.Tags()["scalars"]} == {
        "heldout"
    }
    notes = {
        name: found["heldout"].Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0].decode()
        for name in ("order/accuracy", "position/track error")
    }
    assert notes == {
        "order/accuracy": "higher is better, baseline: shortest path",
        "position/track error": "px, lower is better",
    }


def test_pictures_have_their_size_and_caption(tmp_path: Path) -> None:
    picture = np.zeros((8, 12, 3), np.uint8)
    with TensorBoardLog(tmp_path, "pretrain") as board:
        board.add_pictures(3, {"tracks": (picture, "Places followed.")})
    events = read_events(tmp_path, "pretrain", "heldout")
    (image,) = events.Images("tracks")
    assert (image.step, image.width, image.height) == (3, 12, 8)
    assert events.Tensors("tracks/text_summary")[0].tensor_proto.string_val[0] == b"Places followed."


@pytest.mark.usefixtures("ticking")
def test_a_stage_that_resumes_writes_nothing_twice(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path, "pretrain") as board:
        for iteration in (1, 2, 3, 4):
            board.add_scalars(iteration, {"loss": 1.0})
            board.add_scalars(iteration, {"score": 1.0}, "heldout")
    with TensorBoardLog(tmp_path, "pretrain", 2) as board:
        board.add_scalars(3, {"loss": 2.0})
        board.add_scalars(3, {"score": 2.0}, "heldout")
    with TensorBoardLog(tmp_path, "finetune") as board:  # counts from 1 again
        board.add_scalars(1, {"loss": 3.0})
    for series, name in (("training", "loss"), ("heldout", "score")):
        assert points_of(read_events(tmp_path, "pretrain", series), name) == {1: 1.0, 2: 1.0, 3: 2.0}
    assert points_of(read_events(tmp_path, "finetune"), "loss") == {1: 3.0}


def test_every_point_is_on_the_disk_at_once(tmp_path: Path) -> None:
    with TensorBoardLog(tmp_path, "pretrain") as board:
        board.add_scalars(1, {"loss": 1.0})
        assert points_of(read_events(tmp_path, "pretrain"), "loss") == {1: 1.0}


def test_tensorboard_is_imported_when_a_run_starts_and_not_before() -> None:
    program = """
import sys
from training.__main__ import parser
import training.stages.command, training.tasks.probe
parser()
print([name for name in sys.modules if name.split(".")[0] == "tensorboard"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
