"""The child process behind the page's WebRTC: frames and offers on standard input, answers on standard output.

python -m streaming.page.viewers_child      (started by `streaming.page.webrtc`, which holds the other end)

Standard input begins with a line of JSON (`ViewersConfig`); then comes, again and again, a head (`HEAD`) and what it
announces: a frame in I420, or an offer (SDP). Standard output is a line of JSON each: {"num": N} whenever another
number of browsers watches, {"id": N, "sdp": ...} or {"id": N, "error": ...} for each offer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import threading
from fractions import Fraction
from io import BufferedReader
from math import ceil
from typing import Any

import av
import numpy as np

from streaming.live.encoders import ENCODERS, SOFTWARE
from streaming.live.h264 import open_video, to_video_frame
from streaming.live.webrtc import RTCSessionDescription, VideoTrack, make_peer, offer_loopback, send_video
from streaming.page.viewers import FRAME, HEAD, MAX_VIEWERS, ViewersConfig
from streaming.sinks.sink import Frame, StreamFormat

_BITS_PER_PIXEL = 0.2  # somebody looks closely
_MIN_BITRATE, _MAX_BITRATE = 800_000, 8_000_000
_KEY_EVERY_S = Fraction(10)  # who comes, or has lost something, asks for one
_KEY_PAUSE_S = Fraction(1, 2)  # but gets none before this has passed since the last
_CONNECT_S = 15.0  # for a browser that has been answered
_NICE = 10  # the show goes first
_GONE = ("failed", "closed", "disconnected")


class Viewers:
    """Everybody who watches; a frame is encoded once for all. All but `show` and `num` belongs to one event loop.

    Args:
        feed: frame size and rate.

    Attributes:
        num: how many watch.
    """

    def __init__(self, feed: StreamFormat) -> None:
        self.num = 0
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._tracks: dict[Any, VideoTrack] = {}  # by peer
        self._closing: set[asyncio.Future[None]] = set()
        self._context: Any = None
        self._is_key_wanted = True
        self._key: int | None = None

    def show(self, frame: Frame) -> None:
        """Encode a frame and send it to all; may be called from any thread, but from one only.

        Raises:
            av.FFmpegError: the encoder failed.
        """
        if not self.num:
            self._context, self._key = None, None
            return
        feed, encoder = self._feed, ENCODERS[SOFTWARE]
        if self._context is None:
            bitrate = round(min(max(_BITS_PER_PIXEL * feed.width * feed.height * feed.fps, _MIN_BITRATE), _MAX_BITRATE))
            self._context = open_video(feed, encoder, encoder.live_options("baseline", bitrate, is_constant=False))
            self._context.gop_size = 2**15
        passed = None if self._key is None else frame.slot - self._key
        is_key = passed is None or passed >= ceil(_KEY_EVERY_S * feed.fps)
        if is_key or (self._is_key_wanted and passed is not None and passed >= _KEY_PAUSE_S * feed.fps):
            is_key, self._key, self._is_key_wanted = True, frame.slot, False
        packets = self._context.encode(to_video_frame(frame, feed, frame.slot, is_key=is_key))
        self._loop.call_soon_threadsafe(self._send, [bytes(packet) for packet in packets], frame.slot)

    async def answer(self, offer: str) -> str:
        """Answer a browser's offer; from the moment that it is connected it gets the picture.

        Args:
            offer: SDP with all its candidates.

        Returns:
            SDP with all of ours.

        Raises:
            Exception: whatever aiortc stumbles over.
        """
        if len(self._tracks) >= MAX_VIEWERS:
            raise ValueError(f"{MAX_VIEWERS} watch, or are about to: use /stream.mjpeg")
        peer, track = make_peer(), VideoTrack("video")
        self._tracks[peer] = track

        def look() -> None:
            if peer.connectionState in _GONE:
                self._hang_up(peer)
            self._count()

        def give_up() -> None:
            if peer.connectionState != "connected":
                self._hang_up(peer)

        peer.on("connectionstatechange", look)
        self._loop.call_later(_CONNECT_S, give_up)
        try:
            send_video(peer, track, self._want_key)
            await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await peer.setLocalDescription(await peer.createAnswer())
            sdp = str(peer.localDescription.sdp)
            if not re.search(r"(?im)^a=rtpmap:\d+ H264/", sdp):
                raise ValueError("the browser takes no H.264")
            return sdp
        except BaseException:
            self._tracks.pop(peer, None)
            await peer.close()
            raise

    def _hang_up(self, peer: Any) -> None:
        if self._tracks.pop(peer, None) is not None:
            closing = asyncio.ensure_future(peer.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _count(self) -> None:
        num = sum(peer.connectionState == "connected" for peer in self._tracks)
        if num > self.num:
            self._want_key()
        if num != self.num:
            self.num = num
            _say({"num": num})

    def _want_key(self) -> None:
        self._is_key_wanted = True

    def _send(self, packets: list[bytes], slot: int) -> None:
        for data in packets:
            for peer, track in self._tracks.items():
                if peer.connectionState == "connected":
                    packet = av.Packet(data)
                    packet.pts = packet.dts = slot
                    packet.time_base = 1 / self._feed.fps
                    if not track.put(packet):
                        self._want_key()


def main() -> int:
    """Serve browsers until standard input ends; return the exit status."""
    with contextlib.suppress(AttributeError, OSError):
        os.nice(_NICE)
    av.logging.set_level(None)
    inlet = os.fdopen(0, "rb", closefd=False)
    watch = ViewersConfig(**json.loads(inlet.readline()))
    if watch.is_local:
        offer_loopback()
    feed = StreamFormat("", watch.width, watch.height, Fraction(watch.fps), "i420", dict)
    asyncio.run(_serve(inlet, feed))
    return 0


async def _serve(inlet: BufferedReader, feed: StreamFormat) -> None:
    viewers, loop, ended = Viewers(feed), asyncio.get_running_loop(), asyncio.Event()

    async def answer(number: int, offer: str) -> None:
        try:
            _say({"id": number, "sdp": await viewers.answer(offer)})
        except Exception as error:  # noqa: BLE001 - aiortc raises whatever it stumbles over in an offer
            _say({"id": number, "error": " ".join(str(error).split())[:200] or type(error).__name__})

    def read() -> None:
        try:
            while len(head := inlet.read(HEAD.size)) == HEAD.size:
                kind, number, size = HEAD.unpack(head)
                data = inlet.read(size)
                if len(data) < size:
                    return
                if kind == FRAME:
                    viewers.show(Frame(np.frombuffer(data, np.uint8).reshape(-1, feed.width), number))
                else:
                    asyncio.run_coroutine_threadsafe(answer(number, data.decode()), loop)
        finally:
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, daemon=True).start()
    await ended.wait()


def _say(message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more, which the end of the file will tell
        os.write(1, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # whoever watched sees it by itself; nothing else is left to be done
