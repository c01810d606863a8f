"""Frames -> FLV tags: H.264 for live streaming, with a silent sound track, as most services refuse a stream without.

FLV is what RTMP carries: a tag's body is a message's payload (Adobe Flash Video File Format 10.1, annex E).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Any

import av
import numpy as np

from streaming.h264 import KEY_INTERVAL_S, add_video, to_video_frame
from streaming.sink import Feed, Frame

_SAMPLE_RATE = 48_000
_BITS_PER_PIXEL = 0.12
_MIN_BITRATE, _MAX_BITRATE = 400_000, 6_000_000  # bit/s; services advise up to 6 Mbit/s for 1080p
_HEADER_BYTES = 9 + 4  # the file's header and the size of the tag before the first, which is 0
_PRIMING = 3  # AAC frames until the encoder has nothing but silence in it


@dataclass(frozen=True)
class Tag:
    """One FLV tag.

    Args:
        kind: 8 audio, 9 video, 18 data; RTMP numbers its messages alike.
        timestamp_ms: milliseconds since the first frame.
        payload: the body.
    """

    kind: int
    timestamp_ms: int
    payload: bytes


class FlvEncoder:
    """Encodes one unbroken stream; its time begins at 0 with the first frame, which is a key frame.

    Args:
        feed: frame size and rate.
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._tags = _TagReader()
        self._container = av.open(
            self._tags, "w", format="flv", container_options={"flvflags": "no_duration_filesize", "flush_packets": "1"}
        )
        bitrate = round(min(max(_BITS_PER_PIXEL * feed.width * feed.height * feed.fps, _MIN_BITRATE), _MAX_BITRATE))
        options = {
            "preset": "veryfast",
            "tune": "zerolatency",
            "profile": "high",
            "bf": "0",
            "sc_threshold": "0",  # key frames when their time has come, and at no other
            "forced-idr": "1",
            "b": str(bitrate),
            "maxrate": str(bitrate),
            "bufsize": str(bitrate),
        }
        self._video = add_video(self._container, feed, options)
        self._video.codec_context.gop_size = 2**15  # key frames are asked for by the clock, below
        self._audio = self._container.add_stream("aac", rate=_SAMPLE_RATE, layout="stereo")
        self._container.start_encoding()
        self._silence = self._encode_silence()
        self._first: int | None = None
        self._key = 0
        self._num_audio = 0

    def encode(self, frame: Frame) -> list[Tag]:
        """Encode a frame.

        Args:
            frame: I420, later than the one before.

        Returns:
            The tags that are complete now, in the order of their time: this frame's, and as much silence as reaches it.

        Raises:
            av.FFmpegError: the encoder failed.
        """
        if self._first is None:
            self._first = self._key = frame.slot
        is_key = frame.slot == self._first or frame.slot - self._key >= ceil(KEY_INTERVAL_S * self._feed.fps)
        if is_key:
            self._key = frame.slot
        slot = frame.slot - self._first
        self._container.mux(self._video.encode(to_video_frame(frame, self._feed, slot, is_key=is_key)))
        self._mux_silence_until(slot / self._feed.fps)
        return self._tags.take()

    def _mux_silence_until(self, moment_s: Fraction) -> None:
        # One packet beyond the frame: the muxer lets nothing go before it has seen later audio too.
        interval_s = Fraction(self._audio.codec_context.frame_size, _SAMPLE_RATE)
        while (self._num_audio - 1) * interval_s <= moment_s:
            packet = av.Packet(self._silence)
            packet.stream = self._audio
            packet.time_base = Fraction(1, _SAMPLE_RATE)
            packet.pts = packet.dts = self._num_audio * self._audio.codec_context.frame_size
            packet.duration = self._audio.codec_context.frame_size
            packet.is_keyframe = True
            self._container.mux(packet)
            self._num_audio += 1

    def _encode_silence(self) -> bytes:
        """Encode silence once; every packet of it is the same."""
        context: Any = self._audio.codec_context
        packets: list[bytes] = []
        for index in range(_PRIMING + 2):
            sound = av.AudioFrame.from_ndarray(np.zeros((2, context.frame_size), np.float32), "fltp", "stereo")
            sound.sample_rate = _SAMPLE_RATE
            sound.pts = index * context.frame_size
            packets += [bytes(packet) for packet in context.encode(sound)]
        return packets[-1]


class _TagReader:
    """A file that the muxer writes to and that gives the tags back."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_past_header = False

    def write(self, data: bytes) -> int:
        self._data += data
        return len(data)

    def take(self) -> list[Tag]:
        data, position, tags = self._data, 0, []
        if not self._is_past_header and len(data) >= _HEADER_BYTES:
            self._is_past_header, position = True, _HEADER_BYTES
        while len(data) >= position + 15:
            size = int.from_bytes(data[position + 1 : position + 4], "big")
            end = position + 11 + size + 4
            if len(data) < end:
                break
            stamp = int.from_bytes(data[position + 4 : position + 7], "big") | data[position + 7] << 24
            tags.append(Tag(data[position] & 31, stamp, bytes(data[position + 11 : end - 4])))
            position = end
        del data[:position]
        return tags
