"""A window on the desktop; the window itself belongs to a child process (see `streaming.sinks.window_child`)."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess

from streaming.errors import ClosedError, SinkError
from streaming.process.children import command, environment
from streaming.sinks.sink import Frame, Sink, StreamFormat

_START_S = 20.0  # for the child to be loaded, on a machine that is busy
_SHOW_S = 5.0  # for one frame
_GOODBYE_S = 1.0


class WindowSink(Sink):
    """Shows frames in a window; closing it, q or Escape end this sink and no other.

    Args:
        spec: "window".
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def open(self, feed: StreamFormat) -> None:
        """Keep the feed; the window opens in `start`."""
        self._feed = feed

    def start(self) -> None:
        """Start the child and wait for its window."""
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                command("streaming.sinks.window_child"),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,  # Qt has a lot to say
                env=environment(),
                start_new_session=True,  # Ctrl-C is for the show
            )
        feed = self._feed
        self._socket.settimeout(_START_S)
        wish = {"title": feed.title or "Everframe", "width": feed.width, "height": feed.height}
        heard = b""
        try:
            self._socket.sendall(json.dumps(wish).encode() + b"\n")
            while not heard.endswith(b"\n"):
                if not (data := self._socket.recv(1024)):
                    raise ConnectionAbortedError("its process has ended")
                heard += data
        except OSError as error:
            raise SinkError(f"sink {self.name} cannot be shown: {error}") from error
        if heard != b"ready\n":
            raise SinkError(f"sink {self.name} cannot be shown: {heard.decode().strip()}")
        self._socket.settimeout(_SHOW_S)

    def write(self, frame: Frame) -> bool:
        """Show a frame, and wait until it is shown."""
        assert self._socket is not None, "written to before it was started"
        assert self._process is not None, "written to before it was started"
        try:
            self._socket.sendall(frame.picture.reshape(-1).data)
            if self._socket.recv(1):
                return True
        except TimeoutError as error:
            raise SinkError(f"sink {self.name} failed: the window takes no more frames") from error
        except OSError:
            pass  # the process has ended; its status says how
        if self._process.wait(_SHOW_S) == 0:
            raise ClosedError("the window was closed")
        raise SinkError(f"sink {self.name} failed: the process of the window has ended")

    def close(self) -> None:
        """Close the window."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
        if self._process is not None:
            try:
                self._process.wait(_GOODBYE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._socket is not None:
            self._socket.close()
