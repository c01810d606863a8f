"""Files appear whole or not at all, also on a full disk."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from tests.training.full_disk import largest_file
from training.atomic_file import to_sentence, write_text
from training.checkpoint import load_checkpoint, save_checkpoint

CONTENT = {"stage": "pretrain", "iteration": 1, "config": {}, "ema": {}}


def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "pretrain.pt"
    with (
        pytest.raises(OSError, match=r"pretrain\.pt cannot be written \(File too large\): make room and start"),
        largest_file(4096),
    ):
        save_checkpoint(path, {**CONTENT, "weights": torch.zeros(10_000)})
    assert list(tmp_path.iterdir()) == []
    save_checkpoint(path, CONTENT)
    with (
        pytest.raises(OSError, match="the one from before is kept; make room and start the same command again"),
        largest_file(4096),
    ):
        save_checkpoint(path, {**CONTENT, "iteration": 2, "weights": torch.zeros(10_000)})
    assert load_checkpoint(path)["iteration"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_what_fails_on_the_way_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_text(path, "whole")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "half a file \udce9")
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; all is kept: make room and start"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "n" * 300), f"the name {'n' * 60}... is too long for this"),
        (ValueError("no footage"), "no footage"),
    ],
)
def test_errors_are_put_into_words(error: Exception, sentence: str) -> None:
    assert to_sentence(error, "all is kept").startswith(sentence)
