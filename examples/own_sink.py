"""A sink of your own: this one prints how bright each frame is.

pip install 'everframe[cpu]'
python examples/own_sink.py bundles/landscape
"""

import sys

from streaming import Frame, Sink, StreamFormat, stream


class BrightnessSink(Sink):
    """Prints the mean brightness of every frame. Each sink runs on a thread of its own."""

    name = "brightness"

    def open(self, stream_format: StreamFormat) -> None:
        """Remember the frame height: the first H rows of an I420 frame are its brightness."""
        self._height = stream_format.height

    def write(self, frame: Frame) -> bool:
        """Print one line; True says that the frame was delivered."""
        print(f"frame {frame.slot}: {frame.picture[: self._height].mean():.1f}")
        return True

    def close(self) -> None:
        """Release nothing: there is nothing open."""


sys.exit(stream(sys.argv[1], to=[BrightnessSink()], seconds=2))
