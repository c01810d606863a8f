"""`make train`: what it would run, and that every key it sets is one that the configurations know."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("make") is None:
        pytest.skip("no make here")
    return subprocess.run(["make", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=60)


def commands(*arguments: str) -> list[list[str]]:
    """Return the words of every `python -m training` that make would run, from the command on."""
    done = make("--dry-run", "train", *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace("\\\n", " ").splitlines()
    return [shlex.split(line.split("-m training ")[1]) for line in lines if "-m training " in line]


@pytest.mark.parametrize("generator", ["satellite-256", "landscape-256"])
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


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["DATA="], "name the footage, DATA=FOLDER"), (["GENERATOR=nothing", "DATA=pack"], "no training/configs/nothing")],
)
def test_bad_input_is_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = make("--silent", "train", f"RUN={tmp_path / 'run'}", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
