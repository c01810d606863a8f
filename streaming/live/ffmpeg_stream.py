"""One uninterrupted live stream: frames -> H.264, sound -> an audio track -> libavformat.

Services reject streams without audio. Without sound, silence is encoded once, and its packet is sent again and again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.format import Flags as FormatFlags

from streaming.live.encoders import ENCODERS, SOFTWARE, H264Encoder, why_not
from streaming.live.h264 import KeyFrames, add_video, to_video_frame
from streaming.live.publisher import PublishJob
from streaming.live.timeline import open_timeline
from streaming.sinks.sink import Frame, StreamFormat
from streaming.sound.timeline import RATE, Samples
from streaming.sound.track import SoundTrack, add_aac

_BITS_PER_PIXEL = 0.12
_MIN_BITRATE, _MAX_BITRATE = 400_000, 6_000_000  # bit/s; services advise up to 6 Mbit/s for 1080p
_PRIMING = 3  # audio frames until the encoder's packets are pure silence
_PACKETS_AHEAD = 2  # of silence: each of the two muxers holds video until it has seen later audio


class FFmpegStream:
    """One uninterrupted stream that is on air; its time begins at 0 with the first frame, which is a key frame.

    Args:
        job: what to publish, and where.

    Attributes:
        shape: of a frame, (H * 3 / 2, W).
        sent_bytes: of video and audio so far.
        num_kept: frames in complete segments, as far as is known; None for streams without segments.

    Raises:
        av.FFmpegError: the encoder, the network or the server failed.
        OSError: likewise.
    """

    num_kept: int | None = None

    def __init__(self, job: PublishJob) -> None:
        self.shape = job.height * 3 // 2, job.width  # of a frame
        self._feed = feed = StreamFormat("", job.width, job.height, Fraction(job.fps), "i420", dict)
        # Packets are written in the order of their time, and none waits for more than the next one.
        order = {"max_interleave_delta": "1"}
        self._container = self.open_container(job, order, {"flush_packets": "1", **job.options})
        self._encoder = find_encoder(job)
        self._video = add_video(self._container, feed, self._encoder, to_options(job, self._encoder))
        self._video.codec_context.gop_size = 2**15  # `send` requests key frames by the clock
        self._audio: Any = None
        if job.audio is not None:
            self._audio = add_aac(self._container, job.audio_bitrate, job.audio)
        # The tee muxer does not request global headers for the muxer behind it.
        if FormatFlags.global_header.value & av.format.ContainerFormat(job.muxer, "w").flags:
            for stream in self._container.streams:
                stream.codec_context.flags |= CodecFlags.global_header.value
        self._container.start_encoding()
        self._track = SoundTrack(self._audio) if job.has_sound and self._audio is not None else None
        if self._audio is not None and self._track is None:
            self._silence = _encode_silence(self._audio.codec_context)
        self._note = open_timeline()
        self.sent_bytes = 0
        self._first: int | None = None
        self._keys = KeyFrames(feed.fps)
        self._num_audio = 0

    def open_container(self, job: PublishJob, order: Mapping[str, str], options: Mapping[str, str]) -> Any:
        """Open the output; protocols that libavformat does not handle by itself override this.

        Args:
            job: what to publish, and where.
            order: options about the order of packets, for the outermost muxer.
            options: of the muxer and of the network protocol.

        Returns:
            An `av` output container.
        """
        # PyAV 18's plain muxers reject options of the network protocol; the tee muxer passes them on.
        return av.open(to_tee(job.url, {"f": job.muxer, **options}), "w", format="tee", container_options=dict(order))

    def send(self, frame: Frame, sound: Samples | None = None) -> None:
        """Encode a frame and send it, with its sound, or with silence up to its time.

        Args:
            frame: I420, later than the one before.
            sound: of a job with sound, int16 (n, 2); what follows that of the frame before.

        Raises:
            av.FFmpegError: the connection is lost, or the encoder failed.
            OSError: a segment or the playlist could not be written.
        """
        if self._first is None:
            self._first = frame.slot
        slot, is_key = frame.slot - self._first, self._keys.is_key(frame.slot)
        arrived_ns = time.monotonic_ns()
        packets = self._video.encode(
            to_video_frame(frame, self._feed, slot, pixels=self._encoder.pixels, is_key=is_key)
        )
        encoded_ns = time.monotonic_ns()
        self._container.mux(packets)
        self.sent_bytes += sum(packet.size for packet in packets)
        self._note(frame.slot, arrived_ns, encoded_ns)
        if self._track is not None:
            if sound is not None:
                self._mux_sound(self._track.encode(sound))
        elif self._audio is not None:
            self._send_silence_until(slot / self._feed.fps)

    def close(self) -> None:
        """Send what is still buffered and end the stream.

        Raises:
            av.FFmpegError: the server closed the connection before that.
            OSError: the last segment or the playlist could not be written.
        """
        if self._track is not None:
            self._mux_sound(self._track.finish())
        self._container.close()

    def _mux_sound(self, packets: list[Any]) -> None:
        self._container.mux(packets)
        self.sent_bytes += sum(packet.size for packet in packets)

    def _send_silence_until(self, moment_s: Fraction) -> None:
        size = self._audio.codec_context.frame_size
        while (self._num_audio - _PACKETS_AHEAD) * Fraction(size, RATE) <= moment_s:
            packet = av.Packet(self._silence)
            packet.stream = self._audio
            packet.time_base = Fraction(1, RATE)
            packet.pts = packet.dts = self._num_audio * size
            packet.duration = size
            packet.is_keyframe = True
            self._container.mux(packet)
            self._num_audio += 1
            self.sent_bytes += len(self._silence)


def find_encoder(job: PublishJob) -> H264Encoder:
    """Return the job's encoder, or libx264 if it does not work now, e.g. because all its sessions are in use."""
    encoder = ENCODERS[job.encoder]
    if job.encoder == SOFTWARE or why_not(encoder, job.width, job.height, Fraction(job.fps)) is None:
        return encoder
    return ENCODERS[SOFTWARE]


def to_options(job: PublishJob, encoder: H264Encoder) -> dict[str, str]:
    """Return the encoder's options for a live stream."""
    rate = _BITS_PER_PIXEL * job.width * job.height * Fraction(job.fps)
    suitable = round(min(max(rate, _MIN_BITRATE), _MAX_BITRATE))
    return encoder.live_options(job.profile, job.bitrate or suitable, is_constant=job.bitrate is not None)


def to_tee(url: str, options: Mapping[str, str]) -> str:
    """Quote a URL and its options for the tee muxer, which unquotes the options twice."""

    def quote(text: str) -> str:
        return re.sub(r"([\\'|:=\[\]\s])", r"\\\1", text)

    return quote(f"[{':'.join(f'{name}={quote(value)}' for name, value in options.items())}]") + quote(url)


def _encode_silence(context: Any) -> bytes:
    """Return a packet of silence, which can be sent repeatedly."""
    packets: list[bytes] = []
    for index in range(_PRIMING + 2):
        sound = av.AudioFrame.from_ndarray(np.zeros((2, context.frame_size), np.float32), "fltp", "stereo")
        sound.sample_rate = RATE
        sound.pts = index * context.frame_size
        packets += [bytes(packet) for packet in context.encode(sound)]
    return packets[-1]
