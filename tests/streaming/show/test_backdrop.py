"""Pictures and clips behind the person: real files, and a real process for a clip."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from streaming.show.backdrop import Backdrop
from tests.streaming.doubles import WAIT_S
from tests.streaming.inputs.test_live_input import write_clip


def until_news(backdrop: Backdrop) -> np.ndarray:
    """Wait for the next frame and return it."""
    clip = backdrop._clip
    assert clip is not None
    with clip._news:
        assert clip._news.wait_for(lambda: clip.num_frames != backdrop._seen, WAIT_S)
    picture = backdrop.news()
    assert picture is not None
    return picture


def test_a_picture_is_fitted_and_news_once(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 90, 3), 200, np.uint8)).save(tmp_path / "wide.png")
    with closing(Backdrop(tmp_path / "wide.png", 64, 48, "cover")) as cropped:
        picture = cropped.news()
        assert picture is not None
        assert picture.shape == (48, 64, 3)
        assert picture.min() == 200
        assert cropped.news() is None
    with closing(Backdrop(tmp_path / "wide.png", 64, 48, "contain")) as whole:
        picture = whole.news()
        assert picture is not None
        assert not picture[:10].any()
        assert picture[24].min() == 200


@pytest.mark.live
def test_a_clip_is_repeated_and_fitted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "18:07.mkv")  # 64 x 48, three grey frames
    with closing(Backdrop(path, 64, 24, "contain")) as clip:
        levels: set[int] = set()
        while len(levels) < 3:
            picture = until_news(clip)
            assert not picture[:, :10].any(), "black beside it"
            levels.add(int(picture[12, 32, 0]))


@pytest.mark.live
def test_an_animated_gif_is_a_clip(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((48, 64, 3), level, np.uint8)) for level in (40, 220)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=20, loop=0)
    with closing(Backdrop(tmp_path / "a.gif", 64, 48, "cover")) as clip:
        levels: set[int] = set()
        while levels != {0, 2}:
            levels.add(int(until_news(clip)[24, 32, 0]) // 100)
    frames[0].save(tmp_path / "still.gif")
    with closing(Backdrop(tmp_path / "still.gif", 64, 48, "cover")) as still:
        assert still.news() is not None
        assert still.news() is None


@pytest.mark.live
def test_a_bad_file_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("neither nor")
    with pytest.raises(ValueError, match=r"notes\.txt is neither a picture nor a clip that can be read: .*Invalid"):
        Backdrop(tmp_path / "notes.txt", 64, 48, "cover")
    Image.fromarray(np.zeros((48, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    with pytest.raises(ValueError, match=r"the image .*cut\.png cannot be used"):
        Backdrop(tmp_path / "cut.png", 64, 48, "cover")
