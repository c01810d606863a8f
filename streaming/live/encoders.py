"""H.264 encoders: that of the GPU if there is one, otherwise libx264. Adding one = one entry in `ENCODERS`.

Whether an encoder works is tested by encoding a frame, as FFmpeg may contain encoders that this machine does not
support. Options: `ffmpeg -h encoder=NAME`; no hardware encoder here delays frames or makes B-frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

AUTO = "auto"


@dataclass(frozen=True)
class H264Encoder:
    """One encoder and its options.

    Args:
        codec: libavcodec's name.
        title: for messages.
        live: options for encoding without delay.
        recording: options for files, which favour quality.
        pixels: its input format, "yuv420p" or "nv12".
        profiles: its own names of H.264 profiles, where they differ.
        constant: options that pad the stream to a constant bit rate.
    """

    codec: str
    title: str
    live: Mapping[str, str]
    recording: Mapping[str, str]
    pixels: str = "yuv420p"
    profiles: Mapping[str, str] = field(default_factory=dict)
    constant: Mapping[str, str] = field(default_factory=dict)

    def live_options(self, profile: str, bitrate: int, *, is_constant: bool) -> dict[str, str]:
        """Return the options for a live stream.

        Args:
            profile: "baseline", "main" or "high".
            bitrate: in bit/s, the maximum, averaged over a second.
            is_constant: whether the stream is padded to the bit rate.
        """
        rate = {"b": str(bitrate), "maxrate": str(bitrate), "bufsize": str(bitrate)}
        common = {"bf": "0", "profile": self.profiles.get(profile, profile), **rate, **self.live}
        return {**common, **self.constant} if is_constant else common


# In the order in which they are tried. Chroma is averaged over 2 x 2 pixels, so its samples lie at their centre (H.264,
# annex E: chroma location 1), which only libx264 can write.
ENCODERS = {
    "nvenc": H264Encoder(
        "h264_nvenc",
        "NVENC, on the NVIDIA GPU",
        {"preset": "p4", "tune": "ull", "rc": "cbr", "zerolatency": "1", "delay": "0", "forced-idr": "1"},
        {"preset": "p5", "rc": "vbr", "cq": "19", "b": "0", "bf": "0"},
        constant={"cbr_padding": "1"},
    ),
    "videotoolbox": H264Encoder(
        "h264_videotoolbox",
        "VideoToolbox",
        {"realtime": "1", "prio_speed": "1"},
        {"b": "12000000", "bf": "0"},
    ),
    "qsv": H264Encoder(
        "h264_qsv",
        "Quick Sync, on the Intel GPU",
        {"preset": "veryfast", "async_depth": "1", "forced_idr": "1"},
        {"preset": "medium", "global_quality": "19", "bf": "0"},
        pixels="nv12",
    ),
    "amf": H264Encoder(
        "h264_amf",
        "AMF, on the AMD GPU",
        {"usage": "ultralowlatency", "rc": "cbr", "forced_idr": "1"},
        {"usage": "transcoding", "rc": "cqp", "qp_i": "18", "qp_p": "20", "bf": "0"},
        profiles={"baseline": "constrained_baseline"},
        constant={"filler_data": "1"},
    ),
    "x264": H264Encoder(
        "libx264",
        "libx264, on the CPU",
        {
            "preset": "veryfast",
            "tune": "zerolatency",
            "sc_threshold": "0",  # no key frames except those requested
            "forced-idr": "1",
            "x264-params": "chromaloc=1",
        },
        # A short lookahead: if the process is killed, the frames in the encoder are lost.
        {"preset": "veryfast", "crf": "16", "rc-lookahead": "4", "bf": "2", "x264-params": "chromaloc=1"},
        constant={"x264-params": "chromaloc=1:nal-hrd=cbr"},
    ),
}
SOFTWARE = "x264"


def choose(wanted: str, width: int, height: int, fps: Fraction) -> str:
    """Choose an encoder, by encoding a frame with each candidate.

    Args:
        wanted: a name of `ENCODERS`, or "auto" for the first that works.
        width: of a frame in pixels.
        height: of a frame in pixels.
        fps: frames per second.

    Returns:
        A name of `ENCODERS`.

    Raises:
        ValueError: the named encoder does not work on this machine.
    """
    for name in ENCODERS if wanted == AUTO else [wanted]:
        if name == SOFTWARE or why_not(ENCODERS[name], width, height, fps) is None:
            return name
    raise ValueError(
        f"--encoder {wanted} does not work here ({why_not(ENCODERS[wanted], width, height, fps)}): omit --encoder "
        f"to use the best one that works, or use --encoder {SOFTWARE}"
    )


def why_not(encoder: H264Encoder, width: int, height: int, fps: Fraction) -> str | None:
    """Return why an encoder cannot be used, or None if it returns a packet for its first frame."""
    import av
    import numpy as np

    level = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    with av.logging.Capture() as log:
        try:
            context: Any = av.CodecContext.create(encoder.codec, "w")
            context.width, context.height, context.pix_fmt = width, height, encoder.pixels
            context.time_base, context.framerate = 1 / fps, fps
            context.options = encoder.live_options("main", 1_000_000, is_constant=False)
            picture = av.VideoFrame.from_ndarray(np.full((height * 3 // 2, width), 128, np.uint8), format="yuv420p")
            frame = picture if encoder.pixels == "yuv420p" else picture.reformat(format=encoder.pixels)
            frame.pts, frame.time_base = 0, 1 / fps
            return None if context.encode(frame) else "it delays frames"
        except av.codec.codec.UnknownCodecError:
            return "this FFmpeg was built without it"
        except (av.FFmpegError, OSError, ValueError) as error:
            logged = log[0][2] if log else ""
            return " ".join((logged or getattr(error, "strerror", None) or str(error)).split()).rstrip(".")
        finally:
            av.logging.set_level(level)
