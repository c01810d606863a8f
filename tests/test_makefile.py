"""`make train`: what it would run, and that every key it sets is one that the configurations know."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from importlib import import_module
from multiprocessing.connection import Client, Listener
from pathlib import Path
from threading import Thread

import pytest

from runtime.bundle.reader import open_bundle
from runtime.golden import check_golden

ROOT = Path(__file__).parent.parent


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    command = ["make", "-C", str(ROOT), *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True) as process:
        try:
            out, errors = process.communicate(timeout=900)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


def commands(*arguments: str) -> list[list[str]]:
    """Return the words of every `python -m training` that make would run, from the command on."""
    done = make("--dry-run", "train", *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return [shlex.split(line.split("-m training ")[1]) for line in lines if "-m training " in line]


@pytest.mark.parametrize("generator", ["satellite", "landscape"])
def test_every_stage_runs_with_keys_that_are_known(generator: str, tmp_path: Path) -> None:
    from training.config import load_config

    run = str(tmp_path / "run")
    config = f"training/configs/{generator}.toml"
    shard, pretrain, finetune, polish = commands(
        f"GENERATOR={generator}", "DATA=my pack", f"RUN={run}", "WORDS=words", "SET=finetune.batch=16"
    )
    short_side = str(load_config(ROOT / config).footage.short_side)
    assert shard == ["shard", "my pack", "--out", f"{run}/shards", "--short-side", short_side]
    assert polish[0] == "polish"
    assert "--words" not in polish  # fine-tuning has said which
    for name, words in (("pretrain", pretrain), ("finetune", finetune)):
        assert words[:2] == [name, config]
        assert words[2:6] == ["--data", f"{run}/shards", "--out", run]
        assert words[-2:] == ["--words", "words"]
        changes = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
        changed = load_config(ROOT / config, changes)
        assert changed.finetune.crop == 0
        assert (changed.pretrain.batch, changed.finetune.batch) == (32, 16)
        assert changed.run.keep_every > 0
        assert changed.pretrain.iterations % changed.run.keep_every == 0
        assert changed.finetune.iterations % changed.run.keep_every == 0


def test_without_data_footage_is_made_first(tmp_path: Path) -> None:
    from training.__main__ import parser
    from training.config import load_config
    from training.made.command import settings_of

    footage, shard, pretrain, *rest = found = commands(f"RUN={tmp_path}", "FOOTAGE=--clips 2 --kinds ocean")
    assert [words[0] for words in found] == ["footage", "shard", "pretrain", "finetune", "polish"]
    arguments = parser().parse_args(footage)
    assert (arguments.out, arguments.clips, settings_of(arguments)[1]) == (tmp_path / "footage", 2, ["ocean"])
    assert shard == ["shard", f"{tmp_path}/footage", "--out", f"{tmp_path}/shards", "--short-side", "144"]
    for words in (pretrain, *rest):
        assert words[1] == "training/configs/made-128.toml"
        assert "--set" not in words, "the configuration is used as it is"
    config = load_config(ROOT / "training/configs/made-128.toml")
    assert config.model.height == config.model.width == 128
    assert config.pretrain.weights["alignment"] == 0, "there are no word vectors"


def test_what_is_done_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "shards.json").touch()
    assert [words[0] for words in commands(f"RUN={tmp_path}")] == ["pretrain", "finetune", "polish"]
    (tmp_path / "pretrain.done").touch()
    assert [words[0] for words in commands(f"RUN={tmp_path}", "ACCELERATOR=")] == ["finetune", "polish"]
    (tmp_path / "finetune.done").touch()
    assert [words[0] for words in commands(f"RUN={tmp_path}")] == ["polish"]
    (tmp_path / "polish.done").touch()
    assert commands(f"RUN={tmp_path}") == []


def test_gpu_check_runs_a_pipeline_too() -> None:
    from benchmarks.__main__ import _parser
    from benchmarks.gpu_check import GPU_ENGINES

    done = make("--dry-run", "gpu-check", "BUNDLE=bundles/mine", "TRAIN_PYTHON=python3")
    assert done.returncode == 0, done.stderr
    found = [shlex.split(part.split("||")[0].split("&&")[0]) for part in done.stdout.split("-m benchmarks ")[1:]]
    assert [words[0] for words in found] == ["gpu-check", "diffusers"]
    check, pipeline = (_parser(words[0]).parse_args(words) for words in found)
    assert (check.bundle, str(check.json)) == ("bundles/mine", "gpu-check.json")
    assert pipeline.engine == ",".join(GPU_ENGINES)
    assert str(pipeline.json) == "gpu-check-diffusers.json"


@pytest.mark.parametrize(("status", "names"), [(0, 2), (1, 2), (2, 1)])
def test_gpu_check_stops_without_a_gpu(tmp_path: Path, status: int, names: int) -> None:
    python, log = tmp_path / "python", tmp_path / "log"
    python.write_text(f'#!/bin/sh\necho "$3" >> "{log}"\ntest "$3" = diffusers || exit {status}\n')
    python.chmod(0o755)
    done = make("gpu-check", f"TRAIN_PYTHON={python}")
    assert log.read_text().split() == ["gpu-check", "diffusers"][:names]
    assert (done.returncode == 0) == (status == 0)


SMALL = """
[model]
height = 64
width = 64
num_modes = 4
period_frames = 16
components = 4
encoder_scale = 0.25
[footage]
fps = 25.0
short_side = 72
crop_min = 64
crop_max = 72
horizon_frames = 8
[pretrain]
iterations = 1
batch = 4
[finetune]
iterations = 1
batch = 4
replay = 0
burn_in_frames = 2
[polish]
iterations = 1
batch = 1
[run]
threads = 1
evaluate_clips = 4
"""
# Stands in for Python: has its arguments carried out by the process of the tests, which has imported PyTorch already.
STAND_IN = """#!{python}
import sys
from multiprocessing.connection import Client
with Client({address!r}) as tests:
    tests.send(sys.argv[1:])
    sys.exit(tests.recv())
