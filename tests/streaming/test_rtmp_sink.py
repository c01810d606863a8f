"""Taking up a lost stream again, on a fake network and a fake clock."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest

from streaming.errors import SinkError
from streaming.flv import Tag
from streaming.rtmp_chunks import VIDEO
from streaming.rtmp_link import Address
from streaming.rtmp_sink import FIRST_WAIT_S, LONGEST_WAIT_S, RtmpSink
from streaming.sink import Frame
from tests.fakes import FakeClock
from tests.streaming.doubles import feed, numbered

URL = "rtmp://live.example.com/app/SECRET?token=SECRET"
REFUSED = ConnectionRefusedError(111, "Connection refused")


class FakeLink:
    """A connection that breaks after some tags."""

    def __init__(self, num_tags: float) -> None:
        self.tags: list[Tag] = []
        self.is_closed = False
        self._num_tags = num_tags

    def send(self, kind: int, timestamp_ms: int, payload: bytes) -> None:
        if len(self.tags) >= self._num_tags:
            raise ConnectionResetError("the server has closed SECRET?token=SECRET")
        self.tags.append(Tag(kind, timestamp_ms, payload))

    def close(self) -> None:
        self.is_closed = True


class FakeNetwork:
    """Answers each attempt to connect as the test says; the last answer stands for ever."""

    def __init__(self, answers: Sequence[FakeLink | OSError]) -> None:
        self.attempts_s: list[float] = []
        self.clock = FakeClock(0.0)
        self._answers = list(answers)

    def dial(self, address: Address) -> FakeLink:
        self.attempts_s.append(self.clock.now())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, OSError):
            raise answer
        return answer

    def sink(self, seed: int = 1) -> RtmpSink:
        sink = RtmpSink(URL, dial=self.dial, clock=self.clock, rng=random.Random(seed))
        sink.open(feed(fps=25))
        sink.start()
        return sink

    def show(self, sink: RtmpSink, slots: range) -> list[bool]:
        """Write a frame per slot at 25 per second; return which were delivered."""
        delivered = []
        for slot in slots:
            delivered.append(sink.write(Frame(numbered(slot % 55), slot)))
            self.clock.advance(0.04)
        return delivered


def test_a_good_network_gets_every_frame() -> None:
    link = FakeLink(float("inf"))
    network = FakeNetwork([link])
    sink = network.sink()
    assert sink.state() == "not connected yet"
    assert all(network.show(sink, range(30)))
    assert sum(tag.kind == VIDEO and tag.payload[1] == 1 for tag in link.tags) == 30
    assert (network.attempts_s, sink.errors, sink.state()) == ([0.0], 0, "on air")
    sink.close()
    assert link.is_closed
    assert sink.result() == "1 connection"


def test_a_new_connection_is_a_new_stream() -> None:
    links = [FakeLink(20), FakeLink(float("inf"))]
    network = FakeNetwork(links)
    sink = network.sink()
    delivered = network.show(sink, range(100))
    lost = delivered.index(False)
    back = delivered.index(True, lost)
    assert 0.5 * FIRST_WAIT_S <= (back - lost) * 0.04 <= FIRST_WAIT_S + 0.04
    assert all(delivered[back:])
    assert links[0].is_closed
    first = [tag for tag in links[1].tags if tag.timestamp_ms == 0]
    assert first[0].payload[3:13] == b"onMetaData"
    picture = next(tag for tag in first if tag.kind == VIDEO and tag.payload[1] == 1)
    assert picture.payload[0] >> 4 == 1  # a key frame, at time 0, in the middle of the show
    assert sink.errors == 1
    assert sink.result() == "2 connections, last trouble: the server has closed ***"


def test_waits_double_up_to_a_cap_and_jitter_takes_up_to_half_off() -> None:
    network = FakeNetwork([REFUSED])
    sink = network.sink()
    assert not any(network.show(sink, range(25 * 300)))
    waits = [b - a for a, b in pairwise(network.attempts_s)]
    limits = [min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**number) for number in range(len(waits))]
    assert len(waits) >= 10
    for wait, limit in zip(waits, limits, strict=True):
        assert limit / 2 <= wait + 1e-6
        assert wait <= limit + 0.041  # the first frame after the wait makes the attempt
    assert len({round(wait / limit, 2) for wait, limit in zip(waits, limits, strict=True)}) > 5
    other = FakeNetwork([REFUSED])
    other.show(other.sink(seed=2), range(25 * 60))
    assert other.attempts_s != network.attempts_s[: len(other.attempts_s)]


def test_a_server_that_hangs_up_at_once_is_not_stormed() -> None:
    network = FakeNetwork([FakeLink(0) for _ in range(100)])
    network.show(network.sink(), range(25 * 120))
    assert len(network.attempts_s) <= 12


def test_after_a_good_connection_the_wait_is_short_again() -> None:
    steady = FakeLink(25 * 3 * 40)  # about 3 tags a frame: 40 seconds
    network = FakeNetwork([REFUSED, REFUSED, REFUSED, REFUSED, steady, FakeLink(float("inf"))])
    sink = network.sink()
    network.show(sink, range(25 * 90))
    assert len(network.attempts_s) == 6
    lost_s = next(tag.timestamp_ms for tag in reversed(steady.tags)) / 1000 + network.attempts_s[4]
    assert network.attempts_s[5] - lost_s <= FIRST_WAIT_S + 0.1


def test_the_key_is_shown_nowhere() -> None:
    network = FakeNetwork([OSError("SECRET?token=SECRET is not allowed"), FakeLink(3), REFUSED])
    sink = network.sink()
    seen = {sink.name, repr(sink), sink.result()}
    for slot in range(200):
        network.show(sink, range(slot, slot + 1))
        seen |= {sink.state(), sink.result()}
    assert any("*** is not allowed" in text for text in seen)
    assert any("the server has closed ***" in text for text in seen)
    assert any("Connection refused" in text for text in seen)
    assert not [text for text in seen if "SECRET" in text]


@pytest.mark.parametrize(
    "url", ["rtmp://host/SECRET", "rtmp:///app/SECRET", "rtmp://host:x/app/SECRET", "rtmp://h/app/"]
)
def test_an_address_that_is_none_is_refused_without_the_key(url: str) -> None:
    with pytest.raises(SinkError, match=r"write rtmp://HOST\[:PORT\]/APP/KEY") as caught:
        RtmpSink(url)
    assert "SECRET" not in str(caught.value)
