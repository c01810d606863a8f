"""The command line: answers, their exit status, JSON, the page, and bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.verify.marked_video import TEXT, clip, luma, write
from verify import command, frames
from verify.video import verify_video

ROOT = Path(__file__).parents[2]
SIZE = (480, 272)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 frames at 25 frames per second, encoded with x264."""
    return write(tmp_path_factory.mktemp("videos") / "marked.mp4", clip(*SIZE, count=40))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("videos") / "plain.mkv", clip(*SIZE, count=20, payload=None))


def test_a_marked_video_is_told_in_words(marked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(marked)]) == 0
    said = capsys.readouterr().out
    assert f"Marked: payload {TEXT}." in said
    assert "Found in 3 of 3 windows, from 0.0 s to 1.6 s" in said
    assert "made or changed by a generator" in said
    drawn = re.findall(r"(?m)^    ([#+.]{8})$", said)
    assert len(drawn) == 6, "the map"
    assert sum(line.count("#") + line.count("+") for line in drawn) > 12


def test_a_video_without_a_mark_is_told_in_words(plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(plain)]) == 1
    said = capsys.readouterr().out
    assert "No mark of Everframe was found; 20 frames" in said
    assert "does not show that the video is a recording of the world" in said


def test_json_is_one_line(marked: Path, plain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([str(marked), "--json", "--seconds", "1"]) == 0
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    found = json.loads(said)
    assert found["marked"] is True
    assert found["mark"]["payloads"] == [TEXT]
    assert found["mark"]["frames"] == 25
    windows = found["mark"]["windows"]
    assert [window["finding"]["payload"] for window in windows] == [TEXT, TEXT]
    assert windows[1]["begin_s"] == pytest.approx(0.64)
    assert np.array(windows[0]["finding"]["places"]).shape == (6, 8)
    assert command.main([str(plain), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["marked"] is False


def test_the_page_is_one_file(marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "a page.html"
    assert command.main([str(marked), "--page", str(page)]) == 0
    text = page.read_text()
    assert TEXT in text
    assert "made or changed by a generator" in text
    assert text.count("data:image/jpeg;base64,") == 3
    assert "class='clear'" in text
    assert "http" not in text, "nothing is loaded from elsewhere"
    assert list(tmp_path.iterdir()) == [page]


def test_names_of_files_are_escaped_on_the_page(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = tmp_path / "<script>alert(1)<.mkv"
    odd.write_bytes(plain.read_bytes())
    page = tmp_path / "page.html"
    assert command.main([str(odd), "--page", str(page)]) == 1
    assert "<script>" not in page.read_text()
    assert "No mark was found." in page.read_text()


def test_a_picture_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "frame.png"
    Image.fromarray(luma(clip(640, 360, count=1))[0]).save(file)
    assert command.main([str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mark"]["payloads"] == [TEXT]


def test_a_weak_mark_is_found_in_all_frames_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Each window is mostly noise; the mean of eight is less so.
    random, source = np.random.default_rng(0), luma(clip(384, 216, count=1))[0].astype(float)
    noisy = [np.clip(source + random.normal(0, 110, source.shape), 0, 255).astype(np.uint8) for _ in range(128)]
    read = [frames.VideoFrame(frame, number / 25, None) for number, frame in enumerate(noisy)]
    monkeypatch.setattr("verify.video.read_frames", lambda *_: iter(read))
    report = verify_video("noise.mkv")
    assert all(window.finding is None for window in report.windows)
    assert report.payloads == [TEXT]
    assert report.whole is not None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing.mp4"], "nothing.mp4 cannot be read: No such file or directory"),
        ([], "the following arguments are required: SOURCE"),
        (["x.mp4", "--seconds", "0"], "expected seconds above 0"),
        (["x.mp4", "--second", "1"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert sentence in told.err


def test_what_is_no_video_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, content in (("a.txt", b"some words\n" * 50), ("empty.mp4", b"")):
        file = tmp_path / name
        file.write_bytes(content)
        assert command.main([str(file)]) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"error: {file} ")
        assert told.count("\n") == 1
    assert command.main([str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_a_page_that_cannot_be_written_is_one_sentence(
    marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(marked), "--page", str(tmp_path / "missing" / "page.html")]) == 2
    assert "No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("clip.mkv", "is the source itself, which it would replace"),
        ("link.html", "is the source itself, which it would replace"),
        ("clip.mp4", "must end in .html, got"),
        ("page", "must end in .html, got"),
    ],
)
def test_a_page_never_replaces_a_video(
    plain: Path, tmp_path: Path, name: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    content = plain.read_bytes()
    for video in ("clip.mkv", "clip.mp4"):
        (tmp_path / video).write_bytes(content)
    (tmp_path / "link.html").hardlink_to(tmp_path / "clip.mkv")
    before = sorted(tmp_path.iterdir())
    assert command.main([str(tmp_path / "clip.mkv"), "--page", str(tmp_path / name)]) == 2
    told = capsys.readouterr()
    assert sentence in told.err
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert sorted(tmp_path.iterdir()) == before
    assert all((tmp_path / kept).read_bytes() == content for kept in ("clip.mkv", "clip.mp4", "link.html"))


def test_secrets_of_an_address_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = "https://user:word@127.0.0.1:9/live/pass?token=key"  # nothing listens there
    secrets = ("user", "word", "pass", "token", "key")
    assert command.main([address]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: https://127.0.0.1:9/live/*** cannot be read: ")
    read = [frames.VideoFrame(np.full((272, 480), 90, np.uint8), 0.0, None)]
    monkeypatch.setattr("verify.video.read_frames", lambda *_: iter(read))
    monkeypatch.setattr("verify.video.to_thumbnail", lambda _: b"")
    assert command.main([address, "--page", str(tmp_path / "a.html")]) == 1
    assert command.main([address, "--json"]) == 1
    told = (tmp_path / "a.html").read_text().partition("</style>"), capsys.readouterr().out
    assert "<title>https://127.0.0.1:9/live/***: Everframe verify</title>" in told[0][0]
    assert '"source": "https://127.0.0.1:9/live/***"' in told[1]
    assert not any(secret in told[1] + told[0][2] for secret in secrets)
    monkeypatch.setattr("verify.video.read_frames", lambda *_: iter(()))
    assert command.main([address]) == 2
    assert capsys.readouterr().err.startswith("error: https://127.0.0.1:9/live/*** has no frames")


def test_an_answer_that_nobody_reads_to_its_end_is_no_error(marked: Path) -> None:
    read, write_end = os.pipe()
    os.close(read)
    for words in ([], ["--json"]):
        command_line = [sys.executable, "-m", "verify", str(marked), "--seconds", "0.5", *words]
        done = subprocess.run(command_line, cwd=ROOT, stdout=write_end, stderr=subprocess.PIPE, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    os.close(write_end)


def test_webcams_have_the_address_of_their_system(monkeypatch: pytest.MonkeyPatch) -> None:
    assert frames.is_live("webcam:1")
    assert frames.is_live("rtmp://host/app")
    assert not frames.is_live("clip.mp4")
    monkeypatch.setattr(frames.sys, "platform", "linux")
    assert frames._to_address("webcam") == ("/dev/video0", "v4l2")
    assert frames._to_address("webcam:2") == ("/dev/video2", "v4l2")
    assert frames._to_address("webcam:/dev/v4l/by-id/x") == ("/dev/v4l/by-id/x", "v4l2")
    monkeypatch.setattr(frames.sys, "platform", "darwin")
    assert frames._to_address("webcam:0") == ("0", "avfoundation")


def test_help_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert all(len(line) <= 80 for line in capsys.readouterr().out.splitlines())
