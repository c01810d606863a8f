"""A window on the desktop; the window itself belongs to a child process (see `streaming.sinks.window_child`)."""

from __future__ import annotations

from streaming.errors import ClosedError, SinkError
from streaming.process.child import ChildProcess
from streaming.sinks.sink import Frame, Sink, StreamFormat

_START_S = 20.0  # for the child to load, on a busy machine
_SHOW_S = 5.0  # for one frame
_CLOSE_S = 1.0


class WindowSink(Sink):
    """Shows frames in a window; closing it, q or Escape end this sink and no other.

    Args:
        spec: "window".
    """

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._child: ChildProcess | None = None

    def open(self, feed: StreamFormat) -> None:
        """Keep the format; the window opens in `start`."""
        self._feed = feed

    def start(self) -> None:
        """Start the child and wait for its window."""
        feed = self._feed
        config = {"title": feed.title or "Everframe", "width": feed.width, "height": feed.height}
        try:
            self._child = ChildProcess("streaming.sinks.window_child", config, is_quiet=True)  # Qt prints a lot
            message = self._child.receive(_START_S)
        except OSError as error:
            raise SinkError(f"sink {self.name} cannot be opened: {error}") from error
        reason = "its process does not start in time" if message is None else message[0].get("error")
        if reason is not None:
            raise SinkError(f"sink {self.name} cannot be opened: {reason}")

    def write(self, frame: Frame) -> bool:
        """Show a frame and wait until it is shown."""
        assert self._child is not None, "written to before it was started"
        try:
            self._child.send({"slot": frame.slot}, frame.picture.reshape(-1).data, timeout_s=_SHOW_S)
            if self._child.receive(_SHOW_S) is not None:
                return True
            raise TimeoutError
        except TimeoutError as error:
            raise SinkError(f"sink {self.name} failed: the window takes no more frames") from error
        except OSError as error:
            if self._child.wait(_SHOW_S) == 0:
                raise ClosedError("the window was closed") from error
            raise SinkError(f"sink {self.name} failed: the process of the window has ended") from error

    def close(self) -> None:
        """Close the window."""
        if self._child is not None:
            self._child.finish()
            self._child.wait(_CLOSE_S)
            self._child.close()
