"""A live stream over RTMP, which most services accept."""

from __future__ import annotations

from urllib.parse import urlsplit

from runtime.masking import mask
from streaming.errors import SinkError
from streaming.live.live_sink import LiveSink, StreamTarget
from streaming.live.publisher import tls_options

_TIMEOUT_S = 4  # for the server to answer; less than CONNECT_S, so that libavformat's reason is reported


class RtmpSink(LiveSink):
    """Publishes FLV to "rtmp://HOST[:PORT]/APP/KEY", or rtmps."""

    @staticmethod
    def to_target(spec: str) -> StreamTarget:
        """Parse the address; everything after the last slash is the key."""
        form = "write rtmp://HOST[:PORT]/APP/KEY"
        try:
            parts = urlsplit(spec)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise SinkError(f"sink {mask(spec)} is not a valid address: {form}") from error
        app, _, name = parts.path.strip("/").rpartition("/")
        if not host or not app or not name:
            raise SinkError(f"sink {mask(spec)} is not a valid address: {form}")
        key = f"{name}?{parts.query}" if parts.query else name
        options = {
            "flvflags": "no_duration_filesize",
            "rtmp_app": app,  # libavformat takes at most two parts of the path for it
            "rtmp_playpath": key,
            "rw_timeout": str(_TIMEOUT_S * 1_000_000),
            "tcp_nodelay": "1",
            **(tls_options() if parts.scheme == "rtmps" else {}),
        }
        secrets = (key, name, *filter(None, [parts.password]))
        return StreamTarget(f"{parts.scheme}://{parts.netloc}/{app}/{key}", "flv", "aac", options, secrets)
