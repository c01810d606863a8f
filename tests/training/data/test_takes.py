from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import moving_square
from training.data import takes
from training.data.takes import ShardSettings, TakeRecord, pack_take


def test_records_are_checked() -> None:
    frames = list(moving_square(2, 0)[:10])
    data = pack_take("x", 0, 25.0, frames, 95)
    record = TakeRecord(data)
    assert len(record) == 10
    assert np.abs(record.frame(3).astype(int) - frames[3]).mean() < 6
    for broken in (b"", data[:-1], data[:6], b"XXXX" + data[4:]):
        with pytest.raises(ValueError, match="take"):
            TakeRecord(broken)


def test_settings_that_fit_no_take_are_refused() -> None:
    with pytest.raises(ValueError, match="at least twice the minimum"):
        ShardSettings(max_frames=16)


def recorded(flow: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> TakeRecord:
    """Return a record of a flow (T - 1, 4, 6, 2)."""
    monkeypatch.setattr(takes, "optical_flow", lambda frames: flow.astype(np.float16))
    return TakeRecord(pack_take("x", 0, 25.0, [np.zeros((16, 24, 3), np.uint8)] * (len(flow) + 1), 95))


def test_sway_is_the_swing_about_the_steady_way(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = np.zeros((12, 4, 6, 2))
    flow[:, 0] = (2.0, -1.0)  # the first row goes steadily
    flow[:, 1, :, 0] = np.tile([1.0, -1.0], 6)[:, None]  # the second goes a pixel to and fro
    flow[:, 2] = flow[:, 0] + flow[:, 1]  # the third does both
    flow[:, 3, :, 1] = np.repeat([3.0, -3.0], 6)[:, None]  # the last goes 18 pixels down, and up again
    record = recorded(flow, monkeypatch)
    sway = record.sway(0, 12)
    assert (sway.shape, sway.dtype) == ((4, 6), np.float32)
    assert np.allclose(sway[0], 0, atol=1e-3)
    assert np.allclose(sway[1], np.sqrt(0.5), atol=1e-3)
    assert np.allclose(sway[2], np.sqrt(0.5), atol=1e-3)
    away = 3.0 * np.array([1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0])
    assert np.allclose(sway[3], np.sqrt(np.mean(away**2)), atol=1e-2)
    # Within its first half the last row is steady, too.
    assert np.allclose(record.sway(0, 6)[3], 0, atol=1e-3)
    assert np.allclose(record.mean_flow(0, 12)[0], (2.0, -1.0), atol=1e-3)


def test_sway_counts_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    flow = np.zeros((8, 4, 6, 2))
    flow[:, 0] = np.tile([[3.0, 4.0], [-3.0, -4.0]], (4, 1))[:, None]
    sway = recorded(flow, monkeypatch).sway(0, 8)
    assert np.allclose(sway[0], 5 * np.sqrt(0.5), atol=1e-2)
    assert np.allclose(sway[1:], 0)
