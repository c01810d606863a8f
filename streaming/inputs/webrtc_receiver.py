"""Receiving by aiortc: connections that take a browser's video and sound, with as little delay as possible.

aiortc hands on a frame when the first packet of the next one arrives, which is one frame late, keeps back four packets
of sound, and queues what it cannot decode in time. `PromptBuffer` does none of this. It takes the place of the
receiver's jitter buffer, a private part. aiortc also estimates the network's rate from delays. On a busy machine these
are not the network's, and the sender is told to send less and less: the estimator is removed, and losses decide.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any

from aiortc import MediaStreamTrack, RTCPeerConnection, RTCRtpReceiver
from aiortc.jitterbuffer import JitterBuffer, JitterFrame
from aiortc.mediastreams import MediaStreamError

_CAPACITY = {"audio": 4, "video": 256}  # packets that wait for a missing one; a power of two
_MAX_UNDECODED = 8  # frames; beyond it everything is left out until the next key frame
_ASK_AGAIN_S = 0.5  # between two requests for a key frame
_H264_START = re.compile(rb"\x00\x00\x00\x01(.)", re.DOTALL)
_H264_KEY = 5  # type of a unit that is part of a key frame


class PromptBuffer(JitterBuffer):  # type: ignore[misc]  # aiortc is not followed
    """Puts packets in order, and hands on each frame with its last packet.

    Video begins with a key frame, and begins again with one after a loss. Sound has one packet per frame.

    Args:
        kind: "audio" or "video".
        codecs: payload type -> the codec.
        undecoded: queue of (codec, frame) that the decoder takes from.
        now_s: a clock in seconds.
    """

    def __init__(self, kind: str, codecs: dict[int, Any], undecoded: Any, now_s: Callable[[], float]) -> None:
        self._is_picture = kind == "video"
        super().__init__(_CAPACITY[kind], is_video=self._is_picture)
        self._codecs, self._undecoded, self._now_s = codecs, undecoded, now_s
        self._needs_key = self._is_picture
        self._asked_s: float | None = None  # when a key frame was last requested

    def add(self, packet: Any) -> tuple[bool, JitterFrame | None]:
        """Add a packet; called by aiortc.

        Returns:
            Whether a key frame is to be requested, and the frame to be decoded next.
        """
        is_lost, frame = super().add(packet)
        if not self._needs_key:
            return False, frame
        now_s = self._now_s()
        self._asked_s = now_s if self._asked_s is None else self._asked_s  # the first one comes unasked
        is_asked = is_lost or now_s - self._asked_s >= _ASK_AGAIN_S
        if is_asked:
            self._asked_s = now_s
        return is_asked, frame

    def smart_remove(self, count: int) -> bool:
        """Give up the oldest packets, because one before them is missing; called by `JitterBuffer.add`."""
        self._needs_key = self._is_picture
        return bool(super().smart_remove(count))

    def _remove_frame(self, sequence_number: int) -> JitterFrame | None:  # noqa: ARG002 - aiortc's signature
        """Return the latest complete frame, and queue those before it; called by `JitterBuffer.add`."""
        latest: tuple[Any, JitterFrame] | None = None
        while (packets := self._take()) is not None:
            data = b"".join(packet._data for packet in packets)
            codec = self._codecs[packets[0].payload_type]
            if not data or not self._accepts(codec, data):  # browsers send empty packets to probe the network
                continue
            if latest is not None:
                self._undecoded.put(latest)
            latest = codec, JitterFrame(data, packets[0].timestamp)
        return None if latest is None else latest[1]

    def _take(self) -> list[Any] | None:
        """Remove and return the packets of the first frame, if all are there."""
        packets: list[Any] = []
        for count in range(self.capacity):
            packet = self._packets[(self._origin + count) % self.capacity]
            if packet is None:
                return None
            is_next = bool(packets) and packet.timestamp != packets[0].timestamp
            if not is_next:
                packets.append(packet)
            if is_next or packet.marker or not self._is_picture:
                self.remove(len(packets))
                return packets
        return None

    def _accepts(self, codec: Any, data: bytes) -> bool:
        """Return whether a frame is to be decoded."""
        if self._undecoded.qsize() >= _MAX_UNDECODED:
            self._needs_key = self._is_picture
            return False
        if self._needs_key and is_key(codec.name, data):
            self._needs_key = False
        return not self._needs_key


class RawTimestamps:
    """Keeps the packets' timestamps, of which `PromptBuffer` and aiortc would count differently."""

    def map(self, timestamp: int) -> int:
        """Return a timestamp, 32 bits; called by aiortc."""
        return timestamp


def is_key(codec: str, data: bytes) -> bool:
    """Return whether an encoded frame is a key frame.

    Args:
        codec: "VP8" or "H264".
        data: not empty; of H.264, with start codes of four bytes.
    """
    if codec == "VP8":  # RFC 6386, section 9.1
        return not data[0] & 1
    return any(unit[1][0] & 31 == _H264_KEY for unit in _H264_START.finditer(data))


def receive(peer: RTCPeerConnection, kind: str) -> None:
    """Let a peer receive video as VP8 or H.264, whichever the sender prefers, or sound as Opus.

    The decoded frames have the timestamps of their packets, which wrap around after 32 bits.

    Args:
        peer: has no remote description yet.
        kind: "audio" or "video".
    """
    transceiver = peer.addTransceiver(kind, direction="recvonly")
    if kind == "audio":
        known = RTCRtpReceiver.getCapabilities(kind).codecs
        transceiver.setCodecPreferences([codec for codec in known if codec.mimeType.lower() == "audio/opus"])
    receiver: Any = transceiver.receiver
    assert isinstance(receiver._RTCRtpReceiver__jitter_buffer, JitterBuffer), "aiortc has changed"
    for name in ("remote_bitrate_estimator", "timestamp_mapper"):
        assert hasattr(receiver, f"_RTCRtpReceiver__{name}"), "aiortc has changed"
    codecs, undecoded = receiver._RTCRtpReceiver__codecs, receiver._RTCRtpReceiver__decoder_queue
    receiver._RTCRtpReceiver__jitter_buffer = PromptBuffer(kind, codecs, undecoded, time.monotonic)
    receiver._RTCRtpReceiver__remote_bitrate_estimator = None
    receiver._RTCRtpReceiver__timestamp_mapper = RawTimestamps()


async def take_all(track: MediaStreamTrack, use: Callable[[Any], object]) -> None:
    """Call `use` with each decoded frame of a track as it comes, until the track ends."""
    with contextlib.suppress(MediaStreamError):
        while True:
            use(await track.recv())
