"""The Dockerfiles: linted by hadolint, and what they copy and install exists."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))


def test_there_is_one_for_cpus_and_one_for_gpus() -> None:
    assert [path.name for path in FILES] == ["cpu.Dockerfile", "gpu.Dockerfile"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    found = subprocess.run([linter, "--no-fail", path], capture_output=True, text=True, check=True)
    assert found.stdout == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_extras_exist(path: Path) -> None:
    match = re.search(r"'\.\[([a-z,]+)\]'", path.read_text(encoding="utf-8"))
    assert match is not None
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(match[1].split(",")) <= extras.keys()


def test_what_a_package_needs_is_not_ignored() -> None:
    ignored = {line.rstrip("/") for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").split()}
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    assert not ignored & {
        *(name.partition(".")[0] for name in packages),
        "bundles",
        "everframe.py",
        "README.md",
        "LICENSE",
    }
