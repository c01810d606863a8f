"""The console command: each of its commands is one of the command lines."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import everframe

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("command", everframe.COMMANDS)
def test_a_command_runs_its_module(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(everframe.runpy, "run_module", lambda module, **_: started.append((module, sys.argv[1:])))
    monkeypatch.setattr(sys, "argv", ["everframe", command, "--help"])
    assert everframe.main() == 0
    module = everframe.COMMANDS[command][0]
    assert started == [(module, ["--help"])]
    assert (ROOT / module / "__main__.py").is_file()


@pytest.mark.parametrize("arguments", [[], ["steam"]])
def test_anything_else_is_one_sentence(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["everframe", *arguments])
    assert everframe.main() == 2
    assert "expected one of stream, export, train, verify, bench" in capsys.readouterr().err


def test_help_names_every_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["everframe", "--help"])
    assert everframe.main() == 0
    told = capsys.readouterr().out
    assert all(f"  {command}" in told for command in everframe.COMMANDS)


def test_it_is_installed_and_real() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"everframe": "everframe:main"}
    done = subprocess.run([sys.executable, "-m", "everframe", "stream", "--fps", "0"], cwd=ROOT, capture_output=True)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: ")
