"""`--clip` with files of every kind: each is played, and one line says what was done to it, or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from streaming import stream
from streaming.commandline import main
from tests import moving
from tests.runtime.clips.clip_files import PLAYED, REFUSED


@pytest.fixture(scope="module")
def show(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return moving.build(tmp_path_factory.mktemp("moving") / "moving")


@pytest.fixture(autouse=True)
def _read_before_the_first_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the line comes before the end of shows that are shorter than reading takes."""
    monkeypatch.setattr("runtime.clips.clip_frames.HEAD_S", 1e9)


def command(show: Path, clip: Path) -> list[str]:
    return [str(show), "--engine", "onnxruntime", "--clip", str(clip), "--to", "null", "--seconds", "0.2"]


@pytest.mark.parametrize("kind", PLAYED)
def test_a_line_says_what_was_done(kind: str, show: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make, expected = PLAYED[kind]
    clip = make(tmp_path)
    assert main(command(show, clip)) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"{clip.name}: ")]
    assert len(lines) == 1
    assert expected in lines[0]


@pytest.mark.parametrize("kind", REFUSED)
def test_a_sentence_says_what_is_refused(
    kind: str, show: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, expected = REFUSED[kind]
    clip = make(tmp_path)
    assert main(command(show, clip)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert expected in error
    assert clip.name in error


def test_the_api_refuses_and_plays_the_same(show: Path, tmp_path: Path) -> None:
    how = {"engine": "onnxruntime", "seconds": 0.2}
    clip = REFUSED["sound alone"][0](tmp_path)
    with pytest.raises(ValueError, match="it holds no video"):
        stream(show, ["null"], clip=clip, **how)
    assert stream(show, ["null"], clip=PLAYED["portrait"][0](tmp_path), **how) == 0
