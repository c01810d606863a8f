"""The command as a process of its own: raw bytes, pipes that close, signals."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runtime import Generator
from streaming.process import Interruption, process_start_s
from tests.streaming.doubles import WAIT_S, decode

ROOT = Path(__file__).parents[2]
ENGINE = ("--engine", "onnxruntime", "--precision", "fp32")


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "streaming", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_until_on_air(process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(b"on air:"):
            return
    raise AssertionError("the show never began")


@pytest.mark.parametrize("pixels", ["i420", "rgb"])
def test_the_raw_pipe_carries_exactly_the_generators_bytes(bundle: Path, pixels: str) -> None:
    process = start(bundle, "--to", "-", "--pixels", pixels, "--seed", 7, "--seconds", 0.4, "--fps", 15, *ENGINE)
    data, error = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, error
    with Generator.open(bundle, engine="onnxruntime", precision="fp32", pixels=pixels, seed=7) as generator:
        frames = [frame.copy() for frame in itertools.islice(generator, 6)]
    assert frames[0].nbytes == 64 * 48 * (3 if pixels == "rgb" else 1.5)
    written = int(next(line for line in error.splitlines() if line.startswith(b"- ")).split()[1])
    assert len(data) == written * frames[0].nbytes > 0
    got = [np.frombuffer(data, np.uint8).reshape(written, *frames[0].shape)[index] for index in range(written)]
    # On a busy machine a frame may be left out, but none is torn, repeated or out of its place.
    places = [next(place for place, frame in enumerate(frames) if np.array_equal(frame, item)) for item in got]
    assert places == sorted(set(places))
    assert b"ended: time is up" in error


def test_a_reader_that_leaves_ends_the_show_quietly(bundle: Path) -> None:
    process = start(bundle, "--to", "-", *ENGINE)
    assert process.stdout is not None
    assert process.stderr is not None
    assert len(process.stdout.read(64 * 48 * 3 // 2)) == 64 * 48 * 3 // 2
    process.stdout.close()
    error = process.stderr.read()
    assert process.wait(WAIT_S) == 0
    assert b"the reader of the pipe has left" in error
    assert b"rror" not in error.replace(b"errors", b"")
    process.stderr.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_closes_the_files(bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "show.mp4"
    process = start(bundle, "--to", path, "--to", "-", *ENGINE)
    wait_until_on_air(process)
    assert process.stdout is not None
    process.stdout.read(3 * 64 * 48 * 3 // 2)
    process.send_signal(number)
    _, error = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, error
    assert b"ended: interrupted" in error
    assert b"did not close in time" not in error
    assert len(decode(path)[0]) >= 3
    assert [file.name for file in tmp_path.iterdir()] == ["show.mp4"]


def test_a_terminal_is_spared_raw_video(bundle: Path) -> None:
    leader, terminal = os.openpty()
    command = [sys.executable, "-m", "streaming", str(bundle), "--to", "-"]
    done = subprocess.run(command, cwd=ROOT, stdout=terminal, stderr=subprocess.PIPE, timeout=WAIT_S, check=False)
    os.close(terminal)
    os.close(leader)
    assert done.returncode == 2
    assert b"standard output is a terminal: add | PROGRAM or > FILE" in done.stderr


def test_help_and_arguments_need_no_engine_and_no_encoder() -> None:
    code = (
        "import sys, streaming.commandline as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'av', 'uvicorn', 'starlette', 'pyvirtualcam', 'onnx', 'openvino', 'onnxruntime', 'PIL'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert b"usage: python -m streaming" in done.stdout


def test_this_process_began_before_now() -> None:
    assert 0 < time.monotonic() - process_start_s() < 24 * 3600


def test_the_first_signal_asks_and_the_second_insists() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)  # nothing is on air yet
        interruption.is_on_air = True
        signal.raise_signal(signal.SIGINT)
        assert interruption.is_set
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
