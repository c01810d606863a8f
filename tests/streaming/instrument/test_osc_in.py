"""OSC in, over real UDP sockets of this machine, sent by python-osc's client."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pythonosc.osc_bundle_builder import IMMEDIATELY, OscBundleBuilder
from pythonosc.osc_message_builder import OscMessageBuilder

from runtime import Generator
from streaming.control.controller import ShowController
from streaming.instrument.osc_in import ADDRESSES, OscInput, check_types, split
from streaming.instrument.performer import Performer
from streaming.instrument.udp_address import UdpAddress
from tests.streaming.control.test_controller import Waiting
from tests.streaming.doubles import WAIT_S
from tests.streaming.instrument.doubles import RecordingPerformer, wait_until

HERE = UdpAddress("127.0.0.1", 0)


def message(address: str, *arguments: Any) -> Any:
    """Return a message of python-osc."""
    builder = OscMessageBuilder(address=address)
    for argument in arguments:
        builder.add_arg(argument)
    return builder.build()


class Sender:
    """Sends datagrams to an input."""

    def __init__(self, osc: OscInput) -> None:
        self.osc = osc
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, address: str, *arguments: Any) -> None:
        self.send_raw(message(address, *arguments).dgram)

    def send_raw(self, datagram: bytes) -> None:
        self._socket.sendto(datagram, ("127.0.0.1", self.osc.address.port))

    def wait_errors(self, num: int) -> str:
        """Wait for errors and return the last one."""
        wait_until(lambda: self.osc.count.to_json()["errors"] == num)
        return str(self.osc.count.to_json()["last_error"])

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def sender(performer: Performer) -> Iterator[Sender]:
    """An input before a real show; it receives already."""
    osc = OscInput(HERE, performer)
    osc.start()
    sender = Sender(osc)
    yield sender
    sender.close()
    osc.close()
    assert not osc._thread.is_alive()


@pytest.fixture
def recorded() -> Iterator[tuple[Sender, RecordingPerformer]]:
    """An input that does not receive before the test starts it, and what it asks for."""
    recording = RecordingPerformer()
    osc = OscInput(HERE, cast(Performer, recording))
    sender = Sender(osc)
    yield sender, recording
    sender.close()
    osc.close()


def test_a_control_is_set_before_the_next_frame(
    sender: Sender, controller: ShowController, generator: Generator
) -> None:
    def has_arrived() -> bool:
        controller.play(cast(Any, 0))  # as the show's thread does before each frame
        return generator.controls["gain"] == 1.5

    sender.send("/everframe/control/gain", 1.5)
    wait_until(has_arrived)
    sender.send("/everframe/control/gain", 1)  # a whole number is a number
    wait_until(lambda: controller.play(cast(Any, 0)) or generator.controls["gain"] == 1.0)
    assert sender.osc.count.to_json() == {"messages": 2, "errors": 0, "last_error": ""}


def test_prompts_and_cues(sender: Sender, controller: ShowController) -> None:
    waiting = Waiting(controller)
    sender.send("/everframe/text", "the storm")
    waiting.until(lambda cues: [cue["state"] for cue in cues] == ["on air"])
    sender.send("/everframe/seed", 7.0)  # many programs send only floats
    waiting.until(lambda cues: [cue["state"] for cue in cues] == ["ready", "on air"])
    sender.send("/everframe/take", 1.0)
    waiting.until(lambda cues: [cue["state"] for cue in cues] == ["on air", "ready"])
    sender.send("/everframe/take", 0.0)  # the button is released
    sender.send("/everframe/cue/take", 2, 0.0)
    cues = waiting.until(lambda cues: [cue["state"] for cue in cues] == ["ready", "on air"])
    assert [cue["label"] for cue in cues] == ["the storm", "seed 7"]
    assert sender.osc.count.to_json() == {"messages": 5, "errors": 0, "last_error": ""}


def test_the_length_of_cross_fades_is_kept(sender: Sender, performer: Performer) -> None:
    sender.send("/everframe/dissolve", 2.5)
    wait_until(lambda: performer.dissolve_s == 2.5)


@pytest.mark.parametrize(
    ("address", "arguments", "sentence"),
    [
        ("/everframe/control/gain", (3.0,), "/everframe/control/gain: gain must be from 0 to 2, got 3.0"),
        ("/everframe/control/gain", (float("nan"),), "value must be from"),
        ("/everframe/control/gain", ("loud",), 'value must be a number, got "loud"'),
        ("/everframe/control/gain", (), "there must be one number, got 0 arguments"),
        ("/everframe/control/gain", (1.0, 2.0), "there must be one number, got 2 arguments"),
        ("/everframe/control/gian", (1.0,), 'there is no control "gian"'),
        ("/everframe/control/seed", (7.0,), "seed makes a new scene"),
        ("/everframe/control", (7.0,), "/everframe/control: there is no such address; expected"),
        ("/everframe/txet", ("sea",), "/everframe/txet: there is no such address; expected"),
        ("/everframe/text", (), "the arguments are text, dissolve_s, got 0 of them"),
        ("/everframe/text", ("a", 1.0, 2.0), "got 3 of them"),
        ("/everframe/text", (7,), "text must be a string, got 7"),
        ("/everframe/text", ("x" * 2001,), "text must have 1 to 2000 characters, got 2001"),
        ("/everframe/text", (b"sea",), "an argument has the type 'b'; expected numbers and strings"),
        ("/everframe/seed", (1.5,), "seed must be an integer, got 1.5"),
        ("/everframe/seed", (-1,), "seed must be from 0 to"),
        ("/everframe/scene", ("lake",), "lake"),
        ("/everframe/cue/take", (9,), "/everframe/cue/take: there is no cue 9"),
        ("/everframe/cue/take", (1, 9999.0), "dissolve_s must be from 0 to 3600"),
        ("/everframe/take", (), "/everframe/take: no cue is ready: prepare one first"),
        ("/everframe/dissolve", (-1.0,), "dissolve_s must be from 0 to 3600, got -1.0"),
    ],
)
def test_a_bad_message_is_counted(sender: Sender, address: str, arguments: tuple[Any, ...], sentence: str) -> None:
    sender.send(address, *arguments)
    assert sentence in sender.wait_errors(1)
    assert sender.osc.count.to_json()["messages"] == 1


@pytest.mark.parametrize(
    "datagram",
    [
        b"",
        b"hello",
        b"\xff" * 40,
        b"/everframe/text\0,s\0\0\xff\xfe\0\0",
        b"/everframe/text\0,s\0\0",
        b"/everframe/control/gain",
        b"#bundle\0" + bytes(8) + b"\0\0\0\x40/everframe",
        b"#bundle\0" + bytes(8) + b"\0\0\0\0",
    ],
)
def test_a_damaged_datagram_is_counted(sender: Sender, performer: Performer, datagram: bytes) -> None:
    sender.send_raw(datagram)
    assert sender.wait_errors(1)
    sender.send("/everframe/dissolve", 2.0)
    wait_until(lambda: performer.dissolve_s == 2.0)


def test_of_what_has_arrived_the_latest_of_each_address_counts(recorded: tuple[Sender, RecordingPerformer]) -> None:
    sender, recording = recorded
    for step in range(40):
        sender.send("/everframe/control/gain", step / 64)
        sender.send("/everframe/seed", step)
    sender.send("/everframe/control/drift", 1.0)
    sender.osc.start()
    wait_until(lambda: len(recording.controls) == 2)
    assert recording.controls == [("gain", 39 / 64), ("drift", 1.0)]
    assert recording.requests == [("prompt", {"seed": 39})]
    assert sender.osc.count.to_json() == {"messages": 81, "errors": 0, "last_error": ""}


def test_a_bundle_is_its_messages_whatever_its_time(recorded: tuple[Sender, RecordingPerformer]) -> None:
    sender, recording = recorded
    inner, outer = OscBundleBuilder(IMMEDIATELY), OscBundleBuilder(2e9)
    inner.add_content(message("/everframe/control/drift", 0.5))
    outer.add_content(message("/everframe/control/gain", 0.25))
    outer.add_content(inner.build())
    outer.add_content(message("/everframe/control/gain", 0.75))
    sender.send_raw(outer.build().dgram)
    sender.osc.start()
    wait_until(lambda: len(recording.controls) == 2)
    assert recording.controls == [("drift", 0.5), ("gain", 0.75)]
    assert sender.osc.count.to_json()["messages"] == 3


def test_bundles_may_not_be_nested_without_an_end() -> None:
    packet = message("/everframe/take").dgram
    for _ in range(9):
        packet = b"#bundle\0" + bytes(8) + len(packet).to_bytes(4, "big") + packet
    assert len(split(packet)) == 1
    packet = b"#bundle\0" + bytes(8) + len(packet).to_bytes(4, "big") + packet
    with pytest.raises(ValueError, match="nested more than 8 times"):
        split(packet)


@given(st.binary(max_size=64).map(lambda tail: b"/everframe/text\0" + tail) | st.binary(max_size=64))
def test_no_datagram_raises_another_error(datagram: bytes) -> None:
    try:
        for part in split(datagram):
            check_types(part)
    except ValueError:
        return


def test_every_address_has_an_action() -> None:
    performer = Performer(ShowController(), 1.0)
    for action, _ in ADDRESSES.values():
        with pytest.raises(ValueError, match=r"takes text|takes cue|takes dissolve_s"):
            performer.ask(action, {"nothing": 1}, print)
    performer.close()


def test_a_port_that_is_in_use_is_a_sentence() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(ValueError, match=f"^--osc 127.0.0.1:{port} cannot be used: port {port} is in use; stop"):
            OscInput(UdpAddress("127.0.0.1", port), cast(Performer, RecordingPerformer()))


def test_the_port_is_free_again() -> None:
    osc = OscInput(HERE, cast(Performer, RecordingPerformer()))
    osc.start()
    osc.close()
    osc.close()
    osc._thread.join(WAIT_S)
    assert not osc._thread.is_alive()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", osc.address.port))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pythonosc.osc_message", None)
    with pytest.raises(ValueError, match=r"^--osc needs python-osc: pip install everframe\[osc\]$"):
        OscInput(HERE, cast(Performer, RecordingPerformer()))
