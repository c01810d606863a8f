"""The publisher process from its parent's side: connecting, sending, errors, and its end."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from streaming.live import publisher as publishing
from streaming.live.publisher import PublisherProcess, PublishJob, tls_options
from streaming.sinks.sink import Frame
from tests.fakes import FakeClock
from tests.streaming.doubles import WAIT_S, closed_port, decode, number_of, numbered

ROOT = Path(__file__).parents[3]
MANY = 10_000  # writes; more than any test needs, each of which waits for a moment


def job(url: Path | str, options: dict[str, str] | None = None) -> PublishJob:
    return PublishJob(str(url), "flv", 64, 48, "30", "aac", options or {})


def connect(link: PublisherProcess) -> None:
    """Connect, or raise what the link raises."""
    assert any(link.connect() for _ in range(MANY))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A server that accepts and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT_S)
        yield listener


def url_of(listener: socket.socket) -> str:
    return f"rtmp://127.0.0.1:{listener.getsockname()[1]}/live/SECRET"


def test_every_frame_arrives_and_the_end_is_clean(tmp_path: Path) -> None:
    link = PublisherProcess(job(tmp_path / "a.flv"))
    link.wait_ready()
    connect(link)
    for number in range(50):
        link.send(Frame(numbered(number), 7 + number))
    link.close()
    frames, num_audio = decode(tmp_path / "a.flv")
    assert [number_of(frame.to_ndarray()[:48]) for frame in frames] == list(range(50))
    assert num_audio > 70
    assert not is_running(link.pid)


def test_what_was_sent_is_counted(tmp_path: Path) -> None:
    link = PublisherProcess(job(tmp_path / "a.flv"))
    connect(link)
    slot = 0
    while not link.sent_bytes:  # reported once a second, and read with the next frame
        link.send(Frame(numbered(slot % 55), slot))
        slot += 1
        assert slot < MANY
    link.close()
    with av.open(str(tmp_path / "a.flv")) as container:
        sizes = [packet.size for packet in container.demux() if packet.pts is not None]
    assert 100 < link.sent_bytes <= sum(sizes) * 1.1


def test_a_refusal_is_reported_and_the_same_child_tries_again() -> None:
    url = f"rtmp://127.0.0.1:{closed_port()}/live/SECRET"
    link = PublisherProcess(job(url))
    pid = link.pid
    for _ in range(3):
        with pytest.raises(OSError, match=r"^Connection refused$"):
            connect(link)
        assert link.is_alive
    assert (link.pid, is_running(pid)) == (pid, True)
    link.close()
    assert not is_running(pid)


def test_the_url_is_neither_an_argument_nor_in_the_environment(silent: socket.socket) -> None:
    link = PublisherProcess(job(url_of(silent)))
    link.wait_ready()
    assert not link.connect()  # it has been told by now
    seen = [Path(f"/proc/{link.pid}/{name}") for name in ("cmdline", "environ")]
    assert not [file for file in seen if file.exists() and b"SECRET" in file.read_bytes()]
    link.close()


def test_a_server_that_says_nothing_is_given_up(silent: socket.socket) -> None:
    clock = FakeClock()
    link = PublisherProcess(job(url_of(silent)), clock=clock)
    link.wait_ready()
    assert not link.connect()
    server, _ = silent.accept()  # the child is connected, and hangs while it holds Python's lock
    with server:
        clock.advance(publishing.CONNECT_S - 0.01)
        assert not link.connect()
        clock.advance(0.02)
        with pytest.raises(TimeoutError, match="no answer"):
            link.connect()
        assert not link.is_alive
        link.close()
    assert not is_running(link.pid)


def test_a_server_that_says_nothing_is_given_up_by_libavformat_too(silent: socket.socket) -> None:
    link = PublisherProcess(job(url_of(silent), {"rw_timeout": "100000"}))
    with pytest.raises(OSError, match="Connection timed out"):
        connect(link)
    assert link.is_alive
    link.close()


def test_a_child_that_is_killed_is_noticed(tmp_path: Path) -> None:
    link = PublisherProcess(job(tmp_path / "a.flv"))
    connect(link)
    link.send(Frame(numbered(0), 0))
    os.kill(link.pid, signal.SIGKILL)
    with pytest.raises(OSError, match="process that sends the stream has ended"):
        send_for_ever(link)
    assert not link.is_alive
    link.close()


def test_a_child_that_takes_no_frames_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publishing, "_SEND_S", 0.05)
    link = PublisherProcess(job(tmp_path / "a.flv"))
    connect(link)
    os.kill(link.pid, signal.SIGSTOP)
    with pytest.raises(OSError, match="takes no more frames"):
        send_for_ever(link)
    link.close()
    assert not is_running(link.pid)


def send_for_ever(link: PublisherProcess) -> None:
    for number in range(1, MANY):
        link.send(Frame(numbered(number % 55), number))
    raise AssertionError("nobody noticed")


@pytest.mark.parametrize("is_streaming", [True, False])
def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path, silent: socket.socket, is_streaming: bool) -> None:
    url = str(tmp_path / "a.flv") if is_streaming else url_of(silent)
    code = (
        "import sys\n"
        "from streaming.live.publisher import PublisherProcess, PublishJob\n"
        "link = PublisherProcess(PublishJob(sys.argv[1], 'flv', 64, 48, '30', 'aac', {}))\n"
        "link.wait_ready()\n"
        "while not link.connect(): print('asked', flush=True)\n"
        "print('on air', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, url]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        wanted = b"on air" if is_streaming else b"asked"
        assert any(line.startswith(wanted) for line in parent.stdout)
        server = None if is_streaming else silent.accept()[0]
        parent.kill()
        assert parent.stderr.read() == b""  # ends with the last process that holds it, which is the child
        if server is not None:
            server.close()


def test_tls_without_a_good_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("no openssl here, which makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([program, *request, *names], check=True, capture_output=True, timeout=WAIT_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    is_trusted = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve_tls, args=(listener, context, is_trusted), daemon=True).start()
        url = f"rtmps://localhost:{listener.getsockname()[1]}/live/SECRET"
        link = PublisherProcess(job(url, tls_options()))
        with pytest.raises(OSError, match="certificate failed verification"):
            connect(link)
        link.close()
        assert not is_trusted.is_set()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        link = PublisherProcess(job(url, tls_options()))
        with pytest.raises(OSError, match=r"."):  # this server speaks TLS, and no RTMP
            connect(link)
        link.close()
        assert is_trusted.wait(WAIT_S)


def serve_tls(listener: socket.socket, context: ssl.SSLContext, is_trusted: threading.Event) -> None:
    """Do the TLS handshake with whoever comes, listen for a moment, and leave."""
    while True:
        try:
            connection, _ = listener.accept()
            with connection, context.wrap_socket(connection, server_side=True) as talk:
                if talk.recv(1537):  # it goes on to speak RTMP, which is how it begins
                    is_trusted.set()
        except ssl.SSLError:
            continue  # the other side did not like our certificate
        except OSError:
            return  # the test is over
