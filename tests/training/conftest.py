from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import pytest
from tensorboard.summary.writer import event_file_writer


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every event file start in a second of its own: TensorBoard reads files in the order of their names."""
    seconds = count(1)
    monkeypatch.setattr(event_file_writer, "time", SimpleNamespace(time=lambda: next(seconds)))
