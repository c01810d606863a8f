"""H.264 encoders: the graphics card's where there is one, libx264 else. Adding one = one entry in `ENCODERS`.

Which one works is found out by encoding a frame: that FFmpeg was built with an encoder says nothing about this machine.
Options: `ffmpeg -h encoder=NAME`; none of the hardware encoders holds frames back, and none makes B frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

AUTO = "auto"


@dataclass(frozen=True)
class H264Encoder:
    """One encoder, and how it is told what we want.

    Args:
        codec: libavcodec's name.
        title: for people.
        live: options by which a frame comes out as soon as it went in.
        recording: options for a file, where quality counts and time does not.
        pixels: what it takes, "yuv420p" or "nv12".
        profiles: what it calls a profile of H.264 that it knows under another name.
        constant: options that fill up where the picture needs fewer bits.
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
            bitrate: in bit/s, on average over a second and at most.
            is_constant: whether the rest is filled up where the picture needs less.
        """
        rate = {"b": str(bitrate), "maxrate": str(bitrate), "bufsize": str(bitrate)}
        common = {"bf": "0", "profile": self.profiles.get(profile, profile), **rate, **self.live}
        return {**common, **self.constant} if is_constant else common


# In the order in which they are tried. Chroma was averaged over 2 x 2 pixels and so sits in the middle of them (H.264,
# annex E: location 1), which only libx264 can be told.
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
            "sc_threshold": "0",  # key frames when their time has come, and at no other
            "forced-idr": "1",
            "x264-params": "chromaloc=1",
        },
        # A short lookahead: a recording whose process is killed lacks what the encoder holds.
        {"preset": "veryfast", "crf": "16", "rc-lookahead": "4", "bf": "2", "x264-params": "chromaloc=1"},
        constant={"x264-params": "chromaloc=1:nal-hrd=cbr"},
    ),
}
SOFTWARE = "x264"


def choose(wanted: str, width: int, height: int, fps: Fraction) -> str:
    """Find the encoder to use, by encoding a frame with each that comes into question.

    Args:
        wanted: a name of `ENCODERS`, or "auto" for the first that works.
        width: of a frame in pixels.
        height: of a frame in pixels.
        fps: frames per second.

    Returns:
        A name of `ENCODERS`.

    Raises:
        ValueError: the one that was named does not work on this machine.
    """
    for name in ENCODERS if wanted == AUTO else [wanted]:
        if name == SOFTWARE or why_not(ENCODERS[name], width, height, fps) is None:
            return name
    raise ValueError(
        f"--encoder {wanted} does not work here ({why_not(ENCODERS[wanted], width, height, fps)}): leave --encoder out "
        f"for the best that does, or write --encoder {SOFTWARE}"
    )


def why_not(encoder: H264Encoder, width: int, height: int, fps: Fraction) -> str | None:
    """Return why an encoder cannot be used, or None if it gives a packet for its first frame."""
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
            return None if context.encode(frame) else "it holds frames back"
        except av.codec.codec.UnknownCodecError:
            return "this FFmpeg was built without it"
        except (av.FFmpegError, OSError, ValueError) as error:
            told = log[0][2] if log else ""
            return " ".join((told or getattr(error, "strerror", None) or str(error)).split()).rstrip(".")
        finally:
            av.logging.set_level(level)
