"""Reconnecting, on a fake network and a fake clock; and a real server that never answers."""

from __future__ import annotations

import os
import random
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from streaming.errors import SinkError
from streaming.live.live_sink import FIRST_WAIT_S, LONGEST_WAIT_S
from streaming.live.publisher import PublisherProcess, PublishJob
from streaming.output.fan_out import FanOut
from streaming.sinks.rtmp_sink import RtmpSink
from streaming.sinks.sink import Frame
from streaming.sound.sound import Sound
from streaming.sound.timeline import RATE, Samples
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, ScriptedSink, feed, numbered

URL = "rtmp://live.example.com/app/SECRET?token=SECRET"
REFUSED = ConnectionRefusedError(111, "Connection refused")
FOR_EVER = 10**9
Answer = int | OSError  # frames that a connection takes before it breaks, or why there is none


class FakeNetwork:
    """Answers each attempt to connect as the test says; the last answer is repeated."""

    def __init__(self, answers: Sequence[Answer], num_polls: int = 0) -> None:
        self.attempts_s: list[float] = []
        self.links: list[FakeLink] = []
        self.clock = FakeClock(0.0)
        self.num_polls = num_polls
        self._answers = list(answers)

    def answer(self) -> Answer:
        self.attempts_s.append(self.clock.now())
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def dial(self, job: PublishJob) -> FakeLink:
        self.links.append(FakeLink(self, job))
        return self.links[-1]

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


class FakeLink:
    """A publisher that is refused or breaks as the network says, after `num_polls` calls of `connect`."""

    def __init__(self, network: FakeNetwork, job: PublishJob) -> None:
        self.job = job
        self.slots: list[int] = []
        self.sounds: list[Samples] = []
        self.is_alive = True
        self.sent_bytes, self.num_kept = 0, None
        self.is_ready = self.is_closed = False
        self._network = network
        self._num_polls: int | None = None
        self._num_frames = 0

    def wait_ready(self) -> None:
        self.is_ready = True

    def connect(self) -> bool:
        if self._num_polls is None:
            self._num_polls, answer = 0, self._network.answer()
            if isinstance(answer, OSError):
                self._num_polls = None
                self.is_alive = not isinstance(answer, TimeoutError)
                raise answer
            self._num_frames = answer
        self._num_polls += 1
        return self._num_polls > self._network.num_polls

    def send(self, frame: Frame, sound: Samples | None = None) -> None:
        if len(self.slots) >= self._num_frames:
            self.is_alive = False
            raise ConnectionResetError("the server has closed SECRET?token=SECRET")
        self.slots.append(frame.slot)
        if sound is not None:
            self.sounds.append(sound)
        self.sent_bytes += 1000

    def close(self) -> None:
        self.is_closed = True


def test_a_good_network_gets_every_frame() -> None:
    network = FakeNetwork([FOR_EVER])
    sink = network.sink()
    (link,) = network.links
    assert link.is_ready
    assert (network.attempts_s, sink.state()) == ([], "not connected yet")  # nothing to show yet
    assert all(network.show(sink, range(30)))
    assert link.slots == list(range(30))
    assert (network.attempts_s, sink.errors, sink.state()) == ([0.0], 0, "on air")
    sink.close()
    assert link.is_closed
    assert sink.result() == "1 connection"


def test_what_is_published_where() -> None:
    network = FakeNetwork([FOR_EVER])
    network.sink()
    job = network.links[0].job
    assert (job.url, job.muxer, job.audio) == (URL, "flv", "aac")
    assert (job.width, job.height, job.fps) == (64, 48, "25")
    assert (job.options["rtmp_app"], job.options["rtmp_playpath"]) == ("app", "SECRET?token=SECRET")
    assert "tls_verify" not in job.options
    sink = RtmpSink("RTMPS://host/a/b/c/KEY", dial=network.dial)
    sink.open(feed())
    sink.start()
    job = network.links[1].job
    assert job.url == "rtmps://host/a/b/c/KEY"
    assert (job.options["rtmp_app"], job.options["rtmp_playpath"]) == ("a/b/c", "KEY")
    assert job.options["tls_verify"] == "1"


def test_a_child_that_cannot_load_is_an_error_before_the_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    sink = RtmpSink(URL)
    sink.open(feed())
    with pytest.raises(SinkError, match=r"app/\*\*\* cannot start: the process that sends the stream has ended"):
        sink.start()
    sink.discard()


def test_frames_are_dropped_while_it_connects() -> None:
    network = FakeNetwork([FOR_EVER], num_polls=3)
    sink = network.sink()
    assert network.show(sink, range(2)) == [False, False]
    assert sink.state() == "connecting"
    assert network.show(sink, range(2, 6)) == [False, True, True, True]
    assert network.links[0].slots == [3, 4, 5]
    assert (len(network.attempts_s), sink.errors, sink.result()) == (1, 0, "1 connection")


