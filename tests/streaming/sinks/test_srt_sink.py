"""SRT: addresses, error messages, and a stream into another program."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from runtime.masking import mask
from streaming.errors import SinkError
from streaming.live.srt import SrtAddress, find_library, parse
from streaming.sinks import srt_sink
from streaming.sinks.sink import Frame
from streaming.sinks.srt_sink import SrtSink
from streaming.sinks.table import make_sinks
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, card_error, colour_card, decode, feed, number_of, numbered, to_i420

PROGRAM = shutil.which("srt-live-transmit")
needs_peer = pytest.mark.skipif(PROGRAM is None, reason="no srt-live-transmit: on Debian, apt install srt-tools")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("srt://host:9000", SrtAddress("host", 9000)),
        ("srt://[::1]:9000/?latency=400", SrtAddress("::1", 9000, latency_ms=400)),
        ("srt://0.0.0.0:9000?mode=listener", SrtAddress("0.0.0.0", 9000, "listener")),
        ("srt://h:1?passphrase=ten%20letters", SrtAddress("h", 1, passphrase="ten letters")),
        ("srt://h:1?streamid=publish%3Ax", SrtAddress("h", 1, streamid="publish:x")),
        ("srt://h:1?streamid=#!::r=x,m=publish", SrtAddress("h", 1, streamid="#!::r=x,m=publish")),
    ],
)
def test_addresses(url: str, address: SrtAddress) -> None:
    assert parse(url) == address


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("srt://host", "needs a host and a port"),
        ("srt://:9000", "needs a host and a port"),
        ("srt://host:9000/SECRET", "needs a host and a port"),
        ("srt://SECRET@host:9000", "needs a host and a port"),
        ("srt://host:99999", "write srt://"),
        ("srt://host:9000?mode=SECRET", "mode must be caller or listener"),
        ("srt://host:9000?latency=-1", "whole number of milliseconds"),
        ("srt://host:9000?latency=9000", "up to 8000"),
        ("srt://host:9000?passphrase=SECRET", "10 to 79 characters"),
        ("srt://host:9000?streamid=" + 513 * "S", "at most 512"),
        ("srt://host:9000?key=SECRET", "only streamid, passphrase, latency and mode"),
    ],
)
def test_invalid_addresses(spec: str, why: str) -> None:
    with pytest.raises(SinkError, match=r"write srt://HOST:PORT\[\?streamid=") as caught:
        make_sinks([spec], "i420")
    assert why in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_nothing_shows_its_secrets() -> None:
    spec = "srt://host:9000?streamid=SECRET%20id&passphrase=SECRETPHRASE"
    sink = SrtSink(spec)
    target = SrtSink.to_target(spec)
    shown = f"{sink.name} {mask(spec)} {target} {parse(spec)}"
    assert "SECRET" not in shown
    assert sink.name == "srt://host:9000"
    assert set(target.secrets) == {"SECRET id", "SECRET%20id", "SECRETPHRASE"}


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srt_sink, "find_library", lambda: None)
    with pytest.raises(SinkError, match=r"needs libsrt.* apt install libsrt1\.5-gnutls"):
        SrtSink("srt://host:9000").open(feed())


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


class Peer:
    """Another program at the other end, which writes what it receives to a file."""

    def __init__(self, address: str, file: Path) -> None:
        assert PROGRAM is not None
        self.file = file
        with file.open("wb") as out:
            command = [PROGRAM, "-q", "-a", "no", address, "file://con"]
            self.process = subprocess.Popen(command, stdout=out, stderr=subprocess.DEVNULL)

    def end(self) -> None:
        """Wait until it has seen the end of the stream."""
        try:
            self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self.process.wait()


def write_until_on_air(sink: SrtSink, clock: FakeClock, slot: int) -> int:
    """Write frames until one is taken; return the next slot."""
    deadline_s = time.monotonic() + WAIT_S
    while not sink.write(Frame(numbered(slot % 55), slot)):
        clock.advance(60)  # no wait is longer
        slot += 1
        assert time.monotonic() < deadline_s, sink.state()
    return slot + 1


@pytest.mark.live
@needs_peer
@pytest.mark.parametrize("mode", ["caller", "listener"])
def test_another_program_receives_the_show(mode: str, tmp_path: Path) -> None:
    port = free_udp_port()
    words = "passphrase=a%20good%20passphrase"
    theirs = "listener" if mode == "caller" else "caller"
    peer = Peer(f"srt://127.0.0.1:{port}?mode={theirs}&passphrase=a good passphrase", tmp_path / "received.ts")
    clock = FakeClock()
    sink = SrtSink(f"srt://127.0.0.1:{port}?mode={mode}&streamid=SECRET&{words}", clock=clock)
    sink.open(feed(128, 96))
    sink.start()
    picture = to_i420(colour_card(128, 96))
    slot = 0
    deadline_s = time.monotonic() + WAIT_S
    while not sink.write(Frame(picture, slot)):
        clock.advance(60)
        slot += 1
        assert time.monotonic() < deadline_s, sink.state()
    num_frames = 90
    assert all(sink.write(Frame(picture, slot + number)) for number in range(1, num_frames))
    sink.close()
    peer.end()
    video, num_audio = decode(peer.file)
    assert len(video) == num_frames, sink.state()
    assert num_audio >= (num_frames / 30) * 48000 / 1024 - 3
    times = [float(frame.time - video[0].time) for frame in video]
    assert times == pytest.approx([number / 30 for number in range(num_frames)], abs=0.001)
    assert {(frame.colorspace, frame.color_range) for frame in video} == {(1, 1)}  # BT.709, limited
    assert card_error(video[-1].to_ndarray(format="rgb24")) <= 12
    assert "SECRET" not in sink.state() + sink.result()


@pytest.mark.live
@needs_peer
def test_a_peer_that_refuses_and_one_that_is_killed(tmp_path: Path) -> None:
    port = free_udp_port()
    address = f"srt://127.0.0.1:{port}?mode=listener&passphrase=another passphrase"
    peer = Peer(address, tmp_path / "refused.ts")
    clock = FakeClock()
    sink = SrtSink(f"srt://127.0.0.1:{port}?passphrase=SECRET%20passphrase", clock=clock)
    sink.open(feed())
    sink.start()
    slot = 0
    deadline_s = time.monotonic() + WAIT_S
    while "passphrase" not in sink.state():
        assert not sink.write(Frame(numbered(slot % 55), slot))
        clock.advance(60)
        slot += 1
        assert time.monotonic() < deadline_s, sink.state()
    assert "refused the stream (Incorrect passphrase)" in sink.state()
    assert "SECRET" not in sink.state()
    peer.process.kill()
    peer.process.wait()

    address = f"srt://127.0.0.1:{port}?mode=listener&passphrase=SECRET passphrase"
    peer = Peer(address, tmp_path / "first.ts")
    slot = write_until_on_air(sink, clock, slot)
    peer.process.kill()
    peer.process.wait()
    while sink.write(Frame(numbered(slot % 55), slot)):  # until the loss shows
        slot += 1
        clock.advance(1 / 30)
        time_left = deadline_s + WAIT_S - time.monotonic()
        assert time_left > 0, sink.state()
    peer = Peer(address, tmp_path / "second.ts")
    slot = write_until_on_air(sink, clock, slot)
    assert all(sink.write(Frame(numbered((slot + number) % 55), slot + number)) for number in range(55))
    sink.close()
    peer.end()
    video, _ = decode(peer.file)
    numbers = [number_of(frame.to_ndarray()[:48]) for frame in video]
    assert len(numbers) == 56
    assert numbers == [(numbers[0] + number) % 55 for number in range(56)]
    assert sink.result().startswith("2 connections")


def test_the_library_is_one_that_the_system_has() -> None:
    name = find_library()
    if name is None:
        pytest.skip("no libsrt on this machine")
    assert "srt" in name
