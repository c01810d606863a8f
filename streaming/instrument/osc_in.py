"""OSC in: messages over UDP perform the actions of the page (`--osc PORT`).

/everframe/control/NAME value, /everframe/text "...", /everframe/seed N, /everframe/scene NAME,
/everframe/cue/take N, /everframe/take, /everframe/dissolve S
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from typing import Any

from streaming.control.controller import NotReadyError
from streaming.instrument.message_count import MessageCount
from streaming.instrument.performer import Performer
from streaming.instrument.udp_address import UdpAddress, open_receiver
from streaming.page.actions import ACTIONS

_CONTROL, _DISSOLVE = "/everframe/control/", "/everframe/dissolve"
# Address -> action, and its values in the order of the arguments; the last ones may be left out.
ADDRESSES = {
    "/everframe/text": ("prompt", ("text", "dissolve_s")),
    "/everframe/seed": ("prompt", ("seed", "dissolve_s")),
    "/everframe/scene": ("prompt", ("scene", "dissolve_s")),
    "/everframe/cue/take": ("take", ("cue", "dissolve_s")),
    "/everframe/take": ("take_next", ()),
}
_FIELDS = {field.name: field for action in ACTIONS for field in action.fields}
_TYPES = frozenset(b",ifdshTF")  # that python-osc reads and that mean something here
_MAX_DEPTH = 8  # of bundles in bundles
_MAX_BYTES, _MAX_DATAGRAMS, _MAX_BATCH_BYTES = 2**16, 512, 2**17
_PAUSE_S = 0.002  # after a batch: what comes meanwhile is the next one
_REST = 3  # times the time that a batch took: a flood gets a quarter of one core


class OscInput:
    """Receives on a thread of its own from `start` to `close`.

    What has arrived is read as one batch, of which only the latest message of each address counts.

    Args:
        address: of this machine; port 0 takes a free one.
        performer: performs the actions.

    Attributes:
        address: with the port that was taken.
        count: of the messages.

    Raises:
        ValueError: the package is missing, or the address is not available.
    """

    def __init__(self, address: UdpAddress, performer: Performer) -> None:
        try:
            from pythonosc.osc_message import OscMessage
        except ImportError as error:
            raise ValueError("--osc needs python-osc: pip install everframe[osc]") from error
        self.count = MessageCount()
        self._parse, self._performer = OscMessage, performer
        self._socket = open_receiver(address, "--osc")
        self._socket.setblocking(False)
        self.address = UdpAddress(address.host, self._socket.getsockname()[1])
        self._bell, self._ringer = socket.socketpair()  # wakes the thread at the end
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"OSC {self.address}", daemon=True)

    def start(self) -> None:
        """Begin to receive; what has arrived before is read first."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and free the port. Closing twice is allowed."""
        if not self._ending.is_set():
            self._ending.set()
            self._ringer.send(b"\0")
            if self._thread.ident is not None:
                self._thread.join()
            for item in (self._socket, self._bell, self._ringer):
                item.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for item in (self._socket, self._bell):
                selector.register(item, selectors.EVENT_READ)
            while not self._ending.is_set():
                selector.select()
                began_s = time.monotonic()
                for message in self._read_batch():
                    self._perform(message)
                self._ending.wait(max(_PAUSE_S, _REST * (time.monotonic() - began_s)))

    def _read_batch(self) -> list[bytes]:
        """Return the latest message of each address among those that have arrived, in the order of arrival."""
        latest: dict[bytes, bytes] = {}
        num_bytes = 0
        for _ in range(_MAX_DATAGRAMS):
            if num_bytes >= _MAX_BATCH_BYTES:
                break
            try:
                datagram = self._socket.recv(_MAX_BYTES)
            except BlockingIOError:
                break
            except OSError as error:  # e.g. the network has gone down
                self.count.fail(str(error))
                break
            num_bytes += len(datagram)
            try:
                messages = split(datagram)
            except ValueError as error:
                self.count.add()
                self.count.fail(str(error))
                continue
            self.count.add(len(messages))
            for message in messages:
                address = message.partition(b"\0")[0]
                latest.pop(address, None)  # the latest comes last
                latest[address] = message
        return list(latest.values())

    def _perform(self, datagram: bytes) -> None:
        address = datagram.partition(b"\0")[0].decode("ascii", "replace")
        try:
            if address != _DISSOLVE and address not in ADDRESSES and not address.startswith(_CONTROL):
                known = ", ".join((f"{_CONTROL}NAME", _DISSOLVE, *ADDRESSES))
                raise ValueError(f"there is no such address; expected {known}")
            check_types(datagram)
            self._do(address, self._parse(datagram).params)
        except (ValueError, NotReadyError) as error:
            self.count.fail(f"{address}: {error}")
        except Exception as error:  # noqa: BLE001 - python-osc raises several errors for a damaged message
            self.count.fail(f"{address}: this is not a valid OSC message ({error})")

    def _do(self, address: str, arguments: list[Any]) -> None:
        if address.startswith(_CONTROL):
            self._performer.set_control(address.removeprefix(_CONTROL), _only(arguments))
        elif address == _DISSOLVE:
            self._performer.dissolve_s = float(_FIELDS["dissolve_s"].check(_only(arguments)))
        elif address == "/everframe/take":
            if arguments != [0]:  # a button that is released
                self._performer.ask("take_next", {}, lambda why: self.count.fail(f"{address}: {why}"))
        else:
            action, names = ADDRESSES[address]
            if not 1 <= len(arguments) <= len(names):
                raise ValueError(f"the arguments are {', '.join(names)}, got {len(arguments)} of them")
            given = {name: _to_whole(name, value) for name, value in zip(names, arguments, strict=False)}
            self._performer.ask(action, given, lambda why: self.count.fail(f"{address}: {why}"))


def split(packet: bytes, depth: int = 0) -> list[bytes]:
    """Return the messages of a packet: itself, or those of a bundle (OSC 1.0). Time tags are ignored.

    Raises:
        ValueError: it is damaged.
    """
    if not packet.startswith(b"#bundle\0"):
        if not packet.startswith(b"/"):
            raise ValueError("a packet is neither an OSC message nor a bundle")
        return [packet]
    if depth > _MAX_DEPTH:
        raise ValueError(f"bundles are nested more than {_MAX_DEPTH} times")
    messages: list[bytes] = []
    place = 16  # after the time tag
    while place < len(packet):
        size = int.from_bytes(packet[place : place + 4], "big")
        element = packet[place + 4 : place + 4 + size]
        if len(element) != size:
            raise ValueError("a bundle is cut short")
        messages += split(element, depth + 1)
        place += 4 + size
    return messages


def check_types(message: bytes) -> None:
    """Raise ValueError if an argument has a type that no address takes; python-osc would log it and leave it out."""
    begin = message.find(b"\0") // 4 * 4 + 4
    types = message[begin:].partition(b"\0")[0]
    if unknown := set(types) - _TYPES:
        raise ValueError(f"an argument has the type {chr(min(unknown))!r}; expected numbers and strings")


def _only(arguments: list[Any]) -> Any:
    if len(arguments) != 1:
        raise ValueError(f"there must be one number, got {len(arguments)} arguments")
    return arguments[0]


def _to_whole(name: str, value: Any) -> Any:
    """Return a whole number as an integer where one is expected: many programs send only floats."""
    is_whole = _FIELDS[name].type == "integer" and isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value
