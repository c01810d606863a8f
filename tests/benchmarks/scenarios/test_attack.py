"""The attack benchmark: its checks; only loopback addresses are attacked."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scenarios.attack import judge, summarise, to_markdown
from benchmarks.scenarios.attackers import main

ROOT = Path(__file__).parents[3]


def samples(**last: Any) -> list[dict[str, Any]]:
    """Return the samples of a show of 60 s; its full disk lost everything."""
    sinks = [
        {"name": "rtmp://127.0.0.1/live/a", "dropped": 1, "reconnects": 0},
        {"name": "/tmp/full/full.mkv", "dropped": 0, "reconnects": 0},
    ]
    lost = [sinks[0], {**sinks[1], "dropped": 900}]
    common = {"late": 1, "dropped": 0, "filled": 0, "p99_ms": 9.0, "resident_mb": 400.0}
    common |= {"descriptors": 60, "answer_ms": 5.0, "sinks": sinks}
    return [
        *({"at_s": float(at_s), "frames": 30 * at_s, **common} for at_s in range(60)),
        {"at_s": 60.0, "frames": 1800, **common, "sinks": lost, **last},
    ]


def failed(show: dict[str, Any]) -> set[str]:
    return {name for name, check in judge(show).items() if not check["passed"]}


def test_a_show_that_held() -> None:
    show = summarise(samples(), {"bad requests": 5}, 10.0)
    assert (show["frames"], show["late"], show["lost_by_sinks"], show["refused"]) == (1500, 0, 0, 0)
    assert failed(show) == set()


def test_what_fails() -> None:
    refused = summarise([*samples(), {"at_s": 60.0}], {}, 10.0)
    assert failed(refused) == {"operator"}
    assert failed(summarise(samples(descriptors=900), {}, 10.0)) == {"descriptors"}
    growing = [{**sample, "resident_mb": 400 + 2 * sample["at_s"]} for sample in samples()]
    assert failed(summarise(growing, {}, 10.0)) == {"memory"}
    lost = [{"name": "rtmp://127.0.0.1/live/a", "dropped": 2, "reconnects": 0}, samples()[0]["sinks"][1]]
    assert failed(summarise(samples(sinks=lost), {}, 10.0)) == {"sinks"}


def test_a_table() -> None:
    show = summarise(samples(), {"bad requests": 5000}, 10.0)
    result = {"bundle": "a", "seconds": 60, "fps": 30, "shows": {"quiet": show, "attacked": show}}
    text = to_markdown({**result, "checks": judge(show)})
    assert "5,000 bad requests" in text
    assert text.count("| passed |") == 4


def test_only_this_machine_is_attacked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main("http://192.0.2.1:80") == 2
    assert "192.0.2.1" in capsys.readouterr().err


def test_attackers_attack_until_their_input_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        command = [sys.executable, "-m", "benchmarks.scenarios.attackers", url]
        with subprocess.Popen(command, cwd=ROOT, stdin=-1, stdout=-1) as attackers:
            try:
                heard = threading.Event()

                def listen() -> None:
                    while True:
                        try:
                            connection, _ = server.accept()
                        except OSError:
                            return
                        with connection:
                            connection.settimeout(0.05)
                            try:
                                if connection.recv(1024):
                                    heard.set()
                            except OSError:
                                continue

                listener = threading.Thread(target=listen, daemon=True)
                listener.start()
                assert heard.wait(30)
                told, _ = attackers.communicate(timeout=30)
            finally:
                attackers.kill()
        server.shutdown(socket.SHUT_RDWR)
        listener.join(10)
    assert json.loads(told)["half-sent requests"] > 0
