"""A recording: H.264 in MP4 or Matroska, written as NAME.partial and renamed when it is complete.

An MP4 is written in fragments of 0.1 s, which become an ordinary file at the end; Matroska's clusters are as short. If
the process is killed, `NAME.partial` lacks the frames in the encoder (x264: 5) and one fragment: at 24 frames per
second the last third of a second. The data is not forced to the disk, so a power failure may lose more.

Frames keep their time in the show: after dropped slots, the frame before them lasts longer.
"""

from __future__ import annotations

import importlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from provenance.files import BESIDE, SIDECAR
from streaming.errors import SinkError
from streaming.sinks.output_file import OutputFile
from streaming.sinks.sink import Frame, Sink, StreamFormat

if TYPE_CHECKING:  # they load the encoder's library
    from streaming.sound.reader import SoundReader
    from streaming.sound.track import SoundTrack

fcntl: Any = importlib.import_module("fcntl") if os.name == "posix" else None
_MUXERS = {
    ".mp4": (
        "mp4",
        {"movflags": "+hybrid_fragmented+negative_cts_offsets", "frag_duration": "100000"},
    ),  # microseconds
    ".mkv": ("matroska", {"cluster_time_limit": "100"}),  # milliseconds
}


class FileSink(Sink):
    """Records to a file; an older file of that name is replaced at the end.

    Args:
        spec: the path, ending in .mp4 or .mkv.
    """

    close_s = None  # a recording is always completed
    makes_file = True

    def __init__(self, spec: str) -> None:
        self.name = spec
        self._path = Path(spec)
        self._container: Any = None
        self._stream: Any = None
        self._track: SoundTrack | None = None
        self._sound: SoundReader | None = None
        self._first: int | None = None
        self._result = ""
        self.sent_bytes: int = 0

    def open(self, feed: StreamFormat) -> None:
        """Create and lock `NAME.partial`, so that a wrong path or a second recording is an error before the show."""
        self._feed = feed
        if os.path.isdir(self._path):  # noqa: PTH112 - Path raises where a name is too long
            raise SinkError(f"sink {self.name} is a folder: give the path of a file in it")
        if not os.path.isdir(self._path.parent):  # noqa: PTH112
            raise SinkError(
                f"sink {self.name} cannot be written: there is no folder {self._path.parent}; make it first"
            )
        try:
            self._file = OutputFile(self._path, ".partial")
        except OSError as error:
            reason = _reason(error)
            raise SinkError(f"sink {self.name} cannot be written: {reason}; choose another path") from error
        if fcntl is not None:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                self._file.close()
                raise SinkError(
                    f"sink {self.name} cannot be written: another recording writes to it; choose another path"
                ) from error
        if os.fstat(self._file.fileno()).st_size:
            self._rescue()

    def start(self) -> None:
        """Load the encoder."""
        import av

        from streaming.live.encoders import ENCODERS
        from streaming.live.h264 import add_video

        encoder = ENCODERS[self._feed.encoder]
        muxer, options = _MUXERS[self._path.suffix.lower()]
        try:
            self._container = av.open(
                self._file, "w", format=muxer, container_options={**options, "flush_packets": "1"}
            )
            self._stream = add_video(self._container, self._feed, encoder, encoder.recording)
            self._pixels = encoder.pixels
            if self._feed.sound is not None:
                from streaming.sound.track import SoundTrack, add_aac

                self._track = SoundTrack(add_aac(self._container, None))
                self._sound = self._feed.sound.reader(self._feed.fps)
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"sink {self.name} cannot be written: {_reason(error)}") from error

    def write(self, frame: Frame) -> bool:
        """Encode a frame and its sound, and write the packets."""
        import av

        from streaming.live.h264 import to_video_frame

        if self._file.is_deleted:
            raise SinkError(f"sink {self.name} failed: {self._file.partial} was deleted, and the recording with it")
        try:
            if self._first is None:
                # Not earlier: FFmpeg 8 crashes at the end of a fragmented MP4 without frames.
                self._container.start_encoding()
                self._first = frame.slot
            video = to_video_frame(frame, self._feed, frame.slot - self._first, pixels=self._pixels)
            packets = self._stream.encode(video)
            if self._track is not None and self._sound is not None:
                packets += self._track.encode(self._sound.read(frame.slot))
            self._container.mux(packets)
            self.sent_bytes += sum(packet.size for packet in packets)
        except (av.FFmpegError, OSError) as error:
            raise SinkError(
                f"sink {self.name} failed: {_reason(error)}; the unfinished file is {self._file.partial}"
            ) from error
        return True

    def close(self) -> None:
        """Write the remaining frames and the index, and rename the file; without frames, delete it."""
        self._finish(is_wanted=self._first is not None)

    def discard(self) -> None:
        """Delete the file."""
        self._finish(is_wanted=False)

    def result(self) -> str:
        """Return the path and the size of the finished file."""
        return self._result

    def _rescue(self) -> None:
        """Rename the rest of an interrupted recording."""
        numbers = itertools.count(1)
        names = (self._path.with_name(f"{self._path.stem}.recovered-{number}{self._path.suffix}") for number in numbers)
        earlier = self._file  # stays locked under its new name until the new file is locked
        try:
            kept = next(name for name in names if not name.exists())
            earlier.partial.rename(kept)
            self._file = OutputFile(self._path, ".partial")
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SinkError(
                f"sink {self.name} cannot be written: an interrupted recording is at {earlier.partial}; move it away"
            ) from error
        finally:
            earlier.close()
        self.invitation = f"an earlier recording to {self.name} was interrupted; it is kept as {kept}"

    def _finish(self, *, is_wanted: bool) -> None:
        import av

        try:
            try:
                if is_wanted:
                    self._container.mux(self._stream.encode(None))
                    if self._track is not None:
                        self._container.mux(self._track.finish())
            finally:
                if self._container is not None:
                    self._container.close()
            if is_wanted:
                self._file.commit()
                self._result = f"{self._path.resolve()}, {_size(self._path.stat().st_size)}"
                self.product = self._path
                if self._path.suffix.lower() in BESIDE:  # a manifest of the recording that was replaced
                    self._path.with_suffix(SIDECAR).unlink(missing_ok=True)
        except (av.FFmpegError, OSError) as error:
            raise SinkError(
                f"sink {self.name} failed: {_reason(error)}; the unfinished file is {self._file.partial}"
            ) from error
        finally:
            if is_wanted:
                self._file.close()
            else:
                self._file.discard()


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
