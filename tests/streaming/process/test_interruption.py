"""The command as a process of its own: raw bytes, pipes that close, signals."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from runtime import Generator
from runtime.marking.payload import format_payload
from streaming.process.interruption import Interruption, process_start_s
from tests.streaming.doubles import WAIT_S, decode

ROOT = Path(__file__).parents[3]
ENGINE = ("--engine", "onnxruntime", "--precision", "fp32")
MARK = 0xC0FFEE123456


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
    mark = ("--mark-payload", format_payload(MARK))
    process = start(bundle, "--to", "-", "--pixels", pixels, "--seed", 7, "--seconds", 0.4, "--fps", 15, *mark, *ENGINE)
    data, error = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, error
    with Generator.open(bundle, engine="onnxruntime", precision="fp32", pixels=pixels, seed=7, mark=MARK) as generator:
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
    assert b"the reader closed the pipe" in error
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


def run_patched(body: str) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m streaming` with another body of `main`."""
    code = (
        "import runpy, streaming.commandline as commandline\n"
        f"def main():\n{textwrap.indent(body, '    ')}\n"
        "commandline.main = main\n"
        "runpy.run_module('streaming', run_name='__main__')\n"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=WAIT_S, check=False)


def test_a_thread_that_is_still_in_an_engine_does_not_abort_the_end() -> None:
    body = """\
import threading
import numpy as np, openvino, openvino.opset9 as operations
given = operations.parameter([256, 256], np.float32)
product = operations.matmul(given, given, False, False)
model = openvino.Model([product], [given], "product")
request = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1}).create_infer_request()
runs = threading.Semaphore(0)
def infer():
    while True:
        request.infer(share_outputs=True)
        runs.release()
threading.Thread(target=infer, daemon=True).start()
runs.acquire()
print("the summary")
return 1
"""
    done = run_patched(body)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"the summary\n", b"")


CLOSED = """\
import os, sys
os.closerange(0, 3)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def run_closed(*arguments: object) -> int:
    """Run Python with its three standard streams closed; return the exit status."""
    command = [sys.executable, "-c", CLOSED, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, timeout=WAIT_S, check=False).returncode


def test_a_show_needs_no_standard_streams(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "show.mkv"
    assert run_closed("-m", "streaming", bundle, "--to", path, "--seconds", 0.3, *ENGINE) == 0
    assert len(decode(path)[0]) >= 1
    assert run_closed("-m", "streaming", bundle, "--to", "-", "--seconds", 0.3, *ENGINE) == 2
    assert run_closed("-m", "streaming", tmp_path / "nothing", "--to", "null") == 2


def test_no_file_gets_the_number_of_a_closed_standard_stream(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from streaming.process.interruption import fill_standard_streams\n"
        "fill_standard_streams()\n"
        "print('heard by nobody', file=sys.stderr)\n"
        f"with open({str(tmp_path / 'told')!r}, 'w') as file: file.write(str(file.fileno()))\n"
        f"os.system('echo from a child; echo from a child >&2')\n"
    )
    assert run_closed("-c", code) == 0
    assert int((tmp_path / "told").read_text()) >= 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's addresses")
def test_little_memory_costs_one_line(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streaming", str(bundle), "--to", str(tmp_path / "a.mkv"), "--seconds", "0.1"]
    done = subprocess.run(
        ["bash", "-c", 'ulimit -v 400000; exec "$@"', "bash", *command],
        cwd=ROOT,
        capture_output=True,
        timeout=4 * WAIT_S,
        check=False,
    )
    assert done.returncode in (0, 2), done.stderr
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0 or (done.stderr.startswith(b"error: ") and list(tmp_path.iterdir()) == [])
