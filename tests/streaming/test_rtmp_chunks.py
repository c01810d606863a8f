"""RTMP chunks: what is cut comes together again, however the network slices it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.rtmp_chunks import SET_CHUNK_SIZE, ChunkReader, Message, to_chunks

MESSAGES = st.builds(
    Message,
    kind=st.sampled_from([3, 4, 5, 8, 9, 18, 20]),
    payload=st.binary(max_size=700),
    timestamp_ms=st.integers(0, 2**32 - 1) | st.sampled_from([0xFFFFFE, 0xFFFFFF, 0x1000000]),
    stream=st.integers(0, 2**32 - 1),
)


@given(st.lists(st.tuples(MESSAGES, st.integers(2, 63)), max_size=6), st.integers(1, 300), st.integers(1, 64))
def test_messages_survive_any_cutting(sent: list[tuple[Message, int]], size: int, step: int) -> None:
    reader = ChunkReader()
    data = to_chunks(Message(SET_CHUNK_SIZE, struct.pack(">L", size)), 128, 2)
    data += b"".join(to_chunks(message, size, channel) for message, channel in sent)
    received: list[Message] = []
    for start in range(0, len(data), step):
        received += reader.feed(data[start : start + step])
    assert received[1:] == [message for message, _ in sent]
    assert reader.num_bytes == len(data)


def test_bytes_of_a_message_in_two_chunks() -> None:
    data = to_chunks(Message(9, bytes(range(6)), 0x010203, 1), 4, 6)
    assert data == bytes.fromhex("06 010203 000006 09 01000000 00010203 c6 0405")


def test_bytes_of_an_extended_timestamp() -> None:
    data = to_chunks(Message(9, bytes(3), 0x01000000), 2, 6)
    assert data == bytes.fromhex("06 ffffff 000003 09 00000000 01000000 0000 c6 01000000 00")


def test_short_headers_take_what_is_missing_from_the_message_before() -> None:
    full = bytes.fromhex("04 000064 000002 08 01000000 aabb")
    same_stream = bytes.fromhex("44 00000a 000001 09 cc")  # 10 ms later, another length and type
    same_length = bytes.fromhex("84 000005 dd")
    same_all = bytes.fromhex("c4 ee")  # the same step once more
    messages = ChunkReader().feed(full + same_stream + same_length + same_all)
    assert [(item.kind, item.timestamp_ms, item.stream, item.payload.hex()) for item in messages] == [
        (8, 100, 1, "aabb"),
        (9, 110, 1, "cc"),
        (9, 115, 1, "dd"),
        (9, 120, 1, "ee"),
    ]


def test_large_channel_numbers_are_read() -> None:
    tail = bytes.fromhex("000000 000001 14 00000000 07")
    messages = ChunkReader().feed(b"\x00\x10" + tail + b"\x01\x10\x01" + tail)
    assert [message.payload for message in messages] == [b"\x07", b"\x07"]


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="never sent"):
        ChunkReader().feed(b"\xc6\x00\x00\x00")
    with pytest.raises(ValueError, match="16777215 bytes is more"):
        ChunkReader().feed(bytes.fromhex("06 000000 ffffff 09 00000000 00"))
