"""Loads the last T frames of a clip of any kind, length and size as uint8 RGB of the frame's size.

PyAV reads videos; Pillow reads animated pictures (GIF, WebP, PNG) and still pictures.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from runtime.prompts.images import check_pixels, fit, load_image, refusing, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

MAX_FRAMES = 3000  # decoded per file; far more than from a key frame to the end
MAX_PIXELS = 6_500_000_000  # decoded per file: 3000 frames of 1920 x 1080, about half a minute
_MARGIN_S = 1  # decoding starts this much earlier, as the first frames after a seek may be damaged
# FFmpeg's names of the containers that are read. Playlists and other lists of files or addresses are left out.
_CONTAINERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,asf,ogg,mxf,nut,dv,rm,wtv,gif,apng,"
    "mjpeg,vvc,yuv4mpegpipe,jpeg_pipe,png_pipe,webp_pipe,gif_pipe,bmp_pipe,tiff_pipe,wav,mp3,aac,flac"
)
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")  # other formats hold pages or previews


@contextmanager
def open_video(path: str | Path) -> Iterator[Any]:
    """Open a video file for reading, without opening any other file or address that its name or content refers to.

    Args:
        path: of the file; always a path, even if it looks like an address ("18:07.mkv").

    Yields:
        An `av` input container.

    Raises:
        OSError: the file is missing or cannot be read.
        av.FFmpegError: it is not in `_CONTAINERS`, or damaged.
    """
    import av

    only_this = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "none"}
    with Path(path).open("rb") as file, av.open(file, container_options=only_this) as container:
        yield container


def load_clip(
    clip: str | Path | npt.NDArray[np.uint8], frames: int, width: int, height: int, how: str = "cover"
) -> npt.NDArray[np.uint8]:
    """Load the end of a clip and fit it to the frame.

    Args:
        clip: path of a video or picture (a still picture is a clip of one frame), or a uint8 RGB array (t, h, w, 3), or
            (h, w, 3) for one frame, of any length and size, oldest first.
        frames: T, the number of frames to return; the oldest frame of a shorter clip is repeated.
        width: of the result, in pixels.
        height: of the result, in pixels.
        how: as for `runtime.prompts.images.fit`.

    Returns:
        uint8 (T, height, width, 3), RGB, 0 to 255, oldest first, owned by the caller.

    Raises:
        ValueError: the file is missing, holds no video, is damaged, or is too large; or the array is not as above.
    """
    if isinstance(clip, (str, Path)):
        fitted = _load_file(Path(clip), frames, width, height, how)
    elif isinstance(clip, np.ndarray):
        if clip.dtype != np.uint8 or clip.ndim not in (3, 4) or clip.shape[-1] != 3 or 0 in clip.shape:
            raise ValueError(
                f"a clip array must be uint8 (frames, height, width, 3) RGB, got {clip.dtype} {clip.shape}"
            )
        last = clip[np.newaxis] if clip.ndim == 3 else clip[-frames:]
        fitted = [load_image(frame, width, height, how) for frame in last]
    else:
        raise ValueError(f"a clip must be a path or a uint8 array, got {type(clip).__name__}")
    return np.stack([fitted[0]] * (frames - len(fitted)) + fitted)


def _load_file(path: Path, frames: int, width: int, height: int, how: str) -> list[npt.NDArray[np.uint8]]:
    from PIL import Image, UnidentifiedImageError

    if not os.path.isfile(path):  # noqa: PTH113 - Path raises if a name is too long
        raise ValueError(f"there is no clip file {path}")
    with refusing(path, "clip"):
        with suppress(UnidentifiedImageError), Image.open(path) as opened:
            if opened.format != "MPEG":  # Pillow opens MPEG videos but cannot decode them
                return [fit(picture, width, height, how) for picture in _pictures(opened, frames)]
        return [fit(picture, width, height, how) for picture in _video(path, frames)]


def _pictures(opened: Picture, frames: int) -> Iterator[Picture]:
    """Yield the last frames of an animated or still picture as RGB."""
    check_pixels(*opened.size)
    count = getattr(opened, "n_frames", 1) if opened.format in ANIMATED else 1
    _check_length(count, count * opened.width * opened.height)
    for index in range(max(0, count - frames), count):
        opened.seek(index)
        opened.load()
        yield to_rgb(opened)


def _video(path: Path, frames: int) -> Iterator[Picture]:
    """Yield the last frames of a video as RGB; decodes only its end if it is seekable."""
    import av
    from PIL import Image

    try:
        last = _decode(path, frames, is_seeking=True)
        if last is None:
            last = _decode(path, frames, is_seeking=False)
    except av.error.FFmpegError as error:
        raise ValueError(f"it is no video that FFmpeg can decode ({error.strerror})") from error
    if not last:
        raise ValueError("it holds no frames")
    for frame in last:
        turns = round(getattr(frame, "rotation", 0) / 90) % 4  # quarter turns, counterclockwise
        yield Image.fromarray(np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns)))


def _decode(path: Path, frames: int, *, is_seeking: bool) -> deque[Any] | None:
    """Return the last frames of a video; None if seeking towards its end gave too few."""
    import av

    last: deque[Any] = deque(maxlen=frames)
    with open_video(path) as container:
        if not container.streams.video:
            raise ValueError("it holds no video")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("it holds a video that FFmpeg has no decoder for; convert it to H.264")
        stream.codec_context.thread_count = 1  # frames may be made at the same time
        check_pixels(stream.codec_context.width, stream.codec_context.height)
        has_sought = is_seeking and _seek_end(container, stream, frames)
        pixels = 0
        try:
            for number, frame in enumerate(container.decode(stream), start=1):
                pixels += frame.width * frame.height
                check_pixels(frame.width, frame.height)
                _check_length(number, pixels)
                last.append(frame)
        except av.error.FFmpegError:
            if not has_sought:
                raise
            return None  # may fail after a seek although the whole file can be decoded
    return None if has_sought and len(last) < frames else last


def _seek_end(container: Any, stream: Any, frames: int) -> bool:
    """Seek to a key frame before the last frames; return whether this skips anything."""
    import av

    rate = stream.average_rate or Fraction(1)
    start_s = Fraction(container.duration or 0, av.time_base) - Fraction(2 * frames) / rate - _MARGIN_S
    if start_s <= 0:
        return False
    try:
        container.seek((container.start_time or 0) + int(start_s * av.time_base))
    except av.error.FFmpegError:
        return False
    return True


def _check_length(frames: int, pixels: int) -> None:
    if frames > MAX_FRAMES or pixels > MAX_PIXELS:
        raise ValueError(
            f"more than {MAX_FRAMES} frames or {MAX_PIXELS:.1e} pixels to decode: cut out its last seconds"
        )
