"""OSC out, received by a real socket and read by python-osc."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pythonosc.osc_message import OscMessage

from streaming.control.controller import ShowController
from streaming.instrument.osc_out import OscOutput
from streaming.instrument.udp_address import UdpAddress
from tests.streaming.doubles import WAIT_S

STATS = {"frames": 12, "late": 3}


class Receiver:
    """Receives messages."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(WAIT_S)
        self.address = UdpAddress(*self._socket.getsockname())

    def receive(self) -> tuple[str, Any]:
        message = OscMessage(self._socket.recv(65536))
        [value] = message.params
        return message.address, value

    def until(self, is_enough: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Return the latest values by address, once they are enough."""
        found: dict[str, Any] = {}
        while not is_enough(found):
            address, value = self.receive()
            found[address] = value
        return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A free port."""
    receiver = Receiver()
    yield receiver
    receiver.close()


def test_the_state_is_sent(receiver: Receiver, controller: ShowController) -> None:
    levels = {"bass": 0.5, "onset": 0.0}
    output = OscOutput(receiver.address, controller, lambda: STATS)
    output.start(lambda: levels)
    try:
        found = receiver.until(lambda found: "/everframe/late" in found)
        assert found == {
            "/everframe/state/control/gain": 1.0,
            "/everframe/state/control/drift": 1.0,
            "/everframe/state/control/seed": 0.0,
            "/everframe/levels/bass": 0.5,
            "/everframe/levels/onset": 0.0,
            "/everframe/on_air": "seed 3",
            "/everframe/frame": 12,
            "/everframe/late": 3,
        }
        controller.set_control("gain", 0.25)
        receiver.until(lambda found: found.get("/everframe/state/control/gain") == 0.25)
        levels["bass"] = 0.75
        receiver.until(lambda found: found.get("/everframe/levels/bass") == 0.75)
    finally:
        output.close()
    assert not output._thread.is_alive()


def test_what_has_not_changed_is_sent_again_only_with_everything(
    receiver: Receiver, controller: ShowController
) -> None:
    output = OscOutput(receiver.address, controller, lambda: STATS)
    output._send(is_full=True)
    controller.set_control("gain", 0.25)
    output._send(is_full=False)
    output._send(is_full=False)
    output._send(is_full=True)
    output.close()
    addresses = [receiver.receive()[0].rpartition("/")[2] for _ in range(13)]
    everything = ["gain", "drift", "seed", "on_air", "frame", "late"]
    assert addresses == [*everything, "gain", *everything]


def test_a_label_may_be_the_name_of_any_file(receiver: Receiver, controller: ShowController) -> None:
    controller._on_air = "\udcff\0.png"
    output = OscOutput(receiver.address, controller, lambda: STATS)
    output._send(is_full=True)
    output.close()
    assert receiver.until(lambda found: "/everframe/on_air" in found)["/everframe/on_air"] == "? .png"


def test_nobody_has_to_listen(receiver: Receiver, controller: ShowController) -> None:
    receiver.close()
    output = OscOutput(receiver.address, controller, lambda: STATS)
    output._send(is_full=True)
    output._send(is_full=True)
    output.close()
    output.close()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythonosc.osc_message_builder", None)
    with pytest.raises(ValueError, match=r"^--osc-out needs python-osc: pip install everframe\[osc\]$"):
        OscOutput(UdpAddress("127.0.0.1", 9), ShowController(), lambda: STATS)
