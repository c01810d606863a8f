"""The page's WebRTC viewers: a child process, `streaming.page.viewers_child`, encodes, packetises and sends.

In the show's own process, loading aiortc and making packets in Python would take time from the generator.
"""

from __future__ import annotations

from streaming.live.publisher import to_message
from streaming.process.child import ChildProcess
from streaming.sinks.sink import Frame, StreamFormat
from streaming.sound.timeline import Samples

MAX_VIEWERS = 16  # connected, or about to connect
_NICENESS = 10  # the show has priority
_SEND_S = 2.0  # for the child to take one message


class ViewersProcess(ChildProcess):
    """A running child.

    Args:
        feed: frame size and rate.
        is_local: whether only this machine may watch.

    Raises:
        OSError: the system starts no more processes.
    """

    def __init__(self, feed: StreamFormat, *, is_local: bool) -> None:
        config = {
            "width": feed.width,
            "height": feed.height,
            "fps": str(feed.fps),
            "is_local": is_local,
            "has_sound": feed.sound is not None,
        }
        super().__init__("streaming.page.viewers_child", config, niceness=_NICENESS, is_quiet=True)

    def show(self, frame: Frame, sound: Samples | None) -> None:
        """Send an I420 frame and its sound to all viewers; raises OSError, and kills the child, if it takes neither."""
        try:
            self.send(*to_message(frame, sound), timeout_s=_SEND_S)
        except TimeoutError:
            self.kill()
            raise

    def offer(self, number: int, sdp: str) -> None:
        """Send a browser's offer; the message {"id": number, "sdp" or "error": ...} answers it. Raises OSError."""
        self.send({"id": number, "sdp": sdp}, timeout_s=_SEND_S)
