from __future__ import annotations

import numpy as np
import pytest

from tests.conftest import moving_square
from training.takes import ShardSettings, TakeRecord, pack_take


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
