"""A live stream over SRT: MPEG-TS, for networks that lose packets."""

from __future__ import annotations

from runtime.masking import mask
from streaming.errors import SinkError
from streaming.live.live_sink import LiveSink, StreamTarget
from streaming.live.srt import find_library, parse
from streaming.sinks.sink import StreamFormat


class SrtSink(LiveSink):
    """Publishes to "srt://HOST:PORT[?streamid=...&passphrase=...&latency=MS&mode=caller|listener]"."""

    @staticmethod
    def to_target(spec: str) -> StreamTarget:
        """Parse the address; the stream id and the passphrase are secrets."""
        try:
            address = parse(spec)
        except ValueError as error:
            form = "srt://HOST:PORT[?streamid=ID&passphrase=WORDS&latency=MS&mode=caller|listener]"
            raise SinkError(f"sink {mask(spec)} is not a valid address ({error}): write {form}") from error
        # By default audio waits until there are 2930 bytes of it, which silence takes very long to fill.
        options = {"pes_payload_size": "0"}
        raw = (item.partition("=")[2] for item in spec.partition("?")[2].split("&") if item[:1] in "sp")
        secrets = {address.streamid, address.passphrase, *raw} - {""}
        stream = "streaming.live.srt_stream:SrtStream"
        return StreamTarget(spec, "mpegts", "aac", options, tuple(secrets), stream=stream)

    def open(self, feed: StreamFormat) -> None:
        """Check that the system has libsrt; the server is not needed yet."""
        if find_library() is None:
            raise SinkError(
                f"sink {self.name} needs libsrt, which this machine lacks: install it (Debian: apt install "
                "libsrt1.5-gnutls; macOS: brew install srt), or send the stream to rtmp://"
            )
        super().open(feed)
