"""A live stream over WebRTC, published through WHIP: the lowest latency that a server can offer to many viewers."""

from __future__ import annotations

import importlib.util
from urllib.parse import unquote, urlsplit

from runtime.masking import mask
from streaming.errors import SinkError
from streaming.live.live_sink import LiveSink, StreamTarget
from streaming.sinks.sink import StreamFormat

_FORM = "whip://[TOKEN@]HOST[:PORT]/PATH, which means https, or whip+http:// on your own network"


class WhipSink(LiveSink):
    """Publishes to "whip://[TOKEN@]HOST[:PORT]/PATH[?QUERY]"; TOKEN is sent as a bearer token."""

    @staticmethod
    def to_target(spec: str) -> StreamTarget:
        """Parse the address; everything but the host is a secret."""
        try:
            parts = urlsplit(spec)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise SinkError(f"sink {mask(spec)} is not a valid address: write {_FORM}") from error
        if not host or parts.password is not None or parts.path in ("", "/"):
            raise SinkError(f"sink {mask(spec)} is not a valid address: write {_FORM}")
        scheme = "http" if parts.scheme.lower() == "whip+http" else "https"
        place = f"[{host}]" if ":" in host else host
        netloc = place if port is None else f"{place}:{port}"
        token = unquote(parts.username or "")
        url = parts._replace(scheme=scheme, netloc=netloc, fragment="").geturl()
        secrets = {token, parts.username or "", parts.path, parts.path.strip("/"), parts.query} - {""}
        options = {"token": token} if token else {}
        stream = "streaming.live.whip_stream:WhipStream"
        return StreamTarget(url, "whip", "libopus", options, tuple(secrets), "baseline", stream)

    def open(self, feed: StreamFormat) -> None:
        """Check that aiortc is installed; the server is not needed yet."""
        if importlib.util.find_spec("aiortc") is None:
            raise SinkError(f"sink {self.name} needs aiortc: pip install 'everframe[webrtc]'")
        super().open(feed)
