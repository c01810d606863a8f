"""Child processes: messages in both directions, limits on waiting, and that no child outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from streaming.process.child import ChildProcess
from tests.streaming.doubles import WAIT_S

ROOT = Path(__file__).parents[3]
ECHO = """
import os
from streaming.process.child import ParentPipe
parent = ParentPipe()
print("not a message")
while (message := parent.receive()) is not None:
    fields, data = message
    if "kill" in fields: os._exit(3)
    parent.send({**fields, "nice": os.nice(0), "given": os.environ.get("GIVEN")}, data)
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ChildProcess]:
    """A child that sends back what it receives."""
    (tmp_path / "echo.py").write_text(ECHO)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with closing(ChildProcess("echo", {"a": 1}, environment={"GIVEN": "x"}, niceness=5, is_quiet=True)) as child:
        yield child


def send_all(child: ChildProcess, timeout_s: float) -> None:
    """Send more than the pipe and the queue hold."""
    for _ in range(10):
        child.send({}, bytes(10**6), timeout_s=timeout_s)


def test_messages_and_data_in_both_directions(echo: ChildProcess) -> None:
    assert echo.receive(0.0) is None
    first = echo.receive(WAIT_S)
    assert first is not None
    assert (first[0]["a"], first[0]["given"], len(first[1])) == (1, "x", 0)
    assert first[0]["nice"] == os.nice(0) + 5
    data = bytes(range(256)) * 5000  # more than a pipe holds
    for number in range(5):
        echo.send({"number": number}, data)
    for number in range(5):
        message = echo.receive(WAIT_S)
        assert message is not None
        assert (message[0]["number"], bytes(message[1])) == (number, data)
    echo.finish()
    assert echo.wait(WAIT_S) == 0
    with pytest.raises(ConnectionAbortedError):
        echo.receive(WAIT_S)
    with pytest.raises(BrokenPipeError):
        echo.send({})


def test_a_child_that_reads_nothing_costs_no_more_than_the_time_limit(echo: ChildProcess) -> None:
    os.kill(echo.pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        send_all(echo, 0.05)
    echo.close()
    assert echo.has_ended()


def test_a_child_that_ends_is_noticed(echo: ChildProcess) -> None:
    echo.send({"kill": True})
    assert echo.wait(WAIT_S) == 3
    with pytest.raises(BrokenPipeError):
        send_all(echo, WAIT_S)


def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "waiting.py").write_text(
        "import time\nfrom streaming.process.child import ParentPipe\n"
        "parent = ParentPipe()\nparent.exit_with_parent()\nparent.send({})\ntime.sleep(600)\n"
    )
    code = (
        "import sys\nfrom streaming.process.child import ChildProcess\n"
        "child = ChildProcess('waiting')\nchild.receive()\nprint('ready', flush=True)\nsys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert parent.stdout.readline() == b"ready\n"
        parent.kill()
        assert parent.stderr.read() == b""  # ends with the last process that holds it, which is the child
