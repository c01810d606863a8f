"""Files of every kind that people give as clips, small, for the tests of endless clips."""

from __future__ import annotations

import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.runtime.clips.clip_of_waves import waves, write

Frames = npt.NDArray[np.uint8]


def encode(
    path: Path, frames: Any, codec: str, pixels: str, *, fps: int = 30, turned: int = 0, **settings: Any
) -> Path:
    """Write a video.

    Args:
        path: of the file.
        frames: frames of the video library.
        codec, pixels: FFmpeg's names of the codec and of its format.
        fps: frames per second.
        turned: degrees by which a player turns it.
        settings: attributes of the codec context, e.g. color_trc.
    """
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        first = True
        for number, frame in enumerate(frames):
            if first:
                stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, pixels
                for name, value in settings.items():
                    setattr(stream.codec_context, name, value)
                if turned:
                    stream.set_display_rotation(turned)
                first = False
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def to_video(frames: Frames, pixels: str = "rgb24") -> list[Any]:
    """Return arrays as frames of the video library."""
    return [av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=pixels) for frame in frames]


def panorama(count: int, width: int = 128, height: int = 72) -> Frames:
    """Return a camera that only pans over a picture which never repeats, uint8 (count, height, width, 3)."""
    rng = np.random.default_rng(5)
    wide = rng.uniform(0, 255, (9, (width + 3 * count) // 8 + 2, 3)).repeat(8, axis=0).repeat(8, axis=1)
    wide = (wide + np.roll(wide, 4, axis=1) + np.roll(wide, 4, axis=0)) / 3
    return np.stack([wide[:height, 3 * time : 3 * time + width] for time in range(count)]).astype(np.uint8)


def one_frame(folder: Path) -> Path:
    return write(folder / "one.mkv", waves(1))


def two_frames(folder: Path) -> Path:
    return write(folder / "two.mkv", waves(2))


def ten_minutes(folder: Path) -> Path:
    """6,000 frames, 10 a second."""
    frames = to_video(waves(30, 64, 36), "rgb24")
    return encode(folder / "long.mp4", (frames[number % 30].reformat(format="yuv420p") for number in range(6000)),
                  "mpeg4", "yuv420p", fps=10)  # fmt: skip


def four_k(folder: Path) -> Path:
    small = to_video(waves(16, 240, 136, period=16))
    return encode(folder / "4k.mp4", (frame.reformat(3840, 2160, "yuv420p") for frame in small), "mpeg4", "yuv420p")


def varying_rate(folder: Path) -> Path:
    return write(folder / "vary.mkv", waves(40), times=[*range(20), *range(20, 60, 2)])


def cut(folder: Path) -> Path:
    return write(folder / "cut.mkv", np.concatenate([waves(40), 255 - waves(30)]))


def black(folder: Path) -> Path:
    return write(folder / "black.mkv", np.zeros((20, 72, 128, 3), np.uint8))


def still(folder: Path) -> Path:
    return write(folder / "still.mkv", np.repeat(waves(1), 20, axis=0))


def pan(folder: Path) -> Path:
    return write(folder / "pan.mkv", panorama(60))


def sound_alone(folder: Path) -> Path:
    with wave.open(str(folder / "sound.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(8000))
    return folder / "sound.wav"


def no_video(folder: Path) -> Path:
    (folder / "text.mp4").write_text("no video")
    return folder / "text.mp4"


def empty(folder: Path) -> Path:
    (folder / "empty.mp4").touch()
    return folder / "empty.mp4"


def cut_off(folder: Path) -> Path:
    """An MP4 whose table of frames, at its end, is missing."""
    path = encode(folder / "cut_off.mp4", to_video(waves(40)), "mpeg4", "yuv420p")
    path.write_bytes(path.read_bytes()[:-3000])
    return path


def damaged(folder: Path) -> Path:
    """A file with a frame that cannot be decoded."""
    path = encode(folder / "damaged.avi", to_video(waves(60)), "png", "rgb24")
    content = bytearray(path.read_bytes())
    start = len(content) * 2 // 3
    content[start : start + 2000] = bytes(2000)
    path.write_bytes(content)
    return path


def torn(folder: Path) -> Path:
    """A file of which the last third is lost, in a container that needs no table."""
    path = write(folder / "torn.mkv", waves(60))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    return path


def portrait(folder: Path) -> Path:
    return write(folder / "portrait.mkv", waves(40, 72, 128))


def one_pixel(folder: Path) -> Path:
    colours = np.array([[[[120 + 100 * np.sin(0.2 * time)] * 3]] for time in range(40)])
    pictures = [Image.fromarray(frame) for frame in colours.astype(np.uint8)]
    pictures[0].save(folder / "pixel.png", save_all=True, append_images=pictures[1:], duration=33)
    return folder / "pixel.png"


def high_range(folder: Path) -> Path:
    """10 bits, BT.2020, PQ."""
    frames = [frame.reformat(format="yuv420p10le", dst_colorspace=9) for frame in to_video(waves(40))]
    tags = {"color_trc": 16, "color_primaries": 9, "colorspace": 9, "color_range": 1}
    for frame in frames:
        frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = tags.values()
    return encode(folder / "hdr.mkv", frames, "ffv1", "yuv420p10le", **tags)


def transparent(folder: Path) -> Path:
    frames = waves(40)
    alpha = np.full((*frames.shape[:3], 1), 255, np.uint8)
    alpha[:, :, :40] = 0
    return encode(folder / "alpha.mkv", to_video(np.concatenate([frames, alpha], axis=3), "rgba"), "ffv1", "bgra")


def turned(folder: Path) -> Path:
    return encode(folder / "turned.mp4", to_video(np.rot90(waves(40), 1, axes=(1, 2))), "mpeg4", "yuv420p", turned=-90)


def fast(folder: Path) -> Path:
    """240 frames a second."""
    return write(folder / "fast.mkv", waves(320, period=240.0), fps=240)


# What each is: (a file, part of the line that says what was done); and (a file, part of the refusal).
PLAYED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "ten minutes": (ten_minutes, "its first 60.0 s are used"),
    "4K": (four_k, "it is reduced from 3840 x 2160"),
    "varying rate": (varying_rate, "its rate varies"),
    "cut": (cut, "the part from 0.0 to 1.3 s is used"),
    "pan": (pan, "no two moments look alike"),
    "damaged": (damaged, "it is damaged after frame"),
    "torn": (torn, "its pictures end after 1.3 of its 2.0 s"),
    "portrait": (portrait, "32% of its picture is seen"),
    "one pixel": (one_pixel, "it is enlarged 128 times from 1 x 1"),
    "HDR": (high_range, "its high dynamic range (PQ) is shown in the standard one"),
    "alpha": (transparent, "what is transparent is black"),
    "turned": (turned, "it is turned to the"),
    "240 fps": (fast, "30 of its 240 frames a second are used"),
}
REFUSED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "one frame": (one_frame, "has 1 frame, at least 12 are needed"),
    "two frames": (two_frames, "has 2 frames, at least 12 are needed"),
    "black": (black, "is black"),
    "still": (still, "nothing moves"),
    "sound alone": (sound_alone, "it holds no video"),
    "no video": (no_video, "it is no video that FFmpeg can decode"),
    "empty": (empty, "it is empty"),
    "cut off": (cut_off, "it is no video that FFmpeg can decode"),
}
