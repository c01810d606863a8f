"""The command everframe fleet, as far as it needs no cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fleet.commandline import main

GOOD = '[fleet]\npage = "http://127.0.0.1:0"\n[shows.lobby]\nto = ["null"]\n'
SECRET = "live_8f3kq"
BAD = f'[shows.hall]\nscen = "lake"\nto = "rtmp://h/live/{SECRET}"\n'


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Run the command; return its status and what it wrote to standard output and standard error."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def refusal(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must be refused in one line."""
    status, out, error = run(capsys, *arguments)
    assert (status, out) == (2, "")
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(text)
    return path


def test_a_good_configuration_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, write(tmp_path, GOOD), "--check") == (0, "1 shows can be started, 0 cannot\n", "")


def test_every_bad_show_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, error = run(capsys, write(tmp_path, f"{GOOD}{BAD}[shows.Attic]\n"), "--check")
    assert (status, out) == (2, "1 shows can be started, 2 cannot\n")
    assert [line.partition(" ")[0] for line in error.splitlines()] == ["error:", "error:"]
    assert 'error: [shows.hall] has "scen": did you mean scene?\n' in error
    assert 'error: a show is called "Attic"' in error
    assert SECRET not in error


def test_without_a_good_show_nothing_is_started(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, error = run(capsys, write(tmp_path, BAD))
    assert status == 2
    assert error.splitlines()[1] == f"error: {tmp_path / 'fleet.toml'}: no show can be started"


@pytest.mark.parametrize("arguments", [[], ["--adress=x"], ["a.toml", "b.toml"], ["a.toml", "--check=1"]])
def test_bad_arguments_are_one_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert refusal(capsys, *arguments).endswith("; see everframe fleet --help\n")


def test_bad_files_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no.toml cannot be read: No such file or directory" in refusal(capsys, tmp_path / "no.toml")
    assert "is not TOML" in refusal(capsys, write(tmp_path, "[shows"))
    assert "has no shows" in refusal(capsys, write(tmp_path, ""))


def test_a_bad_page_is_told_before_a_cluster_is_looked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal(capsys, write(tmp_path, GOOD.replace("127.0.0.1:0", "[::1")))
    assert '[fleet] page = "http://[::1" is no address of a page' in told


@pytest.mark.parametrize("package", ["ray", "httpx"])
def test_a_missing_package_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "fleet" and name != "fleet.commandline"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    path = write(tmp_path, GOOD)
    told = refusal(capsys, path)
    assert told == f"error: a fleet needs {package}, which is not installed: pip install 'everframe[cluster]'\n"
    assert run(capsys, path, "--check")[0] == 0, "which needs neither"


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("usage: everframe fleet")