"""


def carry_out(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Do what Python would do with these arguments; returns the exit status."""
    if arguments[0] == "-c":
        exec(arguments[1], {})
        return 0
    monkeypatch.setattr(sys, "argv", arguments[1:])
    status = import_module(f"{arguments[1]}.__main__").main()
    assert isinstance(status, int)
    return status


def test_all_of_it_runs(footage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from export import bundle_writer as assembly
    from training import sampling

    # Checks and samples have tests of their own.
    monkeypatch.setattr(assembly, "GOLDEN_FRAMES", (1, 4))
    monkeypatch.setattr(assembly, "FEW_FRAMES", (4,))
    short = assembly.ExportOptions(frames=4, engines=(), precisions=("fp32",), sizes=((96, 64),))
    monkeypatch.setattr(assembly, "ExportOptions", lambda **_: short)
    monkeypatch.setattr(sampling, "rollout", lambda _, image, *rest: dict.fromkeys(rest[2], image))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.chdir(ROOT)
    (tmp_path / "small.toml").write_text(SMALL)
    python, address, run = tmp_path / "python", str(tmp_path / "socket"), tmp_path / "run"
    python.write_text(STAND_IN.format(python=sys.executable, address=address))
    python.chmod(0o755)
    arguments = [f"DATA={footage}", f"RUN={run}", f"TRAIN_CONFIG={tmp_path / 'small.toml'}", "ACCELERATOR="]
    finished: list[subprocess.CompletedProcess[str]] = []

    def run_make() -> None:
        try:
            finished.append(make("train", f"TRAIN_PYTHON={python}", *arguments))
        finally:
            with contextlib.suppress(OSError), Client(address) as tests:
                tests.send([])

    thread = Thread(target=run_make)
    with Listener(address) as listener:
        thread.start()
        while True:
            with listener.accept() as command:
                if not (words := command.recv()):
                    break
                command.send(carry_out(words, monkeypatch))
    thread.join()
    assert finished[0].returncode == 0, finished[0].stderr
    manifest = open_bundle(run / "bundle").manifest  # of the same weights at another work size
    assert [(shape.width, shape.height) for shape in manifest.shapes] == [(96, 64)]
    assert manifest.provenance["training"]["trained_size"] == [64, 64]
    assert min(result.psnr_db for result in check_golden(run / "bundle", "onnxruntime", "fp32")) >= 60
    assert {path.name for path in run.glob("*.pt")} == {"pretrain.pt", "finetune.pt", "polish.pt"}
    assert commands(*arguments) == [], "the next call finds everything done"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["GENERATOR=satellite"], "name the footage, DATA=FOLDER"),
        (["GENERATOR=nothing", "DATA=pack"], "no training/configs/nothing"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = make("--silent", "train", f"RUN={tmp_path / 'run'}", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
