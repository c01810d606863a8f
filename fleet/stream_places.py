"""Where streams go: two addresses of the same stream are found, whatever their spelling."""

from __future__ import annotations

import hashlib
from urllib.parse import parse_qs, urlsplit

_PORTS = {"rtmp": 1935, "rtmps": 443, "srt": None, "whip": 443, "whip+http": 80}  # used if an address names none


def is_stream(sink: str) -> bool:
    """Return whether a sink is a live stream, which any machine can send."""
    scheme, mark, _ = sink.partition("://")
    return bool(mark) and scheme.lower() in _PORTS


def stream_key(sink: str) -> str:
    """Return a name for the place of a stream, under which there may be one sender; it does not show the stream key.

    Args:
        sink: a live stream.

    Raises:
        ValueError: its port is no number.
    """
    return hashlib.sha256(_place(sink).encode()).hexdigest()


def _place(sink: str) -> str:
    """Return an address in one form: RTMP with and without TLS are the same place."""
    parts = urlsplit(sink)
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else str(parts.port)
    host = f"{(parts.hostname or '').rstrip('.')}:{port}"
    if parts.scheme == "srt":  # its other values say how it is sent
        return f"{host}?{parse_qs(parts.query).get('streamid', [''])[0]}"
    token = parts.username or "" if parts.scheme.startswith("whip") else ""
    return f"{token}@{host}/{parts.path.strip('/')}?{parts.query}"
