"""A flood of OSC messages that set a control.

python -m benchmarks.live.osc_flood PORT RATE CONTROL MINIMUM MAXIMUM      (started by `benchmarks.live.instrument`)

Runs until it is killed, or its standard input ends.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from itertools import cycle, islice


def main(port: int, rate: int, control: str, minimum: float, maximum: float) -> None:
    """Send `rate` messages a second until the end, some every few milliseconds."""
    from pythonosc.osc_message_builder import OscMessageBuilder

    threading.Thread(target=_end_with_input, daemon=True).start()
    datagrams = []
    for step in range(100):
        builder = OscMessageBuilder(address=f"/everframe/control/{control}")
        builder.add_arg(minimum + (maximum - minimum) * step / 100)
        datagrams.append(builder.build().dgram)
    endless, num_sent, began_s = cycle(datagrams), 0, time.monotonic()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        while True:
            num_due = int(rate * (time.monotonic() - began_s))
            for datagram in islice(endless, num_due - num_sent):
                sender.sendto(datagram, ("127.0.0.1", port))
            num_sent = num_due
            time.sleep(0.002)


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), float(sys.argv[5]))
