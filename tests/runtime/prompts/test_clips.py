"""Clips: the end of any video, animation or array becomes uint8 RGB of the frame's size, or a clear ValueError."""

from __future__ import annotations

import struct
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from runtime.prompts import clips
from runtime.prompts.clips import load_clip
from runtime.prompts.images import load_image

WIDTH, HEIGHT = 32, 24


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return a picture that tells its number and which way is up: green rises to the right, blue downwards."""
    frame = np.full((height, width, 3), number % 256, np.uint8)
    frame[..., 1] = np.linspace(0, 255, width)
    frame[..., 2] = np.linspace(0, 255, height)[:, np.newaxis]
    return frame


def write(path: Path, frames: Sequence[np.ndarray], codec: str = "ffv1", pixels: str = "bgr0", gop: int = 10) -> Path:
    """Write a video, lossless by default; return its path."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.gop_size = pixels, gop
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def numbers(clip: np.ndarray) -> list[int]:
    """Return the numbers of a clip's frames."""
    return [int(frame[0, 0, 0]) for frame in clip]


def test_of_a_long_array_the_end_is_taken_and_fitted_like_an_image() -> None:
    frames = np.stack([picture(number, 80, 40) for number in range(9)])
    clip = load_clip(frames, 4, 20, 20)
    assert (clip.shape, clip.dtype) == ((4, 20, 20, 3), np.uint8)
    assert np.array_equal(clip, [load_image(frame, 20, 20) for frame in frames[5:]])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_of_a_short_array_the_oldest_frame_is_repeated(count: int) -> None:
    frames = np.stack([picture(10 + number) for number in range(count)])
    clip = load_clip(frames, 4, WIDTH, HEIGHT)
    assert numbers(clip) == [10] * (4 - count) + list(range(10, 10 + count))
    clip[:] = 0
    assert frames.any()  # the result belongs to the caller


def test_a_still_picture_is_a_clip_of_one_frame(tmp_path: Path) -> None:
    Image.fromarray(picture(7)).save(tmp_path / "a.png")
    for given in (picture(7), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert np.array_equal(load_clip(given, 3, WIDTH, HEIGHT), [picture(7)] * 3)


def test_of_a_video_the_end_is_taken(tmp_path: Path) -> None:
    frames = [picture(number) for number in range(20)]
    path = write(tmp_path / "a.mkv", frames)
    assert np.array_equal(load_clip(path, 5, WIDTH, HEIGHT), frames[15:])
    assert numbers(load_clip(path, 23, WIDTH, HEIGHT)) == [0, 0, 0, *range(20)]


def test_of_a_long_video_little_more_than_the_end_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "long.mkv", [picture(number) for number in range(250)])
    monkeypatch.setattr(clips, "MAX_FRAMES", 60)
    assert numbers(load_clip(path, 3, WIDTH, HEIGHT)) == [247, 248, 249]
    lone = write(tmp_path / "lone.mkv", [picture(0)] * 61, "libx264rgb", "rgb24", gop=250)  # with one key frame
    with pytest.raises(ValueError, match=r"more than 60 frames or 6.5e\+09 pixels to decode: cut out its last seconds"):
        load_clip(lone, 3, WIDTH, HEIGHT)


def test_a_jump_that_lands_too_late_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def jump(container: Any, stream: Any, frames: int) -> bool:
        container.seek(1_600_000)  # in a video of 1.64 seconds
        return True

    path = write(tmp_path / "a.mkv", [picture(number) for number in range(41)])
    monkeypatch.setattr(clips, "_seek_end", jump)
    assert numbers(load_clip(path, 8, WIDTH, HEIGHT)) == list(range(33, 41))


def test_a_portrait_is_cropped_above_and_below(tmp_path: Path) -> None:
    frame = np.zeros((80, 20, 3), np.uint8)
    frame[30:50] = 255
    assert load_clip(write(tmp_path / "a.mkv", [frame] * 3), 3, 20, 20).min() == 255


