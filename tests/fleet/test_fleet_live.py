"""A fleet on a real Ray cluster of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LIMIT_S = 240.0  # it takes a minute

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(sys.platform != "linux", reason="Ray's cluster for tests runs on Linux only"),
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed"),
]


def test_shows_survive_a_killed_and_a_drained_node(tmp_path: Path) -> None:
    short = tempfile.mkdtemp(prefix="ray-")  # the paths of Ray's sockets may have 107 characters
    settings = {
        "PYTHONPATH": str(ROOT),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # the loopback address
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_TMPDIR": short,
    }
    command = [sys.executable, "-m", "tests.fleet.live_cluster", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | settings
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as child:
        try:
            out, errors = child.communicate(timeout=_LIMIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            shutil.rmtree(short, ignore_errors=True)
    assert child.returncode == 0, errors[-4000:]
    seen = json.loads(out.splitlines()[-1])
    assert seen["errors"]["greedy"] == "it needs 3 GPUs, the largest machine has 0: add one, or ask for less"
    assert str(tmp_path / "nowhere") in seen["errors"]["lost"]
    assert "\n" not in seen["errors"]["lost"]
    assert "one" in seen["killed"]["hit"]
    assert seen["killed"]["starts"] == [1 + (name in seen["killed"]["hit"]) for name in ("one", "two")]
    assert seen["drained"] == [True]
    assert seen["removed"] == [
        [422, {"error": "lost does not run any more: remove it, and add it again"}],
        [200, {"name": "lost"}],
        [200, {"name": "greedy"}],
        [404, {"error": "there is no show lost"}],
    ]
    assert seen["left"] == ["one", "two"]
    assert any(line.startswith("lost: failed: ") for line in seen["told"])
