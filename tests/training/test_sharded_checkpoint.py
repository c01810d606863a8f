"""Checkpoints of several processes: whole or not at all, the newest counts, and reading runs no code."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.full_disk import largest_file
from tests.training.quick_training import digest
from training.checkpoint import (
    find_checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    save_sharded_checkpoint,
)


def content_at(iteration: int) -> dict[str, Any]:
    """Return a checkpoint with all that stages put into one; the weights say the iteration."""
    torch.manual_seed(iteration)
    net = nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(net.parameters(), 0.1, betas=(0.9, 0.99))
    net(torch.ones(1, 2, 4, 4)).sum().backward()
    optimiser.step()
    return {
        "stage": "pretrain", "iteration": iteration, "config": {"model": {"height": 64}, "crops": [1, 2.5, None]},
        "ema": {"half": torch.arange(3).bfloat16(), "count": torch.tensor(iteration), "none": torch.empty(0, 2)},
        "modules": {"net": net.state_dict()}, "optimisers": {"all": optimiser.state_dict()},
        "extra": {"rate": 0.5, "stop_reason": "", "ages": [torch.ones(2), (3, torch.zeros(1))]},
        "footage": [("a.mp4", "CC0-1.0", "me")],
    }  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_holds_what_the_file_holds(tmp_path: Path) -> None:
    one, two = tmp_path / "file" / "pretrain.pt", tmp_path / "folder" / "pretrain.pt"
    one.parent.mkdir()
    save_checkpoint(one, content_at(4))
    save_sharded_checkpoint(two, content_at(4))
    assert names(two.parent) == ["pretrain-000004.dcp"]
    found = load_checkpoint(two)
    assert digest(found) == digest(load_checkpoint(one))
    assert found["optimisers"]["all"]["param_groups"][0]["betas"] == (0.9, 0.99)
    assert found["modules"]["net"]["weight"].is_contiguous(memory_format=torch.channels_last)
    assert find_checkpoint(two) == newest_checkpoint(two.parent) == two.parent / "pretrain-000004.dcp"
    assert digest(load_checkpoint(two.parent / "pretrain-000004.dcp")) == digest(found)


def test_what_was_not_finished_is_ignored_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "pretrain.pt"
    save_sharded_checkpoint(path, content_at(4))
    complete = tmp_path / "pretrain-000004.dcp"
    shutil.copytree(complete, tmp_path / "pretrain-000008.dcp")
    (tmp_path / "pretrain-000008.dcp/.metadata").unlink()  # copied halfway
    shutil.copytree(complete, tmp_path / "pretrain-000006.partial.dcp")  # killed before it was renamed
    (tmp_path / "pretrain-old.dcp").mkdir()  # not ours
    assert find_checkpoint(path) == complete
    assert find_checkpoint(tmp_path / "pretrain-000008.dcp") is None
    assert load_checkpoint(path)["iteration"] == 4
    save_sharded_checkpoint(path, content_at(8))
    assert names(tmp_path) == ["pretrain-000008.dcp", "pretrain-old.dcp"]
    assert int(load_checkpoint(path)["ema"]["count"]) == 8


def test_the_one_that_is_further_counts_in_whichever_form(tmp_path: Path) -> None:
    path, kept = tmp_path / "pretrain.pt", tmp_path / "kept.pt"
    save_checkpoint(path, content_at(2))
    path.rename(kept)
    save_sharded_checkpoint(path, content_at(4))
    kept.rename(path)  # as if killed before the older one was removed
    assert load_checkpoint(path)["iteration"] == 4
    save_sharded_checkpoint(path, content_at(6))
    assert names(tmp_path) == ["pretrain-000006.dcp"]
    shutil.copytree(tmp_path / "pretrain-000006.dcp", tmp_path / "kept")
    save_checkpoint(path, content_at(8))
    assert names(tmp_path) == ["kept", "pretrain.pt"]
    (tmp_path / "kept").rename(tmp_path / "pretrain-000006.dcp")
    assert load_checkpoint(path)["iteration"] == 8


def test_a_folder_that_does_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "pretrain.pt"
    save_sharded_checkpoint(path, content_at(2))
    with (
        pytest.raises(
            OSError, match=r"pretrain-000004\.dcp cannot be written .*: the one from before is kept"
        ) as error,
        largest_file(20_000),
    ):
        save_sharded_checkpoint(path, {**content_at(4), "weights": torch.zeros(10_000)})
    assert "\n" not in str(error.value)
    assert names(tmp_path) == ["pretrain-000002.dcp"]
    assert load_checkpoint(path)["iteration"] == 2


@pytest.mark.parametrize("part", ["content.pt", ".metadata", "__0_0.distcp"])
def test_a_damaged_folder_is_one_sentence(part: str, tmp_path: Path) -> None:
    path = tmp_path / "pretrain.pt"
    save_sharded_checkpoint(path, content_at(2))
    file = tmp_path / "pretrain-000002.dcp" / part
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"pretrain-000002\.dcp is not a checkpoint or is damaged \(") as error:
        load_checkpoint(path)
    assert "\n" not in str(error.value)


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


def test_no_code_of_a_checkpoint_runs(tmp_path: Path) -> None:
    path = tmp_path / "pretrain.pt"
    save_sharded_checkpoint(path, content_at(2))
    metadata = tmp_path / "pretrain-000002.dcp/.metadata"
    metadata.write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(ValueError, match="is damaged"):
        load_checkpoint(path)
    assert not (tmp_path / "sprung").exists()
    pickle.loads(metadata.read_bytes())  # the trap works
    assert (tmp_path / "sprung").exists()
