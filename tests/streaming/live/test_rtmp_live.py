"""A real show to two real RTMP servers, and a reader that decodes what comes out at the other end.

Wants nginx with its RTMP module (Debian: nginx libnginx-mod-rtmp); the other server is libavformat's own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import av
import pytest

from streaming.live.publisher import PublisherProcess, PublishJob
from streaming.output.fan_out import FanOut
from streaming.output.pacing import Pacer, SystemClock
from streaming.show.show import Show
from streaming.sinks.rtmp_sink import RtmpSink
from streaming.sinks.sink import Frame
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, closed_port, endless, feed, number_of, numbered

pytestmark = pytest.mark.live

MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
CONFIG = """
load_module {module};
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log info;
events {{ worker_connections 64; }}
rtmp {{ server {{
    listen 127.0.0.1:{port};
    notify_method get;
    application live {{
        live on;
        on_play http://127.0.0.1:{notify}/play;
        on_publish http://127.0.0.1:{notify}/publish;
    }}
}} }}
"""


class Reader(threading.Thread):
    """Decodes a stream until it has `num_wanted` frames or the stream ends."""

    def __init__(self, url: str, num_wanted: int, **options: str) -> None:
        super().__init__(daemon=True)
        self.numbers: list[int] = []
        self.times: list[float] = []
        self.num_sounds = 0
        self.colours: set[tuple[int, int]] = set()
        self._url, self._num_wanted, self._options = url, num_wanted, options
        self.start()

    def run(self) -> None:
        try:
            with av.open(self._url, options=self._options, timeout=(WAIT_S, 5.0)) as container:
                for packet in container.demux():
                    for frame in packet.decode():
                        self._take(frame)
                    if len(self.numbers) >= self._num_wanted and self.num_sounds:
                        return
        except (av.error.ExitError, av.error.EOFError, OSError):
            return  # the publisher has left; what was decoded is judged by the test

    def _take(self, frame: Any) -> None:
        if isinstance(frame, av.AudioFrame):
            self.num_sounds += 1
            return
        self.numbers.append(number_of(frame.to_ndarray()[:48]))
        self.times.append(float(frame.time))
        self.colours.add((frame.colorspace, frame.color_range))


class Nginx:
    """A running nginx, and events that tell when somebody plays or publishes."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or closed_port()
        self.play, self.publish = threading.Event(), threading.Event()
        events = {"/play": self.play, "/publish": self.publish}

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                events[self.path.partition("?")[0]].set()
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._notify = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._notify.serve_forever, daemon=True).start()
        config = folder / "nginx.conf"
        config.write_text(
            CONFIG.format(module=MODULE, folder=folder, port=self.port, notify=self._notify.server_address[1])
        )
        program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
        assert program is not None
        self._process = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert self._process.poll() is None, (folder / "error.log").read_text()
                assert time.monotonic() < deadline_s, "nginx does not listen"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(WAIT_S)
        self._notify.shutdown()
        self._notify.server_close()


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Nginx]:
    """A server on a free port, or a skip that says what to install."""
    if not MODULE.exists():
        pytest.skip(f"no {MODULE}: on Debian, apt install nginx libnginx-mod-rtmp")
    server = Nginx(tmp_path)
    yield server
    server.stop()


def test_a_reader_behind_nginx_sees_the_show(nginx: Nginx) -> None:
    num_frames = 120
    url = f"rtmp://127.0.0.1:{nginx.port}/live/SECRET"
    reader = Reader(url, num_frames, rtmp_live="live")
    assert nginx.play.wait(WAIT_S)
    sink, clock = RtmpSink(url), SystemClock()
    fan_out = FanOut([sink])
    show = Show(fan_out, Pacer(clock, Fraction(30)), clock)
    fan_out.open(feed(fps=30))
    fan_out.wait_ready()
    show.run(endless(), num_slots=num_frames)
    assert nginx.publish.is_set()
    fan_out.close()
    reader.join(WAIT_S)
    assert (sink.errors, sink.result()) == (0, "1 connection")
    assert len(reader.numbers) >= 0.95 * num_frames
    # In order: each frame's number is that of its moment in the show, modulo the 55 numbers there are.
    shift = reader.numbers[0]
    expected = [(round(moment * 30) + shift) % 55 for moment in (t - reader.times[0] for t in reader.times)]
    assert reader.numbers == expected
    assert reader.times == sorted(set(reader.times))
    assert reader.num_sounds >= 0.9 * (reader.times[-1] - reader.times[0]) * 48000 / 1024
    assert reader.colours == {(1, 1)}  # BT.709, limited


