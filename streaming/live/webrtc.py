"""WebRTC by aiortc: tracks that carry encoded packets, and connections that send them.

Everframe encodes by itself, to control colours, hardware and latency; aiortc packetises, encrypts and sends.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import aioice.ice
import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpCodecCapability,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

SAMPLE_RATE = 48_000
_LONGEST_QUEUE = 120  # packets; a receiver that is further behind gets no more
_PROFILES = ("42e01f", "42001f")  # of H.264: constrained baseline, which all browsers decode, and baseline
_PRIMING = 3  # audio frames until the encoder's packets are pure silence
_AHEAD = 1  # audio packets that are sent before their time


class VideoTrack(MediaStreamTrack):  # type: ignore[misc]  # aiortc is not followed
    """Carries encoded packets; belongs to one event loop.

    Args:
        kind: "video" or "audio".
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        super().__init__()
        self._packets: asyncio.Queue[Any] = asyncio.Queue(_LONGEST_QUEUE)

    def put(self, packet: Any) -> bool:
        """Queue a packet; return whether there was room for it."""
        if self._packets.full():
            return False
        self._packets.put_nowait(packet)
        return True

    async def recv(self) -> Any:
        """Return the next packet; called by aiortc."""
        if self.readyState != "live":
            raise MediaStreamError
        return await self._packets.get()


class Silence:
    """Opus packets of silence, for services that reject streams without audio.

    Args:
        bitrate: in bit/s, None for the codec's default.
    """

    def __init__(self, bitrate: int | None = None) -> None:
        context: Any = av.CodecContext.create("libopus", "w")
        context.sample_rate, context.layout, context.format = SAMPLE_RATE, "stereo", "s16"
        if bitrate is not None:
            context.bit_rate = bitrate
        context.open()
        self._size: int = context.frame_size
        self._num = 0
        packets: list[bytes] = []
        for index in range(_PRIMING + 2):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 2 * self._size), np.int16), "s16", "stereo")
            sound.sample_rate, sound.pts = SAMPLE_RATE, index * self._size
            packets += [bytes(packet) for packet in context.encode(sound)]
        self._packet = packets[-1]

    def until(self, moment_s: Fraction) -> list[Any]:
        """Return the next packets, up to a time in seconds from the start of the stream."""
        packets = []
        while (self._num - _AHEAD) * Fraction(self._size, SAMPLE_RATE) <= moment_s:
            packet = av.Packet(self._packet)
            packet.time_base = Fraction(1, SAMPLE_RATE)
            packet.pts = packet.dts = self._num * self._size
            packets.append(packet)
            self._num += 1
        return packets


def make_peer() -> RTCPeerConnection:
    """Make a connection that does not use a STUN server."""
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


def send_video(peer: RTCPeerConnection, track: VideoTrack, on_key_wanted: Callable[[], None]) -> None:
    """Let a peer send encoded H.264.

    Args:
        peer: not connected yet.
        track: of "video".
        on_key_wanted: called when the receiver requests a key frame.
    """
    sender = peer.addTrack(track)
    # aiortc would ask its own encoder for one.
    sender._send_keyframe = on_key_wanted
    transceiver = next(item for item in peer.getTransceivers() if item.sender is sender)
    transceiver.direction = "sendonly"
    transceiver.setCodecPreferences(h264_capabilities())


def send_audio(peer: RTCPeerConnection, track: VideoTrack) -> None:
    """Let a peer send encoded Opus."""
    sender = peer.addTrack(track)
    transceiver = next(item for item in peer.getTransceivers() if item.sender is sender)
    transceiver.direction = "sendonly"
    opus = [codec for codec in RTCRtpSender.getCapabilities("audio").codecs if codec.mimeType.lower() == "audio/opus"]
    transceiver.setCodecPreferences(opus)


def h264_capabilities() -> list[RTCRtpCodecCapability]:
    """Return the capabilities of H.264 in browsers' profiles, and of retransmission."""
    known = RTCRtpSender.getCapabilities("video").codecs
    wanted = [
        codec
        for profile in _PROFILES
        for codec in known
        if codec.mimeType == "video/H264" and codec.parameters.get("profile-level-id", "").lower() == profile
    ]
    return [*wanted, *(codec for codec in known if codec.mimeType == "video/rtx")]


def offer_loopback(*, alone: bool = False) -> None:
    """Let this process's connections use the loopback address, which aioice leaves out.

    Args:
        alone: offer no other address, because the receiver is on this machine. Not for browsers, some of which reject
            loopback addresses.
    """
    given = aioice.ice.get_host_addresses
    if getattr(given, "has_loopback", False):
        return

    def get_host_addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        found: list[str] = [] if alone else given(use_ipv4, use_ipv6)
        return [*found, *(["127.0.0.1"] if use_ipv4 and "127.0.0.1" not in found else [])]

    get_host_addresses.has_loopback = True  # type: ignore[attr-defined]
    aioice.ice.get_host_addresses = get_host_addresses


def is_here(host: str) -> bool:
    """Return whether a host is a loopback address."""
    try:
        return all(ipaddress.ip_address(item[4][0]).is_loopback for item in socket.getaddrinfo(host, None))
    except (OSError, ValueError):
        return False


__all__ = [
    "RTCPeerConnection",
    "RTCSessionDescription",
    "Silence",
    "VideoTrack",
    "h264_capabilities",
    "is_here",
    "make_peer",
    "offer_loopback",
    "send_audio",
    "send_video",
]
