"""A real RTMP server on loopback: nginx with its RTMP module."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

MODULE = Path("/usr/lib/nginx/modules/ngx_rtmp_module.so")
_CONFIG = """
load_module {module};
daemon off;
master_process off;
pid {folder}/pid;
error_log {folder}/error.log error;
events {{ worker_connections 64; }}
rtmp {{ server {{ listen 127.0.0.1:{port}; application live {{ live on; }} }} }}
"""
_START_S = 10.0


def why_missing() -> str | None:
    """Return None if the server can be started, else one sentence that says what to install."""
    if _program() is None or not MODULE.exists():
        return "nginx with its RTMP module is not installed (Debian: apt install nginx libnginx-mod-rtmp)"
    return None


def check_server() -> None:
    """Raise ValueError if the server cannot be started."""
    if (why := why_missing()) is not None:
        raise ValueError(why)


def free_port() -> int:
    """Return a free port on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class RtmpServer:
    """A running server; a context manager.

    Args:
        folder: for its configuration and logs.
        port: to listen on; None for a free one.

    Attributes:
        url: where to publish and to play.

    Raises:
        ValueError: it does not start.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        port = port or free_port()
        self.url = f"rtmp://127.0.0.1:{port}/live/benchmark"
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(module=MODULE, folder=folder, port=port), encoding="utf-8")
        command = [str(_program()), "-p", str(folder), "-c", str(config)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline_s:
                    self.close()
                    raise ValueError("nginx does not start") from error
                time.sleep(0.02)

    def close(self, *, is_killed: bool = False) -> None:
        """End it; killed, it closes no connection first."""
        (self._process.kill if is_killed else self._process.terminate)()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _program() -> str | None:
    return shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
