from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import moving_square
from training.config import FootageConfig
from training.data.footage import Batch, ClipSampler, open_footage, split
from training.data.loading import load_batches
from training.data.shards import write_shards
from training.data.takes import ShardSettings
from training.sampling import write_mp4

SETTINGS = FootageConfig(fps=25, short_side=48, crop_min=40, crop_max=48, horizon_frames=8)


def offsets_at(step: int) -> list[int]:
    """Offsets that differ from step to step."""
    return [0, 1 + step % 8]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loading")
    (folder / "in").mkdir()
    for number in range(6):
        write_mp4(folder / "in" / f"{number}.mp4", list(moving_square(2, number - 3)), 25)
    write_shards([folder / "in"], folder / "out", ShardSettings(short_side=48), 0, progress=False)
    return folder / "out"


def sampler(shards: Path) -> ClipSampler:
    return ClipSampler(split(open_footage(shards, SETTINGS), SETTINGS, "train"), SETTINGS, 32, 32, 1)


def same(one: Batch, two: Batch) -> bool:
    return all(
        torch.equal(mine, theirs) if isinstance(mine, torch.Tensor) else mine == theirs
        for mine, theirs in zip(one, two, strict=True)
    )


def test_workers_change_nothing(shards: Path) -> None:
    clips = sampler(shards)
    expected = [clips.draw(step, 4, offsets_at(step)) for step in range(2, 9)]
    state = torch.random.get_rng_state()
    for workers in (0, 1, 2):
        with load_batches(clips, lambda step: [0, 1 + step % 8], 4, 2, 9, workers=workers) as batches:
            loaded = list(batches)
        assert len(loaded) == 7
        assert all(same(one, two) for one, two in zip(loaded, expected, strict=True))
        assert batches.waited > 0
    assert torch.equal(state, torch.random.get_rng_state())


def test_ranks_share_the_batch(shards: Path) -> None:
    clips = sampler(shards)
    expected = [clips.draw(step, 4, offsets_at(step)) for step in range(3)]
    ranks = [list(load_batches(clips, offsets_at, 4, 0, 3, rank=rank, world=2)) for rank in (0, 1)]
    for first, second, whole in zip(*ranks, expected, strict=True):
        assert len(first.names) == 2
        assert torch.equal(torch.cat([first.frames, second.frames]), whole.frames)
        assert torch.equal(torch.cat([first.flow, second.flow]), whole.flow)
        assert first.names + second.names == whole.names


def test_a_run_resumes_at_any_step(shards: Path) -> None:
    whole = list(load_batches(sampler(shards), offsets_at, 4, 0, 6))
    rest = list(load_batches(sampler(shards), offsets_at, 4, 4, 6))
    assert all(same(one, two) for one, two in zip(whole[4:], rest, strict=True))
    assert list(load_batches(sampler(shards), offsets_at, 4, 6, 6, workers=2)) == []


def test_loading_may_be_left_early(shards: Path) -> None:
    for workers in (0, 1):
        with load_batches(sampler(shards), offsets_at, 4, 0, 1000, workers=workers) as batches:
            next(batches)
        with pytest.raises(StopIteration):
            next(batches)


def test_an_unreadable_take_is_passed_over_and_named_once(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in shards.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    healthy = list(load_batches(sampler(tmp_path), offsets_at, 4, 0, 4))
    (shard,) = tmp_path.glob("*.array_record")
    data = bytearray(shard.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 8] = bytes(byte ^ 255 for byte in data[middle : middle + 8])
    shard.write_bytes(data)
    results = []
    for workers in (0, 1):
        capsys.readouterr()
        results.append(list(load_batches(sampler(tmp_path), offsets_at, 4, 0, 4, workers=workers)))
        warnings = [line for line in capsys.readouterr().out.splitlines() if "unreadable footage" in line]
        assert len(warnings) == 1
        assert "shard-00000.array_record, record " in warnings[0]
    assert all(same(one, two) for one, two in zip(*results, strict=True))
    names = [[name for batch in batches for name in batch.names] for batches in (healthy, results[0])]
    assert any(before != after for before, after in zip(*names, strict=True))
    assert any(before == after for before, after in zip(*names, strict=True))
    # Where nothing can be read at all, training stops and says so.
    shard.write_bytes(bytes(len(data)))
    with pytest.raises(ValueError, match="16 takes in a row cannot be read"):
        next(load_batches(sampler(tmp_path), offsets_at, 4, 0, 4))


def test_what_cannot_be_shared_is_refused(shards: Path) -> None:
    clips = sampler(shards)
    with pytest.raises(ValueError, match="a batch of 4 cannot be shared by 3 processes"):
        load_batches(clips, offsets_at, 4, 0, 1, world=3)
    with pytest.raises(ValueError, match="rank 2 of 2"):
        load_batches(clips, offsets_at, 4, 0, 1, rank=2, world=2)
    with pytest.raises(ValueError, match="-1 loading processes"):
        load_batches(clips, offsets_at, 4, 0, 1, workers=-1)


PARENT = """
import sys
from pathlib import Path
from training.config import FootageConfig
from training.data.footage import ClipSampler, open_footage, split
from training.data.loading import load_batches
if __name__ == "__main__":
    footage = FootageConfig(fps=25, short_side=48, crop_min=40, crop_max=48, horizon_frames=8)
    library = open_footage(Path(sys.argv[1]), footage)
    clips = ClipSampler(split(library, footage, "train"), footage, 32, 32, 1)
    batches = load_batches(clips, lambda step: [0, 1], 1, 0, 10**6, workers=1)
    next(batches)
    print("loading", flush=True)
    sys.stdin.read()
"""


def test_workers_end_with_whoever_started_them(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(tmp_path / "parent.py"), str(shards)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, start_new_session=True) as parent:
        assert parent.stdout is not None
        try:
            assert parent.stdout.readline() == b"loading\n"
            parent.kill()
            parent.communicate(timeout=120)  # the pipe is closed once all who had it from the parent have ended
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)
