"""One unbroken live stream: frames -> H.264, beside a silent sound track -> libavformat.

Services take no stream without sound. Silence is encoded once, and the packet is sent again and again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.format import Flags as FormatFlags

from streaming.live.encoders import ENCODERS, SOFTWARE, H264Encoder, why_not
from streaming.live.h264 import KEY_INTERVAL_S, add_video, to_video_frame
from streaming.live.hls import PLAYLIST, HlsFolder
from streaming.live.publisher import PublishJob
from streaming.live.srt import MESSAGE_BYTES, SrtOutput
from streaming.live.srt import parse as parse_srt
from streaming.live.timeline import open_timeline
from streaming.sinks.sink import Frame, StreamFormat

_SAMPLE_RATE = 48_000
_BITS_PER_PIXEL = 0.12
_MIN_BITRATE, _MAX_BITRATE = 400_000, 6_000_000  # bit/s; services advise up to 6 Mbit/s for 1080p
_PRIMING = 3  # audio frames until the encoder has nothing but silence in it
_MESSAGES_IN_BUFFER = 24
_PACKETS_AHEAD = 2  # of silence: each of the two muxers keeps a picture until it has seen later sound


class FFmpegStream:
    """One unbroken stream that is on air; its time begins at 0 with the first frame, which is a key frame.

    Args:
        job: what to publish, and where.

    Attributes:
        shape: of a frame, (H * 3 / 2, W).
        sent_bytes: of picture and sound so far.
        num_kept: of HLS, how many frames lie in complete segments, as far as is known; None for other streams.

    Raises:
        av.FFmpegError: the encoder, the network or the server did not do as they should.
        OSError: likewise.
    """

    def __init__(self, job: PublishJob) -> None:
        self.shape = job.height * 3 // 2, job.width  # of a frame
        self._feed = feed = StreamFormat("", job.width, job.height, Fraction(job.fps), "i420", dict)
        self._srt = SrtOutput(parse_srt(job.url)) if job.url.lower().startswith("srt:") else None
        self._hls = HlsFolder(Path(job.url)) if job.muxer == "hls" else None
        self._container = _open_container(job, self._srt, self._hls)
        self._encoder = find_encoder(job)
        self._video = add_video(self._container, feed, self._encoder, to_options(job, self._encoder))
        self._video.codec_context.gop_size = 2**15  # key frames are asked for by the clock, below
        self._audio: Any = None
        if job.audio is not None:
            self._audio = self._container.add_stream(job.audio, rate=_SAMPLE_RATE, layout="stereo")
            if job.audio_bitrate is not None:
                self._audio.codec_context.bit_rate = job.audio_bitrate
        if FormatFlags.global_header.value & av.format.ContainerFormat(job.muxer, "w").flags:  # the tee does not ask
            for stream in self._container.streams:
                stream.codec_context.flags |= CodecFlags.global_header.value
        self._container.start_encoding()
        if self._hls is not None:
            self._hls.check()
        if self._audio is not None:
            self._silence = _encode_silence(self._audio.codec_context)
        self._note = open_timeline()
        self.sent_bytes = 0
        self.num_kept = None if self._hls is None else 0
        self._num_frames = 0
        self._first: int | None = None
        self._key = 0
        self._num_audio = 0

    def send(self, frame: Frame) -> None:
        """Encode a frame and send it, with as much silence as reaches it.

        Args:
            frame: I420, later than the one before.

        Raises:
            av.FFmpegError: the connection is lost, or the encoder failed.
            OSError: a segment or the playlist could not be written.
        """
        if self._first is None:
            self._first = self._key = frame.slot
        is_key = frame.slot == self._first or frame.slot - self._key >= ceil(KEY_INTERVAL_S * self._feed.fps)
        if is_key:
            self._key = frame.slot
        slot = frame.slot - self._first
        arrived_ns = time.monotonic_ns()
        packets = self._video.encode(
            to_video_frame(frame, self._feed, slot, pixels=self._encoder.pixels, is_key=is_key)
        )
        encoded_ns = time.monotonic_ns()
        self._container.mux(packets)
        self.sent_bytes += sum(packet.size for packet in packets)
        self._note(frame.slot, arrived_ns, encoded_ns)
        if self._audio is not None:
            self._send_silence_until(slot / self._feed.fps)
        if self._hls is not None:
            self._hls.check()
            if is_key and self._hls.num_segments:  # the frames before this one are in it
                self.num_kept = self._num_frames
        self._num_frames += 1

    def close(self) -> None:
        """Send what is still held, and take leave of the server.

        Raises:
            av.FFmpegError: the server did not wait for that.
            OSError: the last segment or the playlist could not be written.
        """
        try:
            self._container.close()
        finally:
            if self._srt is not None:
                self._srt.close()
        if self._hls is not None:
            self._hls.check()
            self.num_kept = self._num_frames

    def _send_silence_until(self, moment_s: Fraction) -> None:
        size = self._audio.codec_context.frame_size
        while (self._num_audio - _PACKETS_AHEAD) * Fraction(size, _SAMPLE_RATE) <= moment_s:
            packet = av.Packet(self._silence)
            packet.stream = self._audio
            packet.time_base = Fraction(1, _SAMPLE_RATE)
            packet.pts = packet.dts = self._num_audio * size
            packet.duration = size
            packet.is_keyframe = True
            self._container.mux(packet)
            self._num_audio += 1
            self.sent_bytes += len(self._silence)


def find_encoder(job: PublishJob) -> H264Encoder:
    """Return the encoder that was asked for, or libx264 if it does not work just now, as all its sessions are taken."""
    encoder = ENCODERS[job.encoder]
    if job.encoder == SOFTWARE or why_not(encoder, job.width, job.height, Fraction(job.fps)) is None:
        return encoder
    return ENCODERS[SOFTWARE]


def to_options(job: PublishJob, encoder: H264Encoder) -> dict[str, str]:
    """Return the encoder's options for a live stream."""
    rate = _BITS_PER_PIXEL * job.width * job.height * Fraction(job.fps)
    suitable = round(min(max(rate, _MIN_BITRATE), _MAX_BITRATE))
    return encoder.live_options(job.profile, job.bitrate or suitable, is_constant=job.bitrate is not None)