def test_a_new_connection_uses_a_new_publisher() -> None:
    network = FakeNetwork([20, FOR_EVER])
    sink = network.sink()
    delivered = network.show(sink, range(100))
    lost = delivered.index(False)
    back = delivered.index(True, lost)
    assert 0.5 * FIRST_WAIT_S <= (back - lost) * 0.04 <= FIRST_WAIT_S + 0.04
    assert all(delivered[back:])
    first, second = network.links
    assert first.is_closed
    assert (first.slots, second.slots) == (list(range(20)), list(range(back, 100)))
    assert sink.errors == 1
    assert sink.result() == "2 connections, last error: the server has closed ***"
    assert (sink.reconnects, sink.sent_bytes) == (1, 1000 * (20 + 100 - back))


def test_a_refused_publisher_is_used_again() -> None:
    network = FakeNetwork([REFUSED, REFUSED, TimeoutError("no answer"), REFUSED, FOR_EVER])
    sink = network.sink()
    network.show(sink, range(200))
    assert len(network.attempts_s) == 5
    assert [(link.is_closed, bool(link.slots)) for link in network.links] == [(True, False), (False, True)]
    assert sink.errors == 3  # a refusal, a silence, a refusal: the same news twice counts once


def test_a_stream_carries_the_sound_from_its_first_frame_on_also_after_a_break() -> None:
    network = FakeNetwork([20, FOR_EVER])
    sound = Sound("mic", clock=network.clock)
    sound.begin(0.0)
    sound.timeline.write(np.arange(8 * RATE, dtype=np.int32).repeat(2).reshape(-1, 2).astype(np.int16), 0)
    sink = RtmpSink(URL, dial=network.dial, clock=network.clock, rng=random.Random(1))
    sink.open(replace(feed(fps=25), sound=sound))
    sink.start()
    network.show(sink, range(100))
    first, second = (np.concatenate(link.sounds)[:, 0] for link in network.links)
    assert network.links[0].job.has_sound
    begin = network.links[1].slots[0]
    for heard, slot in ((first, 0), (second, begin)):
        expected = np.arange(slot * RATE // 25, slot * RATE // 25 + len(heard), dtype=np.int32).astype(np.int16)
        assert np.array_equal(heard, expected)
    assert len(second) >= (100 - begin) * RATE // 25


def test_without_a_sound_none_is_sent() -> None:
    network = FakeNetwork([FOR_EVER])
    network.show(network.sink(), range(3))
    assert not network.links[0].sounds
    assert not network.links[0].job.has_sound


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


def test_a_server_that_closes_at_once_is_not_flooded() -> None:
    network = FakeNetwork([0])
    network.show(network.sink(), range(25 * 60))
    assert len(network.attempts_s) <= 60 / (LONGEST_WAIT_S / 2)


def test_after_a_good_connection_the_wait_is_short_again() -> None:
    network = FakeNetwork([REFUSED, REFUSED, REFUSED, REFUSED, 25 * 40, FOR_EVER])
    sink = network.sink()
    network.show(sink, range(25 * 90))
    assert len(network.attempts_s) == 6
    lost_s = 0.04 * network.links[0].slots[-1]
    assert network.attempts_s[5] - lost_s <= FIRST_WAIT_S + 0.1


def test_the_key_is_shown_nowhere() -> None:
    network = FakeNetwork([OSError("SECRET?token=SECRET is not allowed"), 3, REFUSED])
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
def test_an_invalid_address_is_refused_without_the_key(url: str) -> None:
    with pytest.raises(SinkError, match=r"write rtmp://HOST\[:PORT\]/APP/KEY") as caught:
        RtmpSink(url)
    assert "SECRET" not in str(caught.value)


def test_a_server_that_never_answers_does_not_affect_other_sinks() -> None:
    links: list[PublisherProcess] = []

    def dial(job: PublishJob) -> PublisherProcess:
        links.append(PublisherProcess(job))
        return links[-1]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        stuck = RtmpSink(f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live/SECRET", dial=dial)
        other = ScriptedSink("other")
        fan_out = FanOut([stuck, other])
        fan_out.open(feed(fps=30))
        fan_out.wait_ready()
        fan_out.put(numbered(0), 0)
        connection, _ = listener.accept()  # the child waits for an answer from now on
        with connection:
            for slot in range(1, 60):
                assert other.has_written.acquire(timeout=WAIT_S)
                fan_out.put(numbered(slot % 55), slot)
            assert fan_out.close() == []  # those that did not close in time
    assert [frame.slot for frame in other.frames] == list(range(60))
    rtmp, scripted = fan_out.stats()
    assert (rtmp.written, scripted.written, scripted.dropped) == (0, 60, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(links[-1].pid, 0)
