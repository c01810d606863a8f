"""Training in a Ray cluster: what is refused before anything starts, and a worker that is killed on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from training.__main__ import main, parser, run

ROOT = Path(__file__).parents[2]


def refused(config: Path, tmp_path: Path, *more: str) -> list[str]:
    return ["pretrain", str(config), "--data", str(tmp_path), "--out", str(tmp_path / "run"), *more]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--workers", "2"], "--workers is for a cluster: name one with --cluster ADDRESS"),
        (["--use-gpu"], "--use-gpu is for a cluster: name one with --cluster ADDRESS"),
        (["--cluster", "auto", "--workers", "0"], "--workers is 0, expected 1 or more"),
        (["--cluster", "auto", "--retries", "-1"], "--retries is -1, expected 0 or more"),
    ],
)
def test_options_that_do_not_fit_are_refused(more: list[str], sentence: str, tiny_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        run(parser().parse_args(refused(tiny_config, tmp_path, *more)))
    assert not (tmp_path / "run").exists()


def test_without_ray_one_sentence_says_how_to_install_it(
    tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "training.cluster", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setattr(sys, "argv", ["training", *refused(tiny_config, tmp_path, "--cluster", "auto")])
    assert main() == 2
    said = capsys.readouterr().err
    assert said.startswith("training: --cluster needs Ray (")
    assert said.endswith("pip install 'everframe[cluster]'\n")
    assert said.count("\n") == 1


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module, with a Ray that is not started."""
    pytest.importorskip("ray.train", reason="Ray is not installed")
    from training import cluster

    return cluster


def test_the_address_of_a_ray_client_is_refused(cluster: Any, tiny_config: Path, tmp_path: Path) -> None:
    arguments = parser().parse_args(refused(tiny_config, tmp_path, "--cluster", "ray://head:10001"))
    with pytest.raises(ValueError, match=r"ray://head:10001 is the address of a Ray client: start the command on"):
        cluster.run(arguments)


def test_no_cluster_is_one_sentence(
    cluster: Any, tiny_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**options: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nMore lines.")

    monkeypatch.setattr(cluster.ray, "init", fail)
    arguments = parser().parse_args(refused(tiny_config, tmp_path, "--cluster", "auto"))
    with pytest.raises(ValueError, match=r"^no Ray cluster at auto \(Could not find any .*\.\): start one .* alone$"):
        cluster.run(arguments)


def test_a_mistake_is_not_tried_again_and_a_failure_is(cluster: Any) -> None:
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2._internal.exceptions import UserExceptionWithTraceback

    mistake = UserExceptionWithTraceback(ValueError("--out x is not the same folder"), "Traceback ...")
    broken = UserExceptionWithTraceback(RuntimeError("Connection closed by peer\nmore"), "Traceback ...")
    callback = cluster._Mistakes()
    callback.after_exception(None, {0: broken})
    with pytest.raises(ValueError, match=r"^--out x is not the same folder$") as raised:
        callback.after_exception(None, {0: broken, 1: mistake})
    assert cluster._sentence(ControllerError(raised.value), 3) == "--out x is not the same folder"
    assert cluster._sentence(WorkerGroupError("long", {1: mistake, 0: broken}), 3) == (
        "workers failed 4 times, at last worker 0 with RuntimeError: Connection closed by peer; the same command "
        "resumes from the last checkpoint"
    )


def test_a_cluster_that_is_too_small_is_told(
    cluster: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    there = SimpleNamespace(
        cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0}, nodes=lambda: [{"Alive": True}] * 3 + [{"Alive": False}]
    )
    monkeypatch.setattr(cluster, "ray", there)
    assert (cluster._default_workers(True), cluster._default_workers(False)) == (2, 3)
    cluster._tell_shortage(4, True)
    assert capsys.readouterr().out == "the cluster has 2 GPUs, 4 workers need 4: waiting for more machines\n"
    cluster._tell_shortage(8, False)
    assert capsys.readouterr().out == ""


@pytest.mark.live
def test_a_killed_worker_is_started_again_and_resumes(
    footage: Path, tiny_config: Path, footage_cache: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray.train", reason="Ray is not installed")
    program = str(Path(__file__).parent / "quick_training.py")
    done = subprocess.run(
        [
            sys.executable, program, "pretrain", str(tiny_config), "--data", str(footage), "--cache",
            str(footage_cache), "--out", str(tmp_path / "run"), "--set", "run.log_every=1",
            "--cluster", "local", "--workers", "2", "--retries", "1",
        ],
        capture_output=True, text=True, timeout=300, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "KILL": f"1:2:{tmp_path / 'killed'}"},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert (tmp_path / "killed").exists()
    assert "pretrain-000002.dcp at iteration 2" in done.stdout + done.stderr
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]
    assert json.loads((tmp_path / "run/run.json").read_text())["processes"] == 2
    assert [path.name for path in (tmp_path / "run").glob("pretrain*")] == ["pretrain.pt"]
