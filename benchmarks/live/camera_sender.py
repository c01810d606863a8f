"""A camera that sends numbered frames by WebRTC, as a browser does.

python -m benchmarks.live.camera_sender WIDTH HEIGHT FPS SECONDS      (started by `benchmarks.live.camera`)

Standard output is two lines of JSON: {"sdp": OFFER}, and at the end {"sent": [[number, nanoseconds of
`time.monotonic_ns` at which the frame was at hand, and at which it was encoded], ...]}. The answer's SDP comes on
standard input as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from fractions import Fraction

import av
import numpy as np

from benchmarks.live import stamp
from streaming.inputs.live_input_child import draw_card
from streaming.live.encoders import ENCODERS, SOFTWARE
from streaming.live.h264 import KeyFrames, open_video, to_video_frame
from streaming.live.webrtc import RTCSessionDescription, VideoTrack, make_peer, offer_loopback, send_video
from streaming.sinks.sink import Frame, StreamFormat

_BITRATE = 2_500_000  # as a browser sends 1280 x 720
_KEY_INTERVAL_S = 100  # on request only


async def send(width: int, height: int, fps: int, seconds: float) -> list[tuple[int, int, int]]:
    """Offer, wait for the answer, and send; return when each number was at hand and encoded."""
    feed = StreamFormat("", width, height, Fraction(fps), "i420", dict)
    peer, track, keys = make_peer(), VideoTrack("video"), KeyFrames(feed.fps, _KEY_INTERVAL_S)
    send_video(peer, track, keys.request)
    connected = asyncio.Event()
    peer.on("connectionstatechange", lambda: connected.set() if peer.connectionState == "connected" else None)
    await peer.setLocalDescription(await peer.createOffer())
    print(json.dumps({"sdp": peer.localDescription.sdp}), flush=True)
    answer = json.loads(await asyncio.to_thread(sys.stdin.readline))
    await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await asyncio.wait_for(connected.wait(), 10)
    encoder = ENCODERS[SOFTWARE]
    context = open_video(feed, encoder, encoder.live_options("baseline", _BITRATE, is_constant=False))
    context.gop_size = 2**15
    cards = [
        av.VideoFrame.from_ndarray(draw_card(4 * number, width, height), format="rgb24").reformat(format="yuv420p")
        for number in range(25)  # once around
    ]
    pictures = [card.to_ndarray() for card in cards]
    sent: list[tuple[int, int, int]] = []
    begin_s = asyncio.get_running_loop().time()
    for number in range(min(round(seconds * fps), 2**stamp.BITS)):
        await asyncio.sleep(max(0.0, begin_s + number / fps - asyncio.get_running_loop().time()))
        picture = np.array(pictures[number % len(pictures)])
        stamp.write(picture[:height], number)
        hand_ns = time.monotonic_ns()
        frame = to_video_frame(Frame(picture, number), feed, number, is_key=keys.is_key(number))
        for packet in context.encode(frame):
            packet.pts = packet.dts = number
            packet.time_base = 1 / feed.fps
            track.put(packet)
        sent.append((number, hand_ns, time.monotonic_ns()))
    await asyncio.sleep(0.5)  # until the last one is there
    return sent


if __name__ == "__main__":
    av.logging.set_level(None)
    offer_loopback(alone=True)
    width, height, fps = (int(word) for word in sys.argv[1:4])
    print(json.dumps({"sent": asyncio.run(send(width, height, fps, float(sys.argv[4])))}), flush=True)
    os._exit(0)