def test_a_video_that_was_filmed_sideways_is_turned(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", [picture(100)] * 3, "libx264rgb", "rgb24")
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44  # the display matrix of the track header (ISO/IEC 14496-12, 8.3.2)
    data[start : start + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)  # clockwise
    path.write_bytes(data)
    turned = load_clip(path, 1, HEIGHT, WIDTH)[0].astype(int)
    assert np.abs(turned - np.rot90(picture(100), -1)).max() < 12


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png"])
def test_an_animated_picture_is_a_clip(name: str, tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (0, 50, 100, 150, 200)]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    assert numbers(load_clip(tmp_path / name, 3, 16, 16)) == [100, 150, 200]
    assert numbers(load_clip(tmp_path / name, 6, 16, 16)) == [0, 0, 50, 100, 150, 200]


def test_pages_are_no_clip(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (10, 50)]
    pages[0].save(tmp_path / "scan.tif", save_all=True, append_images=pages[1:])
    assert numbers(load_clip(tmp_path / "scan.tif", 2, 8, 8)) == [10, 10]


def test_an_animation_beyond_all_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (0, 50, 100)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    monkeypatch.setattr(clips, "MAX_PIXELS", 191)
    with pytest.raises(ValueError, match=r"a\.gif cannot be used: more than 3000 frames or 1.9e\+02 pixels"):
        load_clip(tmp_path / "a.gif", 2, 8, 8)


def test_a_video_of_frames_beyond_all_bounds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mkv", [picture(0)] * 2)
    monkeypatch.setattr("runtime.prompts.images.MAX_PIXELS", 700)
    with pytest.raises(ValueError, match=r"a\.mkv cannot be used: 32 x 24 pixels are more than 700; make it smaller"):
        load_clip(path, 2, WIDTH, HEIGHT)


LIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/secret.ts\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.mp4", b""),
        ("a.txt", b"hello\n" * 50),
        ("a.png", b"\x89PNG\r\n\x1a\n"),
        ("a.gif", b"GIF89a"),
        ("a.m3u8", LIST),
    ],
)
def test_a_file_that_is_no_clip_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"the clip .*{name} cannot be used: ") as caught:
        load_clip(tmp_path / name, 2, WIDTH, HEIGHT)
    assert "\n" not in str(caught.value)


LISTS = {
    "concat": "ffconcat version 1.0\nfile secret.mkv\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mkv\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
    "a=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_other_files_or_addresses_is_refused(kind: str, tmp_path: Path) -> None:
    write(tmp_path / "secret.mkv", [picture(number) for number in range(5)])
    (tmp_path / "a.mp4").write_text(LISTS[kind])
    with pytest.raises(ValueError, match="it is no video that FFmpeg can decode"):
        load_clip(tmp_path / "a.mp4", 2, WIDTH, HEIGHT)


@pytest.mark.parametrize("name", ["18:07.mkv", "file:a.mkv", "concat:a|b.mkv", "%d.mkv", "http:a.mkv"])
def test_a_path_is_a_path(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "plain.mkv", [picture(number) for number in range(5)]).rename(name)
    assert numbers(load_clip(name, 2, WIDTH, HEIGHT)) == [3, 4]
    Image.fromarray(picture(7)).save(tmp_path / "plain.png")
    (tmp_path / "plain.png").rename(f"{name}.png")
    assert np.array_equal(load_image(f"{name}.png", WIDTH, HEIGHT), picture(7))


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("a.mp4", "mpeg4", "yuv420p"),
        ("a.mov", "mjpeg", "yuvj420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.ts", "mpeg2video", "yuv420p"),
        ("a.mpg", "mpeg2video", "yuv420p"),
        ("a.webm", "vp8", "yuv420p"),
        ("a.flv", "flv1", "yuv420p"),
        ("a.wmv", "wmv2", "yuv420p"),
        ("a.nut", "ffv1", "bgr0"),
        ("a.y4m", "wrapped_avframe", "yuv420p"),
        ("a.h264", "libx264", "yuv420p"),
        ("a.m4v", "mpeg4", "yuv420p"),
    ],
)
def test_the_usual_containers_are_read(name: str, codec: str, pixels: str, tmp_path: Path) -> None:
    write(tmp_path / name, [picture(number) for number in range(5)], codec, pixels)
    assert load_clip(tmp_path / name, 2, WIDTH, HEIGHT).shape == (2, HEIGHT, WIDTH, 3)


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    with pytest.raises(ValueError, match=r"a\.wav cannot be used: it holds no video"):
        load_clip(tmp_path / "a.wav", 2, WIDTH, HEIGHT)


def test_every_truncation_is_refused_or_read(tmp_path: Path) -> None:
    for name, codec, pixels in (("a.mp4", "libx264", "yuv420p"), ("a.mkv", "ffv1", "bgr0")):
        data = write(tmp_path / name, [picture(number) for number in range(12)], codec, pixels).read_bytes()
        refused = 0
        for length in range(0, len(data), len(data) // 12):
            (tmp_path / name).write_bytes(data[:length])
            try:
                clip = load_clip(tmp_path / name, 2, WIDTH, HEIGHT)
            except ValueError:
                refused += 1
            else:
                assert clip.shape == (2, HEIGHT, WIDTH, 3)
        assert refused > 0


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.mp4", tmp_path, "rtmp://127.0.0.1/app/key"):
        with pytest.raises(ValueError, match="there is no clip file"):
            load_clip(path, 2, WIDTH, HEIGHT)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((2, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 4), np.uint8),
        np.zeros((2, 4, 4, 3)),
        np.zeros((0, 4, 4, 3), np.uint8),
        7,
    ],
)
def test_an_array_that_is_no_clip_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="a clip"):
        load_clip(value, 2, WIDTH, HEIGHT)  # type: ignore[arg-type]
