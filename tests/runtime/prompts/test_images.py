"""Pictures: every kind of file becomes uint8 RGB of the frame's size; other files are a ValueError."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.prompts import images
from runtime.prompts.images import load_image, load_mask


@pytest.fixture
def gradient() -> np.ndarray:
    """A smooth picture of 40 x 30 pixels, red rising to the right, green downwards."""
    picture = np.full((30, 40, 3), 60, np.uint8)
    picture[..., 0] = np.linspace(0, 255, 40)
    picture[..., 1] = np.linspace(0, 255, 30)[:, np.newaxis]
    return picture


def test_a_picture_of_the_right_size_is_taken_as_it_is(gradient: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(gradient).save(tmp_path / "a.png")
    assert np.array_equal(load_image(gradient, 40, 30), gradient)
    assert np.array_equal(load_image(tmp_path / "a.png", 40, 30), gradient)
    assert np.array_equal(load_image(str(tmp_path / "a.png"), 40, 30), gradient)


def test_the_result_belongs_to_the_caller(gradient: np.ndarray) -> None:
    result = load_image(gradient, 40, 30)
    result[:] = 0
    assert gradient.any()


def test_a_wide_picture_is_cropped_at_both_sides() -> None:
    picture = np.zeros((20, 80, 3), np.uint8)
    picture[:, 30:50] = 255
    assert load_image(picture, 20, 20).min() == 255


def test_a_high_picture_is_cropped_above_and_below() -> None:
    picture = np.zeros((80, 20, 3), np.uint8)
    picture[30:50] = 255
    assert load_image(picture, 20, 20).min() == 255


def test_resizing_keeps_a_gradient(gradient: np.ndarray) -> None:
    large = load_image(gradient, 160, 120).astype(int)
    assert large.shape == (120, 160, 3)
    # Away from the border, the picture of four times the size is the same ramp.
    assert np.abs(large[60, 8:-8, 0] - (np.arange(8, 152) - 1.5) / 4 * 255 / 39).max() < 2


def test_exif_orientation_is_respected(gradient: np.ndarray, tmp_path: Path) -> None:
    picture = Image.fromarray(gradient)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise for display
    picture.save(tmp_path / "turned.png", exif=exif)
    assert np.array_equal(load_image(tmp_path / "turned.png", 30, 40), np.rot90(gradient, -1))


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA"])
def test_every_mode_becomes_rgb(mode: str, gradient: np.ndarray, tmp_path: Path) -> None:
    file = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(gradient).convert(mode).save(file)
    result = load_image(file, 40, 30)
    assert result.shape == (30, 40, 3)
    assert result.dtype == np.uint8
    assert result[25, 35].astype(int).sum() > result[2, 2].astype(int).sum()  # bright where it was bright


def test_sixteen_bits_of_grey_are_scaled_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(0, 65535, 1024).reshape(32, 32).astype(np.uint16)).save(tmp_path / "deep.png")
    result = load_image(tmp_path / "deep.png", 32, 32)
    assert abs(int(result[16, 0, 0]) - 128) <= 1
    assert result[0, 0, 0] == 0
    assert result[31, 31, 0] == 255


def test_float_grey_is_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.linspace(-50, 300, 256).reshape(16, 16).astype(np.float32)).save(tmp_path / "float.tif")
    result = load_image(tmp_path / "float.tif", 16, 16)
    assert result[0, 0, 0] == 0
    assert result[15, 15, 0] == 255


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    picture = np.full((16, 16, 4), 200, np.uint8)
    picture[..., 3] = 255
    picture[:8, :, 3] = 0
    Image.fromarray(picture).save(tmp_path / "a.png")
    result = load_image(tmp_path / "a.png", 16, 16)
    assert result[:8].max() == 0
    assert result[8:].min() == 200


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe0" * 9])
def test_a_file_that_is_no_image_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"bad\.png"):
        load_image(tmp_path / "bad.png", 16, 16)


def test_every_truncation_is_refused_or_read(gradient: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(gradient).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    refused = 0
    for length in range(0, len(data), 7):
        (tmp_path / "part.png").write_bytes(data[:length])
        try:
            assert load_image(tmp_path / "part.png", 16, 16).shape == (16, 16, 3)
        except ValueError:
            refused += 1
    assert refused > len(data) // 7 // 2


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ValueError, match="there is no image file"):
            load_image(path, 16, 16)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.png")
    for limit in (3000, 1000):  # Pillow warns up to twice its limit, and raises beyond
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(ValueError, match="too large"):
            load_image(tmp_path / "bomb.png", 16, 16)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match="64 x 64 pixels are more than 1000"):
        load_image(tmp_path / "bomb.png", 16, 16)


@pytest.mark.parametrize(
    "value",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8), 7],
)
def test_an_array_that_is_no_image_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="an image"):
        load_image(value, 16, 16)  # type: ignore[arg-type]


def deep_png(values: np.ndarray, colour_type: int) -> bytes:
    """Return a PNG with 16 bits per sample (W3C PNG, third edition), which Pillow reads and does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.mark.parametrize(("colour_type", "channels", "tolerance"), [(0, 1, 0.502), (2, 3, 1)])
