"""The command everframe fleet, as far as it needs no cluster."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from fleet.commandline import main
from fleet.config import FleetConfig
from tests.fleet.pages import FakeDirector
from tests.streaming.doubles import closed_port

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


@pytest.mark.parametrize("form", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "127.0.0.1:99999"])
@pytest.mark.parametrize("is_variable", [False, True])
def test_a_missing_cluster_is_one_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    form: str,
    is_variable: bool,
) -> None:
    monkeypatch.setattr(ray, "init", _never)
    address = form.format(port=closed_port())
    if is_variable:
        monkeypatch.setenv("RAY_ADDRESS", address)
    told = refusal(capsys, write(tmp_path, GOOD), *([] if is_variable else ["--address", address]))
    assert told.startswith(f"error: there is no Ray cluster at {address}: ")
    assert told.endswith("; start it, or leave it out\n")


def test_an_address_that_ray_does_not_know_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(**_: Any) -> None:
        raise ValueError("Invalid address format: nonsense")

    monkeypatch.setattr(ray, "init", init)
    told = refusal(capsys, write(tmp_path, GOOD), "--address", "nonsense")
    assert (
        told
        == "error: there is no Ray cluster at nonsense: Invalid address format: nonsense; start it, or leave it out\n"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_shows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    ended: list[str] = []

    class Shows(FakeDirector):
        def __init__(self, config: FleetConfig, say: Any) -> None:
            super().__init__()
            assert list(config.shows) == ["lobby"]

        def __enter__(self) -> Shows:
            os.kill(os.getpid(), number)
            return self

        def __exit__(self, *_: object) -> None:
            ended.append("shows")

    def init(**_: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(15))  # as Ray does

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append("Ray"))
    monkeypatch.setattr("fleet.director.Director", Shows)
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        status, _, error = run(capsys, write(tmp_path, GOOD))
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert (status, ended) == (0, ["shows", "Ray"])
    assert error.startswith("all shows: http://127.0.0.1:")
    assert error.endswith("all shows end now\n")


def test_a_keeper_that_has_ended_ends_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    class Shows(FakeDirector):
        def __init__(self, config: FleetConfig, say: Any) -> None:
            super().__init__()
            self.is_lost, self.problem = True, "the keeper has ended"

        def __enter__(self) -> Shows:
            return self

        def __exit__(self, *_: object) -> None:
            ended.append("shows")

    monkeypatch.setattr(ray, "init", lambda **_: None)
    monkeypatch.setattr(ray, "shutdown", lambda: ended.append("Ray"))
    monkeypatch.setattr("fleet.director.Director", Shows)
    monkeypatch.setattr("fleet.commandline._LOOK_S", 0.01)
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        status, _, error = run(capsys, write(tmp_path, GOOD))
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    assert (status, ended) == (2, ["shows", "Ray"])
    assert error.splitlines()[1:] == ["error: the keeper has ended"]


def _never(**_: Any) -> None:
    raise AssertionError("Ray would wait for ever")
