"""Pretraining in several processes: one is killed, and another number of them goes on as one process would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.training.quick_training import digest
from training import loop
from training.__main__ import parser, run
from training.checkpoint import load_checkpoint, load_generator
from training.stages import command
from training.tasks.probe import load_pretrainer

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(__file__).parent / "quick_training.py")
TOLERANCE = 1e-5  # relative, of the loss; measured: 2e-7


@pytest.fixture(scope="module")
def config(tiny_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six iterations of four clips; a checkpoint after every second one."""
    path = tmp_path_factory.mktemp("config") / "six.toml"
    text = tiny_config.read_text().replace("iterations = 4\nbatch = 2", "iterations = 6\nbatch = 4")
    path.write_text(text.replace("log_every = 2", 'log_every = 1\nprecision = "fp32"'))
    return path


@pytest.fixture(scope="module")
def places(footage: Path, footage_cache: Path) -> list[str]:
    return ["--data", str(footage), "--cache", str(footage_cache)]


def start(launch: list[str], arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command of training in other processes."""
    return subprocess.run(
        [sys.executable, *launch, PROGRAM, "pretrain", *arguments], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}, cwd=ROOT,
    )  # fmt: skip


def processes(number: int) -> list[str]:
    return ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={number}"]


def losses(out: Path) -> dict[int, float]:
    """Return iteration -> loss; no iteration is there twice."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    found = {line["iteration"]: line["loss"] for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.fixture(scope="module")
def straight(config: Path, places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process that was never stopped."""
    out = tmp_path_factory.mktemp("straight") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "write_samples", lambda *_: None)
        run(parser().parse_args(["pretrain", str(config), *places, "--out", str(out)]))
    return out


@pytest.fixture(scope="module")
def killed(config: Path, places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes of which one was killed in the fourth iteration."""
    folder = tmp_path_factory.mktemp("killed")
    done = start(processes(2), [str(config), *places, "--out", str(folder / "run")], KILL=f"1:3:{folder / 'killed'}")
    assert done.returncode == 1
    assert "Signal 9 (SIGKILL)" in done.stderr
    return folder / "run"


@pytest.mark.live
def test_every_process_has_written_its_share(killed: Path) -> None:
    folder = killed / "pretrain-000002.dcp"
    assert not (killed / "pretrain.pt").exists()
    shares = [path.stat().st_size for path in folder.glob("*.distcp")]
    assert len(shares) == 2
    assert min(shares) > 0.4 * sum(shares)
    generator, _, facts = load_generator(killed)
    assert (facts["stage"], facts["iteration"]) == ("pretrain", 2)
    pretrainer, _, content = load_pretrainer(killed, None)
    assert content["iteration"] == 2
    for key, value in generator.state_dict().items():
        assert torch.equal(pretrainer.generator.state_dict()[key], value)


@pytest.mark.live
def test_four_processes_go_on_where_two_were_killed(
    killed: Path, straight: Path, config: Path, places: list[str], tmp_path: Path
) -> None:
    shutil.copytree(killed, tmp_path / "run")
    (tmp_path / "read").mkdir()
    one = digest(load_checkpoint(tmp_path / "run/pretrain.pt"))
    done = start(
        processes(4), [str(config), *places, "--out", str(tmp_path / "run")], READ=str(tmp_path / "read")
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "pretrain-000002.dcp at iteration 2" in done.stdout
    assert [(tmp_path / "read" / str(rank)).read_text() for rank in range(4)] == [one] * 4, "all read the same values"
    assert losses(tmp_path / "run") == pytest.approx(losses(straight), rel=TOLERANCE)
    assert sorted(path.name for path in (tmp_path / "run").glob("pretrain*")) == ["pretrain.pt"]


@pytest.mark.live
def test_one_process_goes_on_where_two_were_killed(
    killed: Path, straight: Path, config: Path, places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "write_samples", lambda *_: None)
    out = tmp_path / "run"
    shutil.copytree(killed, out)
    refused = ["pretrain", str(config), *places, "--out", str(out), "--set", "model.num_modes=6"]
    with pytest.raises(ValueError, match=r"pretrain-000002\.dcp was trained with model\.num_modes = 4, .* says 6: use"):
        run(parser().parse_args(refused))
    run(parser().parse_args(["pretrain", str(config), *places, "--out", str(out)]))
    assert losses(out) == pytest.approx(losses(straight), rel=TOLERANCE)
    assert sorted(path.name for path in out.glob("pretrain*")) == ["pretrain.pt"]


def test_a_batch_that_does_not_divide_is_refused_before_footage_is_read(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "start_engine", lambda *_: SimpleNamespace(world_size=3))
    arguments = ["pretrain", str(config), "--data", str(tmp_path / "absent"), "--out", str(tmp_path / "run")]
    with pytest.raises(ValueError, match=r"batch of 4 cannot be shared by 3 processes: .* start 1, 2 or 4 of them$"):
        run(parser().parse_args(arguments))
    assert not (tmp_path / "run").exists()
