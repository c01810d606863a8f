"""OSC out: the show's state, for other programs (`--osc-out HOST:PORT`)."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from streaming.control.controller import ShowController
from streaming.instrument.control_map import Levels
from streaming.instrument.udp_address import UdpAddress, resolve

_INTERVAL_S = 0.1
_FULL = 10  # intervals; then everything is sent, as UDP may lose messages and receivers come later
_MAX_INTEGER, _MAX_FLOAT = 2**31 - 1, 3.4e38  # of OSC


class OscOutput:
    """Sends what has changed ten times a second, and everything once a second, on a thread of its own.

    Args:
        address: of the receiver.
        controller: of the show.
        stats: returns the show's latest statistics, e.g. `Show.latest`.

    Raises:
        ValueError: the package is missing, or the host is unknown.
    """

    def __init__(self, address: UdpAddress, controller: ShowController, stats: Callable[[], Mapping[str, Any]]) -> None:
        try:
            from pythonosc.osc_message_builder import OscMessageBuilder
        except ImportError as error:
            raise ValueError("--osc-out needs python-osc: pip install everframe[osc]") from error
        self._builder, self._controller, self._stats = OscMessageBuilder, controller, stats
        self._levels: Levels | None = None
        self._sent: dict[str, float | int | str] = {}
        family, self._place = resolve(address, "--osc-out")
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"OSC to {address}", daemon=True)

    def start(self, levels: Levels | None) -> None:
        """Begin to send.

        Args:
            levels: returns the sound's values; None without a sound.
        """
        self._levels = levels
        self._thread.start()

    def close(self) -> None:
        """End the thread. Closing twice is allowed."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        turn = 0
        while True:
            self._send(is_full=turn % _FULL == 0)
            turn += 1
            if self._ending.wait(_INTERVAL_S):
                return

    def _send(self, *, is_full: bool) -> None:
        for address, value in self._read(is_full=is_full).items():
            if is_full or self._sent.get(address) != value:
                self._sent[address] = value
                builder = self._builder(address=address)
                builder.add_arg(value)
                with contextlib.suppress(OSError):  # nobody listens, or the network is busy
                    self._socket.sendto(builder.build().dgram, self._place)

    def _read(self, *, is_full: bool) -> dict[str, float | int | str]:
        """Return the values by address."""
        state = self._controller.state()
        values: dict[str, float | int | str] = {
            f"/everframe/state/control/{control['name']}": min(_MAX_FLOAT, max(-_MAX_FLOAT, float(control["value"])))
            for control in state["controls"]
        }
        if self._levels is not None:
            values |= {f"/everframe/levels/{name}": float(value) for name, value in self._levels().items()}
        values["/everframe/on_air"] = _to_text(state["on_air"])
        if is_full:
            stats = self._stats()
            values["/everframe/frame"] = min(_MAX_INTEGER, stats["frames"])
            values["/everframe/late"] = min(_MAX_INTEGER, stats["late"])
        return values


def _to_text(label: str) -> str:
    """Return a string that OSC can hold: labels may be names of files, which are not always UTF-8."""
    return label.replace("\0", " ").encode("utf-8", "replace").decode()
