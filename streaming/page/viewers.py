"""The page's WebRTC viewers: a child process, `streaming.page.viewers_child`, encodes, packs and sends.

In the show's own process, loading aiortc and making packets in Python would cost the generator frames.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from streaming.process.children import command, environment

HEAD = struct.Struct(">cQQ")  # FRAME and its slot, or OFFER and its number; then how many bytes follow
FRAME, OFFER = b"F", b"O"
MAX_VIEWERS = 16  # who are connected, or have been answered
_SEND_S = 2.0  # for the child to take one frame
_FRAMES_UNDER_WAY = 2  # between the processes, where the system gives that much room


@dataclass(frozen=True)
class ViewersConfig:
    """What there is to watch.

    Args:
        width: of a frame in pixels, even.
        height: of a frame in pixels, even.
        fps: slots per second, as a fraction: "30000/1001".
        is_local: whether only this machine may watch.
    """

    width: int
    height: int
    fps: str
    is_local: bool

    def to_line(self) -> bytes:
        """Return the line of JSON that the child reads."""
        return json.dumps(asdict(self)).encode() + b"\n"


class ViewersProcess:
    """A running child.

    Args:
        watch: what it sends.

    Raises:
        OSError: the system starts no more processes.
    """

    def __init__(self, watch: ViewersConfig) -> None:
        self._socket, theirs = socket.socketpair()
        room = _FRAMES_UNDER_WAY * (HEAD.size + watch.width * watch.height * 3 // 2)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        try:
            with theirs:
                self._process = subprocess.Popen(
                    command("streaming.page.viewers_child"),
                    stdin=theirs.fileno(),  # whose end it reads once this process is gone, however it went
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env=environment(),
                    process_group=0,  # Ctrl-C is for the show
                )
            self._socket.settimeout(_SEND_S)
            self._socket.sendall(watch.to_line())
        except BaseException:
            self._socket.close()
            raise
        self.pid = self._process.pid

    def tell(self, kind: bytes, number: int, data: bytes | memoryview) -> None:
        """Send a frame or an offer.

        Args:
            kind: `FRAME` or `OFFER`.
            number: the frame's slot, or the offer's number.
            data: I420, or SDP in UTF-8.

        Raises:
            OSError: the child takes nothing any more. It is ended then, as what was sent in part cannot be taken back.
        """
        try:
            self._socket.sendall(HEAD.pack(kind, number, len(data)))
            self._socket.sendall(data)
        except OSError:
            self._process.kill()
            raise

    def lines(self) -> Iterator[bytes]:
        """Yield what the child says, a line of JSON each, until it ends."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            yield from lines

    def has_ended(self) -> bool:
        """Return whether there is no child any more."""
        return self._process.poll() is not None

    def end(self) -> None:
        """Leave no child behind."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._socket.close()
