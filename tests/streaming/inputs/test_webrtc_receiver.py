"""The order and the delay of received packets."""

from __future__ import annotations

import asyncio
import queue
from types import SimpleNamespace
from typing import Any

import pytest
from aiortc.rtp import RtpPacket

from streaming.inputs.webrtc_receiver import PromptBuffer, is_key, receive
from streaming.live.webrtc import make_peer

CODECS = {96: SimpleNamespace(name="opus"), 97: SimpleNamespace(name="VP8")}
KEY, DELTA = b"\x00key", b"\x01delta"


class Receiver:
    """A buffer with its decoder's queue, and what aiortc does with both."""

    def __init__(self, kind: str = "video") -> None:
        self.undecoded: queue.Queue[Any] = queue.Queue()
        self.now_s, self.num_asked = 0.0, 0
        self.buffer = PromptBuffer(kind, CODECS, self.undecoded, lambda: self.now_s)
        self.payload_type = 97 if kind == "video" else 96

    def add(self, number: int, time: int, data: bytes, *, is_last: bool = False) -> list[bytes]:
        """Add a packet, and return the frames that are to be decoded then."""
        packet = RtpPacket(self.payload_type, int(is_last), number % 2**16, time, payload=data)
        packet._data = data
        is_asked, frame = self.buffer.add(packet)
        self.num_asked += is_asked
        frames = []
        while not self.undecoded.empty():
            frames.append(self.undecoded.get()[1].data)
        return frames if frame is None else [*frames, frame.data]


def test_a_frame_comes_with_its_last_packet() -> None:
    receiver = Receiver()
    assert receiver.add(65534, 0, KEY) == []
    assert receiver.add(65535, 0, b"+") == []
    assert receiver.add(65536, 0, b"+", is_last=True) == [KEY + b"++"]
    assert receiver.add(65537, 1, DELTA, is_last=True) == [DELTA]
    assert receiver.add(65538, 2, DELTA) == [], "a sender that marks no last packet"
    assert receiver.add(65539, 3, DELTA) == [DELTA], "is understood, too"
    assert receiver.num_asked == 0


def test_packets_that_come_late_are_put_in_order_and_leave_no_delay() -> None:
    receiver = Receiver()
    assert receiver.add(0, 0, KEY, is_last=True) == [KEY]
    for number in (2, 3, 4):
        assert receiver.add(number, number, DELTA + b"%d" % number, is_last=True) == []
    assert receiver.add(1, 1, DELTA + b"1", is_last=True) == [DELTA + b"%d" % number for number in (1, 2, 3, 4)]
    assert receiver.add(5, 5, DELTA, is_last=True) == [DELTA]


def test_empty_packets_are_no_frames() -> None:
    receiver = Receiver()
    assert receiver.add(0, 0, KEY, is_last=True) == [KEY]
    assert receiver.add(1, 0, b"") == []
    assert receiver.add(2, 0, b"") == []
    assert receiver.add(3, 1, DELTA, is_last=True) == [DELTA]


def test_after_a_loss_nothing_is_decoded_before_a_key_frame() -> None:
    receiver = Receiver()
    assert receiver.add(0, 0, KEY, is_last=True) == [KEY]
    number = 2
    while not receiver.num_asked:
        assert receiver.add(number, number, DELTA, is_last=True) == []
        number += 1
        assert number < 1000
    assert receiver.add(number, number, DELTA, is_last=True) == []
    assert receiver.num_asked == 1
    receiver.now_s += 0.6
    assert receiver.add(number + 1, number + 1, DELTA, is_last=True) == []
    assert receiver.num_asked == 2, "the request may be lost, too"
    assert receiver.add(number + 2, number + 2, KEY, is_last=True) == [KEY]
    assert receiver.add(number + 3, number + 3, DELTA, is_last=True) == [DELTA]
    assert receiver.num_asked == 2


def test_it_begins_with_a_key_frame() -> None:
    receiver = Receiver()
    assert receiver.add(0, 0, DELTA, is_last=True) == []
    assert receiver.num_asked == 0
    receiver.now_s = 0.5
    assert receiver.add(1, 1, DELTA, is_last=True) == []
    assert receiver.num_asked == 1
    assert receiver.add(2, 2, KEY, is_last=True) == [KEY]


def test_what_cannot_be_decoded_in_time_is_left_out() -> None:
    receiver = Receiver()
    assert receiver.add(0, 0, KEY, is_last=True) == [KEY]
    for _ in range(8):
        receiver.undecoded.put((CODECS[97], SimpleNamespace(data=b"waits")))
    assert receiver.add(1, 1, KEY, is_last=True) == [b"waits"] * 8, "the queue is full: even a key frame is left out"
    assert receiver.add(2, 2, DELTA, is_last=True) == []
    assert receiver.add(3, 3, KEY, is_last=True) == [KEY]


def test_a_packet_of_sound_is_a_frame_and_a_lost_one_is_given_up_soon() -> None:
    receiver = Receiver("audio")
    assert receiver.add(0, 0, b"0") == [b"0"]
    assert receiver.add(1, 960, b"1") == [b"1"]
    assert [receiver.add(number, number * 960, b"%d" % number) for number in (3, 4, 5)] == [[], [], []]
    assert receiver.add(6, 5760, b"6") == [b"3", b"4", b"5", b"6"]
    assert receiver.add(7, 6720, b"7") == [b"7"]
    assert receiver.num_asked == 0


@pytest.mark.parametrize(
    ("codec", "data", "is_it"),
    [
        ("VP8", b"\x50\x01", True),
        ("VP8", b"\x51\x01", False),
        ("H264", b"\0\0\0\1\x67..\0\0\0\1\x68.\0\0\0\1\x65..", True),
        ("H264", b"\0\0\0\1\x41..\0\0\1\x65", False),
        ("H264", b"\x65\0\0\0\1", False),
    ],
)
def test_key_frames_are_known(codec: str, data: bytes, is_it: bool) -> None:
    assert is_key(codec, data) is is_it


def test_aiortc_uses_the_buffer() -> None:
    async def make() -> Any:
        peer = make_peer()
        receive(peer, "video")
        receive(peer, "audio")
        receivers = peer.getReceivers()
        await peer.close()
        return receivers

    for receiver in asyncio.run(make()):
        assert isinstance(receiver._RTCRtpReceiver__jitter_buffer, PromptBuffer)
