"""Refuses a show whose live input is its own output."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from runtime.masking import mask

_LOCAL = "this machine"
_PORTS = {"http": 80, "https": 443, "rtmp": 1935, "rtmps": 443, "srt": 9000}
_FILES = r"(?i).*\.(mp4|mkv|m3u8)"  # names of sinks that are files


def refuse_circle(source: str | None, sinks: Iterable[str]) -> None:
    """Check that a show does not wait for its own frames; other names of the same place are not recognised.

    Args:
        source: value of --input, or None.
        sinks: values of --to.

    Raises:
        ValueError: the input is one of the sinks: the same server and port (a page), address, file or device.
    """
    if source is None:
        return
    for sink in sinks:
        if _is_same(source, sink):
            raise ValueError(
                f"the input {_shown(source)} is the show's own output to {_shown(sink)}: give another --input, "
                "or leave that sink out"
            )


def _shown(spec: str) -> str:
    return mask(spec) if "://" in spec else spec


def _is_same(source: str, sink: str) -> bool:
    if sink.lower().startswith("http://"):  # the page: every address of its server shows the show
        return "://" in source and _server(source) is not None and _server(source) == _server(sink)
    if "://" in sink:
        return "://" in source and _address(source) is not None and _address(source) == _address(sink)
    if sink.startswith("webcam:"):
        return source.startswith("webcam:") and _device(source) == _device(sink)
    if re.fullmatch(_FILES, sink):
        place = source.removeprefix("file://")
        return "://" not in place and Path(place).resolve() == Path(sink).resolve()
    return False


def _server(address: str) -> tuple[str, int] | None:
    """Return the host and port of an address; None if it has none."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    port = _PORTS.get(parts.scheme.lower()) if port is None else port
    if not host or not port:
        return None
    is_local = host in ("localhost", "0.0.0.0", "::", "::1") or host.startswith("127.")
    return (_LOCAL if is_local else host), port


def _address(address: str) -> tuple[str, tuple[str, int], str, str] | None:
    """Return what identifies a stream at a server: kind, server, path, query."""
    server = _server(address)
    if server is None:
        return None
    parts = urlsplit(address)
    return parts.scheme.lower().removesuffix("s"), server, parts.path.strip("/"), parts.query


def _device(spec: str) -> str:
    """Return the path of a camera; a number is one of Linux."""
    name = spec.partition(":")[2]
    return f"/dev/video{name}" if name.isdigit() else str(Path(name).resolve())
