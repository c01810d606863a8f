"""Where streams go: two addresses of the same stream are found, whatever their spelling."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import unquote, urlsplit

from streaming.live.srt import parse as parse_srt

_RTMP_PORTS = (1935, 443)
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
    """Return an address in one form: RTMP with and without TLS are the same place, whatever follows the key."""
    if sink.lower().startswith("srt://"):  # its other values say how it is sent
        address = parse_srt(f"srt{sink[3:]}")
        return f"{address.host.lower().rstrip('.')}:{address.port}?{address.streamid}"
    parts = urlsplit(sink)
    is_usual = parts.port in (None, *(_RTMP_PORTS if parts.scheme.startswith("rtmp") else [_PORTS[parts.scheme]]))
    host = f"{(parts.hostname or '').rstrip('.')}:{'' if is_usual else parts.port}"
    if parts.scheme.startswith("rtmp"):
        return f"{host}/{re.sub('/+', '/', unquote(parts.path)).strip('/')}"
    token = parts.username or "" if parts.scheme.startswith("whip") else ""
    return f"{token}@{host}/{parts.path.strip('/')}?{parts.query}"