def write_until_on_air(sink: RtmpSink, clock: FakeClock, slot: int) -> int:
    """Write frames until one is taken; return the next slot."""
    deadline_s = time.monotonic() + WAIT_S
    while not sink.write(Frame(numbered(slot % 55), slot)):
        clock.advance(60)  # no wait is longer
        slot += 1
        assert time.monotonic() < deadline_s, sink.state()
    return slot + 1


def test_libavformat_as_the_server_sees_the_show() -> None:
    num_frames = 55
    url = f"rtmp://127.0.0.1:{closed_port()}/live/x"
    reader = Reader(url, num_frames, listen="1")
    clock = FakeClock()
    sink = RtmpSink(url, clock=clock)
    sink.open(feed(fps=30))
    sink.start()
    begin = write_until_on_air(sink, clock, 0)  # refused until the reader listens
    assert all(sink.write(Frame(numbered(slot % 55), slot)) for slot in range(begin, begin + num_frames))
    sink.close()
    reader.join(WAIT_S)
    assert len(reader.numbers) >= 0.95 * num_frames
    assert reader.numbers == [(begin - 1 + number) % 55 for number in range(len(reader.numbers))]
    assert reader.times == pytest.approx([number / 30 for number in range(len(reader.numbers))], abs=0.001)
    assert reader.num_sounds >= 70
    assert reader.colours == {(1, 1)}


def test_a_server_that_comes_back_gets_a_fresh_stream(tmp_path: Path, nginx: Nginx) -> None:
    url = f"rtmp://127.0.0.1:{nginx.port}/live/SECRET"
    clock = FakeClock()
    sink = RtmpSink(url, clock=clock)
    sink.open(feed(fps=30))
    sink.start()
    slot = write_until_on_air(sink, clock, 0)
    nginx.stop()
    while sink.write(Frame(numbered(slot % 55), slot)):  # until the loss shows
        slot += 1
        assert slot < 10_000
    while sink.errors < 2:  # until the next attempt has failed
        clock.advance(60)
        assert not sink.write(Frame(numbered(0), slot + 1))
        slot += 1
        assert slot < 10_000
    assert "Connection refused" in sink.state()
    assert "SECRET" not in sink.state()
    (tmp_path / "again").mkdir()
    again = Nginx(tmp_path / "again", nginx.port)
    reader = Reader(url, 10, rtmp_live="live")
    try:
        assert again.play.wait(WAIT_S)
        slot = write_until_on_air(sink, clock, slot)
        assert all(sink.write(Frame(numbered((slot + number) % 55), slot + number)) for number in range(55))
        sink.close()
        reader.join(WAIT_S)
    finally:
        again.stop()
    assert reader.times[0] < 1  # the time of the new stream began at 0, though the show is older
    assert reader.numbers == [(reader.numbers[0] + number) % 55 for number in range(len(reader.numbers))]
    assert len(reader.numbers) >= 10
    assert (sink.errors, sink.result()) == (2, "2 connections, last error: Connection refused")


def test_a_child_that_is_killed_is_replaced(nginx: Nginx) -> None:
    links: list[PublisherProcess] = []

    def dial(job: PublishJob) -> PublisherProcess:
        links.append(PublisherProcess(job))
        return links[-1]

    clock = FakeClock()
    sink = RtmpSink(f"rtmp://127.0.0.1:{nginx.port}/live/x", clock=clock, dial=dial)
    sink.open(feed(fps=30))
    sink.start()
    slot = write_until_on_air(sink, clock, 0)
    os.kill(links[0].pid, signal.SIGKILL)
    while sink.write(Frame(numbered(slot % 55), slot)):
        slot += 1
        assert slot < 10_000
    assert "has ended" in sink.state()
    write_until_on_air(sink, clock, slot)
    sink.close()
    assert len(links) == 2
    assert (sink.errors, sink.state()) == (1, "on air")
    assert sink.result() == "2 connections, last error: the process that sends the stream has ended"
    for link in links:
        with pytest.raises(ProcessLookupError):
            os.kill(link.pid, 0)
