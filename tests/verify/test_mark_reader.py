"""The mark is read from frames after what happens to videos, and not where none is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from runtime.marking.plane import tile_size
from tests.verify.marked_video import TEXT, clip, luma
from verify import MarkReader, read_mark
from verify.mark_reader import MOST_DECODED, windows

SIZE = (640, 360)
FRAMES = luma(clip(*SIZE))


def resized(frame: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))


def on_a_desktop(frame: np.ndarray) -> np.ndarray:
    screen = np.full((620, 1000), 70, np.uint8)
    screen[61 : 61 + 493, 87 : 87 + 877] = resized(frame, 877, 493)
    return screen


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nothing": lambda frame: frame,
    "cropped": lambda frame: frame[31 : 31 + 288, 17 : 17 + 512],
    "half the size": lambda frame: resized(frame, 320, 180),
    "two thirds": lambda frame: resized(frame, 427, 240),
    "mirrored": lambda frame: frame[:, ::-1],
    "upside down": lambda frame: frame[::-1, ::-1],
    "on its side": lambda frame: frame.T[::-1],
    "turned": lambda frame: np.asarray(Image.fromarray(frame).rotate(4, Image.Resampling.BICUBIC)),
    "on a desktop": on_a_desktop,
    "another shape": lambda frame: resized(frame, 560, 420),
    "darker": lambda frame: (frame * 0.6).astype(np.uint8),
    "noise": lambda frame: np.clip(
        frame + np.random.default_rng(int(frame[0, 0])).normal(0, 6, frame.shape), 0, 255
    ).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_payload_is_read_after(change: str) -> None:
    findings = read_mark([CHANGES[change](frame) for frame in FRAMES])
    assert [finding.payload for finding in findings] == [TEXT]


def test_a_finding_says_how_the_picture_was_changed() -> None:
    (plain,) = read_mark(FRAMES)
    assert (plain.first, plain.last) == (0, 15)
    assert plain.period == pytest.approx(126)
    assert plain.degrees == 0
    assert not plain.is_mirrored
    assert plain.confidence > 0.95
    assert plain.share > 0.9
    (turned,) = read_mark([CHANGES["turned"](frame) for frame in FRAMES])
    assert abs(turned.degrees) == pytest.approx(4, abs=0.1)
    assert turned.period == pytest.approx(126, abs=0.3)
    (mirrored,) = read_mark([CHANGES["mirrored"](frame) for frame in FRAMES])
    assert mirrored.is_mirrored
    (half,) = read_mark([CHANGES["half the size"](frame) for frame in FRAMES])
    assert half.period == pytest.approx(63)
    assert plain.to_json()["payload"] == TEXT


def test_the_map_shows_where_the_mark_is() -> None:
    plain = luma(clip(*SIZE, payload=None))
    half = [
        np.concatenate([frame[:, :320], other[:, 320:]], axis=1) for frame, other in zip(FRAMES, plain, strict=True)
    ]
    (finding,) = read_mark(half)
    assert np.all(finding.places[:, :4] > 3)
    assert np.mean(finding.places[:, 4:] > 3) < 0.1


def test_colour_frames_are_read() -> None:
    frames = [np.repeat(frame[..., np.newaxis], 3, axis=2) for frame in FRAMES[:4]]
    assert [finding.payload for finding in read_mark(frames)] == [TEXT]


def test_large_frames_have_larger_tiles_and_survive_a_reduction() -> None:
    frames = luma(clip(1280, 960, count=4))
    assert tile_size(1280, 960) == 189
    (whole,) = read_mark(frames)
    assert whole.period == pytest.approx(189)
    (small,) = read_mark([resized(frame, 640, 480) for frame in frames])
    assert (whole.payload, small.payload) == (TEXT, TEXT)


def test_windows_are_read_one_by_one() -> None:
    plain = luma(clip(*SIZE, payload=None))
    findings = read_mark([*FRAMES, *plain, *FRAMES[:9]], searches=0)
    assert [(finding.first, finding.last) for finding in findings] == [(0, 15), (32, 40)]


def test_nothing_is_read_where_no_mark_is() -> None:
    for seed in range(3):
        reader = MarkReader()
        for _, part in windows(luma(clip(384, 216, seed=seed, payload=None))):
            assert reader.read(part) is None
            assert 0 <= reader.decodings_left <= MOST_DECODED
    for level in (0, 128, 255):
        assert read_mark([np.full((180, 320), level, np.uint8)]) == []


def test_at_most_so_many_candidates_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """This bounds how often noise is taken for a mark."""
    decoded = []
    monkeypatch.setattr("verify.mark_reader.LEAST_PILOTS", -100.0)
    monkeypatch.setattr("verify.mark_reader.read", lambda *_: decoded.append(1))
    assert MarkReader().read([np.random.default_rng(0).uniform(0, 255, (180, 320))] * 2) is None
    assert len(decoded) == MOST_DECODED


def test_no_lattice_is_tried_twice() -> None:
    reader = MarkReader()
    assert reader.read(FRAMES) is not None
    tried = list(reader._lattices(np.zeros((360, 640), np.float32), searches_anyway=False))
    assert len({lattice.tobytes() for lattice in tried}) == len(tried)


def test_small_pictures_are_read_or_refused_without_an_error() -> None:
    assert read_mark([np.full((16, 16), 90, np.uint8)]) == []
    assert read_mark([np.full((1, 1), 90, np.uint8)]) == []


def test_bad_frames_are_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"one size, got \(20, 20\) after \(16, 16\)"):
        read_mark([np.zeros((16, 16), np.uint8), np.zeros((20, 20), np.uint8)])
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\) or \(H, W\), got float64"):
        read_mark([np.zeros((16, 16))])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        read_mark([np.zeros((16, 16), np.uint8)], window=0)
