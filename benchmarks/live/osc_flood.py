"""A flood of OSC messages: a control, as fast as this process can send it.

python -m benchmarks.live.osc_flood PORT CONTROL MINIMUM MAXIMUM      (started by `benchmarks.live.instrument`)

Runs until it is killed, or its standard input ends.
"""

from __future__ import annotations

import os
import socket
import sys
import threading


def main(port: int, control: str, minimum: float, maximum: float) -> None:
    """Send until the end."""
    from pythonosc.osc_message_builder import OscMessageBuilder

    threading.Thread(target=_end_with_input, daemon=True).start()
    datagrams = []
    for step in range(100):
        builder = OscMessageBuilder(address=f"/everframe/control/{control}")
        builder.add_arg(minimum + (maximum - minimum) * step / 100)
        datagrams.append(builder.build().dgram)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        while True:
            for datagram in datagrams:
                sender.sendto(datagram, ("127.0.0.1", port))


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), float(sys.argv[4]))