def _open_container(job: PublishJob, srt: SrtOutput | None, hls: HlsFolder | None) -> Any:
    # Packets come in the order of their time, and none has to wait for more than the one behind it.
    order = {"max_interleave_delta": "1"}
    options = {"flush_packets": "1", **job.options}
    if srt is not None:
        size = _MESSAGES_IN_BUFFER * MESSAGE_BYTES  # so that what comes out of it is a whole number of packets
        return av.open(srt, "w", format=job.muxer, container_options={**order, **options}, buffer_size=size)
    if hls is not None:
        return av.open(
            PLAYLIST, "w", format="hls", container_options={**order, **options, **hls.options()}, io_open=hls.open
        )
    # The plain muxer would not take options of the network (PyAV 18); what the tee muxer is told, it hands on.
    return av.open(to_tee(job.url, {"f": job.muxer, **options}), "w", format="tee", container_options=order)


def to_tee(url: str, options: Mapping[str, str]) -> str:
    """Write a URL and its options as the tee muxer reads them, which takes two layers of quoting off the options."""

    def quote(text: str) -> str:
        return re.sub(r"([\\'|:=\[\]\s])", r"\\\1", text)

    return quote(f"[{':'.join(f'{name}={quote(value)}' for name, value in options.items())}]") + quote(url)


def _encode_silence(context: Any) -> bytes:
    """Encode silence once; every packet of it is the same."""
    packets: list[bytes] = []
    for index in range(_PRIMING + 2):
        sound = av.AudioFrame.from_ndarray(np.zeros((2, context.frame_size), np.float32), "fltp", "stereo")
        sound.sample_rate = _SAMPLE_RATE
        sound.pts = index * context.frame_size
        packets += [bytes(packet) for packet in context.encode(sound)]
    return packets[-1]
