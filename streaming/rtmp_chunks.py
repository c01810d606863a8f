"""RTMP messages cut into chunks and put together again (Adobe's RTMP specification 1.0, section 5.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

SET_CHUNK_SIZE, ACKNOWLEDGEMENT, USER_CONTROL, WINDOW_SIZE = 1, 3, 4, 5
AUDIO, VIDEO, DATA, COMMAND = 8, 9, 18, 20

_EXTENDED = 0xFFFFFF  # a timestamp of this or more goes into four bytes of its own
_MAX_MESSAGE_BYTES = 2**20  # what a server has to say to a publisher is a few hundred bytes


@dataclass(frozen=True)
class Message:
    """One RTMP message.

    Args:
        kind: type id, one of the numbers above.
        payload: its body.
        timestamp_ms: milliseconds, modulo 2**32.
        stream: message stream id; 0 for the connection itself.
    """

    kind: int
    payload: bytes
    timestamp_ms: int = 0
    stream: int = 0


def to_chunks(message: Message, chunk_size: int, channel: int) -> bytes:
    """Cut a message into chunks, the first with a full header.

    Args:
        message: what to send.
        chunk_size: payload bytes per chunk, as last told to the other side.
        channel: chunk stream id, 2 to 63.

    Returns:
        The bytes to send.
    """
    stamp = message.timestamp_ms % 2**32
    extended = struct.pack(">L", stamp) if stamp >= _EXTENDED else b""
    head = struct.pack(">L", min(stamp, _EXTENDED))[1:] + struct.pack(">L", len(message.payload))[1:]
    parts = [bytes([channel]), head, bytes([message.kind]), struct.pack("<L", message.stream), extended]
    for start in range(0, max(1, len(message.payload)), chunk_size):
        if start:
            parts += [bytes([0b11 << 6 | channel]), extended]
        parts.append(message.payload[start : start + chunk_size])
    return b"".join(parts)


@dataclass
class _Channel:
    timestamp_ms: int = 0
    delta_ms: int = 0
    length: int = 0
    kind: int = 0
    stream: int = 0
    is_extended: bool = False
    payload: bytearray = field(default_factory=bytearray)


class ChunkReader:
    """Puts messages together from bytes as they come in; sizes set by the other side are followed."""

    def __init__(self) -> None:
        self.num_bytes = 0
        self._chunk_size = 128
        self._channels: dict[int, _Channel] = {}
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes.

        Args:
            data: the next bytes of the connection, cut anywhere.

        Returns:
            The messages that are complete now.

        Raises:
            ValueError: this is not RTMP.
        """
        self.num_bytes += len(data)
        self._pending += data
        messages: list[Message] = []
        while (used := self._read_chunk(messages)) > 0:
            del self._pending[:used]
        return messages

    def _read_chunk(self, messages: list[Message]) -> int:
        """Read one chunk; return how many bytes it had, 0 if it has not come in whole."""
        data = self._pending
        if not data:
            return 0
        form, channel_id = data[0] >> 6, data[0] & 63
        position = {0: 2, 1: 3}.get(channel_id, 1)  # 0 and 1 say that the number follows, in one byte or in two
        if len(data) < position:
            return 0
        if channel_id < 2:
            channel_id = 64 + int.from_bytes(data[1:position], "little")
        known = self._channels.get(channel_id)
        if known is None and form:
            raise ValueError("an RTMP chunk refers to one that was never sent")
        channel = known or _Channel()
        header_length = (11, 7, 3, 0)[form]
        header = bytes(data[position : position + header_length])
        position += header_length
        if len(header) < header_length:
            return 0
        stamp = int.from_bytes(header[:3], "big") if header else 0
        is_extended = stamp == _EXTENDED if header else channel.is_extended
        if is_extended:
            if len(data) < position + 4:
                return 0
            stamp, position = int.from_bytes(data[position : position + 4], "big"), position + 4
        length = int.from_bytes(header[3:6], "big") if form < 2 else channel.length
        if length > _MAX_MESSAGE_BYTES:
            raise ValueError(f"an RTMP message of {length} bytes is more than a server sends a publisher")
        size = min(self._chunk_size, length - len(channel.payload))
        if len(data) < position + size:
            return 0
        if not channel.payload:  # the first chunk of a message
            if form == 0:
                channel.timestamp_ms, channel.stream, channel.delta_ms = (
                    stamp,
                    int.from_bytes(header[7:11], "little"),
                    0,
                )
            else:
                channel.delta_ms = stamp if form < 3 else channel.delta_ms
                channel.timestamp_ms = (channel.timestamp_ms + channel.delta_ms) % 2**32
        channel.length, channel.is_extended = length, is_extended
        channel.kind = header[6] if form < 2 else channel.kind
        channel.payload += data[position : position + size]
        self._channels[channel_id] = channel
        if len(channel.payload) == length:
            message = Message(channel.kind, bytes(channel.payload), channel.timestamp_ms, channel.stream)
            channel.payload.clear()
            if message.kind == SET_CHUNK_SIZE and length == 4:
                self._chunk_size = max(1, int.from_bytes(message.payload, "big") & 0x7FFFFFFF)
            messages.append(message)
        return position + size
