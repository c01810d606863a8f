"""A live stream over RTMP, which most services take."""

from __future__ import annotations

from urllib.parse import urlsplit

from streaming.errors import SinkError
from streaming.live.live_sink import LiveSink, StreamTarget
from streaming.live.publisher import tls_options
from streaming.masking import mask

_SILENCE_S = 4  # that a server may keep; less than the link's own patience, so that the reason is the server's


class RtmpSink(LiveSink):
    """Publishes FLV to "rtmp://HOST[:PORT]/APP/KEY", or rtmps."""

    @staticmethod
    def to_target(spec: str) -> StreamTarget:
        """Read the address; everything behind the last slash is the key."""
        form = "write rtmp://HOST[:PORT]/APP/KEY"
        try:
            parts = urlsplit(spec)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise SinkError(f"sink {mask(spec)} is no address of a stream: {form}") from error
        app, _, name = parts.path.strip("/").rpartition("/")
        if not host or not app or not name:
            raise SinkError(f"sink {mask(spec)} is no address of a stream: {form}")
        key = f"{name}?{parts.query}" if parts.query else name
        options = {
            "flvflags": "no_duration_filesize",
            "rtmp_app": app,  # libavformat would take two parts of the path for it, never three
            "rtmp_playpath": key,
            "rw_timeout": str(_SILENCE_S * 1_000_000),
            "tcp_nodelay": "1",
            **(tls_options() if parts.scheme == "rtmps" else {}),
        }
        secrets = (key, name, *filter(None, [parts.password]))
        return StreamTarget(f"{parts.scheme}://{parts.netloc}/{app}/{key}", "flv", "aac", options, secrets)