def test_sixteen_bits_of_any_colour_are_scaled(
    colour_type: int, channels: int, tolerance: float, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (15, 17, channels)).astype(np.float64)
    values[0, 0], values[-1, -1] = 0, 65535
    (tmp_path / "deep.png").write_bytes(deep_png(values.astype(np.uint16), colour_type))
    result = load_image(tmp_path / "deep.png", 17, 15).astype(int)
    assert np.abs(result - values / 257).max() <= tolerance
    assert (result.min(), result.max()) == (0, 255)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_the_smallest_pictures_fill_the_frame(size: tuple[int, int], tmp_path: Path) -> None:
    Image.new("RGB", size, (9, 80, 200)).save(tmp_path / "a.png")
    assert np.array_equal(load_image(tmp_path / "a.png", 64, 48), np.full((48, 64, 3), (9, 80, 200), np.uint8))


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), level, np.uint8)) for level in (200, 50, 100)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load_image(tmp_path / "a.gif", 8, 8).min() == 200


def test_a_video_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    with pytest.raises(ValueError, match=r"a\.mp4 is not an image that Pillow can read; .*, and a video as a clip"):
        load_image(tmp_path / "a.mp4", 8, 8)


@pytest.mark.parametrize(("size", "bars"), [((40, 80), "sides"), ((160, 40), "ends"), ((64, 36), "")])
def test_a_picture_of_another_shape_fits_in_three_ways(size: tuple[int, int], bars: str) -> None:
    width, height = 64, 36
    picture = np.full((size[1], size[0], 3), 200, np.uint8)
    assert load_image(picture, width, height).min() == 200
    contained, blurred = (load_image(picture, width, height, how) for how in ("contain", "blur"))
    shown = load_mask(np.full(size[::-1], 255, np.uint8), width, height, "contain")[..., 0] > 0
    assert contained[shown].min() == 200
    assert (contained[~shown] == 0).all()
    assert blurred.min() >= 199
    inner = min(width / size[0], height / size[1])
    assert shown.sum() == round(size[0] * inner) * round(size[1] * inner)
    assert shown.all() == (bars == "")
    if bars:
        edge = shown[:, 0] if bars == "sides" else shown[0]
        assert not edge.any()


def test_masks_do_not_ring() -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[:, 50:] = 255
    small = load_mask(mask, 30, 30)[..., 0]
    assert small[:, :14].max() == 0
    assert small[:, 16:].min() == 255
    with pytest.raises(ValueError, match="an image array must be uint8"):
        load_mask(np.zeros((4, 4), np.float32), 30, 30)
