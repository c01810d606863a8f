"""Browsers know nothing of BT.709: the colours must be right after any JPEG decoder."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from streaming.page.jpeg import to_jpeg
from tests.streaming.doubles import card_error, colour_card, to_i420


@pytest.mark.parametrize(("width", "height"), [(128, 96), (16, 18), (1280, 720)])
def test_a_colour_card_comes_back(width: int, height: int) -> None:
    picture = to_i420(colour_card(128, 96)) if width == 128 else np.full((height * 3 // 2, width), 128, np.uint8)
    with Image.open(io.BytesIO(to_jpeg(picture))) as image:
        rgb = np.asarray(image.convert("RGB"))
    assert rgb.shape == (height, width, 3)
    if width == 128:
        assert card_error(rgb) <= 6
    else:
        assert np.abs(rgb.astype(int) - round((128 - 16) * 255 / 219)).max() <= 2
