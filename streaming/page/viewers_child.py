"""The child process of the page's WebRTC viewers: frames and offers from the parent, answers to it.

python -m streaming.page.viewers_child      (started by `streaming.page.viewers`)

The first message has width, height, fps, is_local and has_sound. Then come frames, {"slot": N} with I420 data, with
{"sound": BYTES} if as many bytes of sound follow them, and browsers' offers, {"id": N, "sdp": ...}. It sends {"id": N,
"sdp": ...} or {"id": N, "error": ...} for each offer, and {"num": N} when the number of connected browsers changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from fractions import Fraction
from typing import Any

import av

from streaming.live.encoders import ENCODERS, SOFTWARE
from streaming.live.h264 import KeyFrames, open_video, to_video_frame
from streaming.live.publisher import from_message
from streaming.live.webrtc import RTCSessionDescription, VideoTrack, make_peer, offer_loopback, send_audio, send_video
from streaming.page.viewers import MAX_VIEWERS
from streaming.process.child import ParentPipe
from streaming.sinks.sink import Frame, StreamFormat
from streaming.sound.timeline import Samples
from streaming.sound.track import OPUS_BITRATE, SoundTrack, open_opus

_BITS_PER_PIXEL = 0.2  # more than live streams: viewers are near, and look closely
_MIN_BITRATE, _MAX_BITRATE = 800_000, 8_000_000
_KEY_INTERVAL_S = 10  # a viewer who joins or has lost packets requests a key frame
_CONNECT_S = 15.0  # for a browser that has been answered
_GONE = ("failed", "closed", "disconnected")


class Viewers:
    """All viewers; a frame is encoded once for all. Everything but `show` and `num` belongs to one event loop.

    Args:
        feed: frame size and rate.
        parent: gets the number of viewers.
        has_sound: whether sound comes with the frames.

    Attributes:
        num: how many are connected.
    """

    def __init__(self, feed: StreamFormat, parent: ParentPipe, *, has_sound: bool = False) -> None:
        self.num = 0
        self._track = SoundTrack(open_opus(OPUS_BITRATE)) if has_sound else None
        self._parent = parent
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._tracks: dict[Any, tuple[VideoTrack, VideoTrack | None]] = {}  # of picture and sound, by peer
        self._closing: set[asyncio.Future[None]] = set()
        self._context: Any = None
        self._keys = KeyFrames(feed.fps, _KEY_INTERVAL_S)

    def show(self, frame: Frame, sound: Samples) -> None:
        """Encode a frame and its sound and send them to all; may be called from any one thread.

        Raises:
            av.FFmpegError: the encoder failed.
        """
        if not self.num:
            self._context = None
            return
        feed, encoder = self._feed, ENCODERS[SOFTWARE]
        if self._context is None:
            bitrate = round(min(max(_BITS_PER_PIXEL * feed.width * feed.height * feed.fps, _MIN_BITRATE), _MAX_BITRATE))
            self._context = open_video(feed, encoder, encoder.live_options("baseline", bitrate, is_constant=False))
            self._context.gop_size = 2**15
            self._keys.last = None
        video = to_video_frame(frame, feed, frame.slot, is_key=self._keys.is_key(frame.slot))
        packets = [bytes(packet) for packet in self._context.encode(video)]
        heard = [] if self._track is None else self._track.encode(sound)
        self._loop.call_soon_threadsafe(self._send, packets, heard, frame.slot)

    async def answer(self, offer: str) -> str:
        """Answer a browser's offer; once connected it gets the frames.

        Args:
            offer: SDP with all its candidates.

        Returns:
            SDP with all candidates of this machine.

        Raises:
            Exception: aiortc raises many types on a bad offer.
        """
        if len(self._tracks) >= MAX_VIEWERS:
            raise ValueError(f"{MAX_VIEWERS} watch, or are about to: use /stream.mjpeg")
        peer, track = make_peer(), VideoTrack("video")
        is_heard = self._track is not None and re.search(r"(?m)^m=audio", offer) is not None
        sound = VideoTrack("audio") if is_heard else None
        self._tracks[peer] = track, sound

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
            send_video(peer, track, self._keys.request)
            if sound is not None:
                send_audio(peer, sound)
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
            self._keys.request()
        if num != self.num:
            self.num = num
            _say(self._parent, {"num": num})

    def _send(self, packets: list[bytes], heard: list[Any], slot: int) -> None:
        for peer, (track, sound) in self._tracks.items():
            if peer.connectionState != "connected":
                continue
            for data in packets:
                packet = av.Packet(data)
                packet.pts = packet.dts = slot
                packet.time_base = 1 / self._feed.fps
                if not track.put(packet):
                    self._keys.request()
            if sound is not None:
                for packet in heard:
                    sound.put(packet)


def main() -> None:
    """Serve browsers until the parent's messages end."""
    av.logging.set_level(None)
    parent = ParentPipe()
    if (message := parent.receive()) is None:
        return
    config, _ = message
    if config["is_local"]:
        offer_loopback()
    feed = StreamFormat("", config["width"], config["height"], Fraction(config["fps"]), "i420", dict)
    asyncio.run(_serve(parent, feed, has_sound=config["has_sound"]))


async def _serve(parent: ParentPipe, feed: StreamFormat, *, has_sound: bool) -> None:
    viewers, loop, ended = Viewers(feed, parent, has_sound=has_sound), asyncio.get_running_loop(), asyncio.Event()
    shape = feed.height * 3 // 2, feed.width

    async def answer(number: int, offer: str) -> None:
        try:
            _say(parent, {"id": number, "sdp": await viewers.answer(offer)})
        except Exception as error:  # noqa: BLE001 - aiortc raises many types on a bad offer
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            _say(parent, {"id": number, "error": reason})

    def read() -> None:
        try:
            while (message := parent.receive()) is not None:
                fields, data = message
                if "slot" in fields:
                    viewers.show(*from_message(fields, data, shape))
                else:
                    asyncio.run_coroutine_threadsafe(answer(fields["id"], fields["sdp"]), loop)
        finally:
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, daemon=True).start()
    await ended.wait()


def _say(parent: ParentPipe, fields: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # the parent has ended, which the end of its messages shows
        parent.send(fields)


if __name__ == "__main__":
    main()
    os._exit(0)  # without waiting for threads: browsers notice the end by themselves
