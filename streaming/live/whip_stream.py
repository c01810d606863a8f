"""One uninterrupted stream over WebRTC: frames -> H.264, sound or silence -> Opus -> aiortc -> a WHIP server."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine
from fractions import Fraction
from typing import Any, TypeVar
from urllib.parse import urlsplit

from streaming.live.ffmpeg_stream import find_encoder, to_options
from streaming.live.h264 import KeyFrames, open_video, to_video_frame
from streaming.live.publisher import CONNECT_S, PublishJob
from streaming.live.timeline import open_timeline
from streaming.live.webrtc import (
    RTCSessionDescription,
    Silence,
    VideoTrack,
    is_here,
    make_peer,
    offer_loopback,
    send_audio,
    send_video,
)
from streaming.live.whip_client import WhipSession, leave, publish
from streaming.sinks.sink import Frame, StreamFormat
from streaming.sound.timeline import Samples
from streaming.sound.track import OPUS_BITRATE, SoundTrack, open_opus

_CLOSE_S = 0.5  # each, for the server and for the connection
_Result = TypeVar("_Result")


class WhipStream:
    """A stream that is on air; its time begins at 0 with the first frame, which is a key frame.

    Args:
        job: what to publish, and where; its option "token" authenticates at the server.

    Attributes:
        shape: of a frame, (H * 3 / 2, W).
        sent_bytes: of video and audio so far.
        num_kept: None, because it is unknown.

    Raises:
        OSError: the server cannot be reached or refuses, or no media connection is possible.
    """

    def __init__(self, job: PublishJob) -> None:
        self.shape = job.height * 3 // 2, job.width  # of a frame
        self._job = job
        self._feed = feed = StreamFormat("", job.width, job.height, Fraction(job.fps), "i420", dict)
        self._encoder = find_encoder(job)
        self._context = open_video(feed, self._encoder, to_options(job, self._encoder))
        self._context.gop_size = 2**15  # `send` requests key frames, by the clock and for the server
        self._session: WhipSession | None = None  # from the server's answer to the DELETE
        self._silence = Silence(job.audio_bitrate)
        self._track = SoundTrack(open_opus(job.audio_bitrate or OPUS_BITRATE)) if job.has_sound else None
        self._first: int | None = None
        self._keys = KeyFrames(feed.fps)
        self._note = open_timeline()
        self.sent_bytes = 0
        self.num_kept = None
        if is_here(urlsplit(job.url).hostname or ""):
            offer_loopback(alone=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self._do(self._connect(), CONNECT_S)
        except BaseException:
            self._end()
            raise

    def send(self, frame: Frame, sound: Samples | None = None) -> None:
        """Encode a frame and send it, with its sound, or with silence up to its time.

        Args:
            frame: I420, later than the one before.
            sound: of a job with sound, int16 (n, 2); what follows that of the frame before.

        Raises:
            OSError: the connection is lost.
            av.FFmpegError: the encoder failed.
        """
        if self._peer.connectionState != "connected":
            raise ConnectionError("the server has left")
        if self._first is None:
            self._first = frame.slot
        slot, is_key = frame.slot - self._first, self._keys.is_key(frame.slot)
        arrived_ns = time.monotonic_ns()
        video = to_video_frame(frame, self._feed, slot, pixels=self._encoder.pixels, is_key=is_key)
        packets = self._context.encode(video)
        self._note(frame.slot, arrived_ns, time.monotonic_ns())
        for packet in packets:
            packet.time_base = 1 / self._feed.fps
        if self._track is None:
            heard = self._silence.until(slot / self._feed.fps)
        else:
            heard = [] if sound is None else self._track.encode(sound)
        self.sent_bytes += sum(packet.size for packet in (*packets, *heard))
        self._loop.call_soon_threadsafe(self._put, packets, heard)

    def close(self) -> None:
        """End the stream."""
        self._end()

    async def _connect(self) -> None:
        self._peer = make_peer()
        self._video, self._audio = VideoTrack("video"), VideoTrack("audio")
        send_video(self._peer, self._video, self._keys.request)
        send_audio(self._peer, self._audio)
        settled = asyncio.Event()

        def look() -> None:
            if self._peer.connectionState in ("connected", "failed", "closed"):
                settled.set()

        self._peer.on("connectionstatechange", look)
        await self._peer.setLocalDescription(await self._peer.createOffer())
        token = str(self._job.options.get("token", ""))
        offer = self._peer.localDescription.sdp
        self._session = await asyncio.to_thread(publish, self._job.url, offer, token)
        try:
            await self._peer.setRemoteDescription(RTCSessionDescription(self._session.answer, "answer"))
        except ValueError as error:
            raise ConnectionError(f"the server's answer cannot be used ({error})") from error
        await settled.wait()
        if self._peer.connectionState != "connected":
            raise ConnectionError("no media connection to the server; a firewall may block UDP")

    def _put(self, video: list[Any], audio: list[Any]) -> None:
        for packet in audio:
            self._audio.put(packet)
        for packet in video:
            if not self._video.put(packet):
                self._keys.request()  # the receiver cannot decode the following frames

    def _do(self, work: Coroutine[Any, Any, _Result], limit_s: float) -> _Result:
        async def limited() -> _Result:
            return await asyncio.wait_for(work, limit_s)

        try:
            return asyncio.run_coroutine_threadsafe(limited(), self._loop).result()
        except TimeoutError as error:
            raise TimeoutError("no answer") from error

    def _end(self) -> None:
        if self._session is not None:
            with contextlib.suppress(OSError):  # the server notices by itself
                self._do(asyncio.to_thread(leave, self._session), _CLOSE_S)
            self._session = None
        with contextlib.suppress(Exception):  # errors no longer matter
            self._do(self._peer.close(), _CLOSE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_CLOSE_S)
