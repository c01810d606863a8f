"""The child process of the page's camera: offers from the parent; frames, sound and answers to it.

python -m streaming.inputs.page_camera_child      (started by `streaming.inputs.page_camera`)

The first message has width and height. Then come browsers' offers, {"id": N, "sdp": ..., "is_local": ...}. It sends

    {"id": N, "sdp": ...}         for an offer, or {"id": N, "error": REASON}
    {"camera": N}                 when the browser of an offer is connected; 0 when it is not any more
    {"frame": N}                  with height x width x 3 bytes of RGB; of frames that wait, only the newest is sent
    {"sound": N, "at": SECONDS}   with N samples, int16 stereo at 48 kHz; the time.monotonic of the first of them
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Coroutine
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from runtime.pixels.covering import FrameCover
from streaming.inputs.page_camera import MAX_OFFERS
from streaming.inputs.webrtc_receiver import receive, take_all
from streaming.live.webrtc import RTCSessionDescription, make_peer, offer_loopback
from streaming.process.child import ParentPipe
from streaming.sound.timeline import RATE

_MEMORY_BYTES = 2 << 30  # of address space
_MAX_SIDE = 4096  # of a browser's frame in pixels
_MAX_ASPECT = 4  # its longer side is at most so many times the shorter one
_MAX_SOUNDS = 50  # blocks that wait, a second of sound
_NEW_S = 1.0  # sound that is further from its time than this has a new time
_CLOCK_ERROR = 1e-3  # by which a sender's clock may be slow
_CONNECT_S = 15.0  # for a browser that has been answered
_GONE = ("failed", "closed", "disconnected")
_CODECS = {"video": ("VP8|H264", "neither VP8 nor H.264"), "audio": ("opus/48000/2", "no Opus")}

Rgb = npt.NDArray[np.uint8]


def fit_bounded(cover: FrameCover, frame: Any) -> Rgb | None:
    """Return a frame as `cover` fits it; None if its size is not allowed."""
    longer, shorter = max(frame.width, frame.height), min(frame.width, frame.height)
    return None if longer > _MAX_SIDE or longer > _MAX_ASPECT * shorter else cover.fit(frame)


class SoundClock:
    """Times blocks of sound that arrive unevenly, as on a busy machine.

    The packets' own timestamps are exact, but begin anywhere. The block that came with the least delay says where.
    """

    def __init__(self) -> None:
        self._sample = 0  # of the sender, at the begin of the latest block
        self._timestamp = 0
        self._begin_s = math.inf  # when the sender's sample 0 arrived, if it had the least delay

    def start_s(self, timestamp: int, length: int, now_s: float) -> float:
        """Return when a block would have begun to arrive.

        Args:
            timestamp: of its first sample, 32 bits.
            length: in samples.
            now_s: when it has arrived.
        """
        step = (timestamp - self._timestamp + 2**31) % 2**32 - 2**31
        self._sample, self._timestamp = self._sample + step, timestamp
        begin_s = now_s - self._sample / RATE
        if abs(begin_s - self._begin_s) > _NEW_S:  # another device, or one that has slept
            self._begin_s = begin_s
        self._begin_s = min(begin_s, self._begin_s + _CLOCK_ERROR * abs(step) / RATE)
        return self._begin_s + (self._sample - length) / RATE


class Outbox:
    """Sends messages from a thread of its own. Of frames only the newest waits, and of sound one second.

    Args:
        parent: gets the messages.
        cover: converts frames.
    """

    def __init__(self, parent: ParentPipe, cover: FrameCover) -> None:
        self._parent, self._cover, self._clock = parent, cover, SoundClock()
        self._news = threading.Condition()
        self._words: deque[dict[str, Any]] = deque()
        self._sounds: deque[tuple[dict[str, Any], bytes]] = deque(maxlen=_MAX_SOUNDS)
        self._frame: Any = None
        self._num_frames = 0

    def say(self, fields: dict[str, Any]) -> None:
        """Send a message without data."""
        with self._news:
            self._words.append(fields)
            self._news.notify_all()

    def show(self, frame: Any) -> None:
        """Send a decoded frame, unless a newer one comes before it is sent."""
        with self._news:
            self._frame = frame
            self._news.notify_all()

    def play(self, block: Any) -> None:
        """Send decoded sound that has just arrived."""
        at_s = self._clock.start_s(block.pts, block.samples, time.monotonic())
        with self._news:
            self._sounds.append(({"sound": block.samples, "at": at_s}, block.to_ndarray().tobytes()))
            self._news.notify_all()

    def run(self) -> None:
        """Send until the parent ends."""
        try:
            while True:
                self.send()
        finally:
            os._exit(1)  # the parent has ended, or starts another process

    def send(self) -> None:
        """Wait for something, and send all of it; raises OSError if the parent has ended."""
        with self._news:
            self._news.wait_for(lambda: self._words or self._sounds or self._frame is not None)
            words, sounds, frame = list(self._words), list(self._sounds), self._frame
            self._words.clear()
            self._sounds.clear()
            self._frame = None
        for fields in words:
            self._parent.send(fields)
        for fields, data in sounds:
            self._parent.send(fields, data)
        pixels = None
        if frame is not None:
            try:
                pixels = fit_bounded(self._cover, frame)
            except Exception:  # noqa: BLE001 - a frame of a browser may be anything; the next one may be better
                pixels = None
        if pixels is not None:
            self._num_frames += 1
            self._parent.send({"frame": self._num_frames}, pixels.reshape(-1).data)


class Cameras:
    """The browser that is the camera, and those that are about to be; belongs to one event loop.

    Args:
        outbox: gets what the camera sends.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._numbers: dict[Any, int] = {}  # of the offers, by peer
        self._camera: Any = None  # the peer whose frames are used
        self._tasks: set[asyncio.Future[Any]] = set()

    async def answer(self, number: int, offer: str) -> str:
        """Answer a browser's offer; once connected it is the camera.

        Args:
            number: of the offer.
            offer: SDP with all its candidates.

        Returns:
            SDP with all candidates of this machine.

        Raises:
            Exception: aiortc raises many types on a bad offer.
        """
        if len(self._numbers) > MAX_OFFERS:  # the camera itself included
            raise ValueError("too many devices want to be the camera: try again in a moment")
        peer = make_peer()
        self._numbers[peer] = number
        peer.on("connectionstatechange", lambda: self._look(peer))
        peer.on("track", lambda track: self._keep(take_all(track, lambda frame: self._take(peer, track.kind, frame))))
        asyncio.get_running_loop().call_later(_CONNECT_S, self._give_up, peer)
        try:
            for kind, (codec, lack) in _CODECS.items():
                if re.search(rf"(?m)^m={kind} ", offer):
                    if not re.search(rf"(?im)^a=rtpmap:\d+ ({codec})", offer):
                        raise ValueError(f"the browser has {lack}")
                    receive(peer, kind)
            await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
            await peer.setLocalDescription(await peer.createAnswer())
            return str(peer.localDescription.sdp)
        except BaseException:
            self._numbers.pop(peer, None)
            await peer.close()
            raise

    def _look(self, peer: Any) -> None:
        if peer.connectionState == "connected" and peer in self._numbers and peer is not self._camera:
            before, self._camera = self._camera, peer
            self._outbox.say({"camera": self._numbers[peer]})
            if before is not None:
                self._hang_up(before)
        elif peer.connectionState in _GONE:
            self._hang_up(peer)

    def _give_up(self, peer: Any) -> None:
        if peer is not self._camera:
            self._hang_up(peer)

    def _hang_up(self, peer: Any) -> None:
        if self._numbers.pop(peer, None) is None:
            return
        if peer is self._camera:
            self._camera = None
            self._outbox.say({"camera": 0})
        self._keep(peer.close())

    def _take(self, peer: Any, kind: str, frame: Any) -> None:
        if peer is self._camera:
            (self._outbox.show if kind == "video" else self._outbox.play)(frame)

    def _keep(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def limit_memory() -> None:
    """Limit this process's memory, so that a malicious stream harms only this process."""
    if sys.platform != "win32":
        import resource

        with contextlib.suppress(ValueError, OSError):  # the limit is lower already
            resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


def main() -> None:
    """Serve browsers until the parent's messages end."""
    limit_memory()
    av.logging.set_level(None)
    parent = ParentPipe()
    if (message := parent.receive()) is None:
        return
    config, _ = message
    outbox = Outbox(parent, FrameCover(config["width"], config["height"]))
    threading.Thread(target=outbox.run, daemon=True).start()
    asyncio.run(_serve(parent, outbox))


async def _serve(parent: ParentPipe, outbox: Outbox) -> None:
    cameras, loop, ended = Cameras(outbox), asyncio.get_running_loop(), asyncio.Event()

    async def answer(number: int, offer: str) -> None:
        try:
            outbox.say({"id": number, "sdp": await cameras.answer(number, offer)})
        except Exception as error:  # noqa: BLE001 - aiortc raises many types on a bad offer
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            outbox.say({"id": number, "error": reason})

    def read() -> None:
        try:
            while (message := parent.receive()) is not None:
                fields, _ = message
                if fields["is_local"]:
                    offer_loopback()
                asyncio.run_coroutine_threadsafe(answer(fields["id"], fields["sdp"]), loop)
        finally:
            loop.call_soon_threadsafe(ended.set)

    threading.Thread(target=read, daemon=True).start()
    await ended.wait()


if __name__ == "__main__":
    main()
    os._exit(0)  # without waiting for threads: browsers notice the end by themselves
