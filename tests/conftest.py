"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when NumPy and PyTorch are imported
    os.environ.setdefault(_name, "1")  # threads that wait for small products take more time than they save

import numpy as np  # noqa: E402
import pytest  # noqa: E402

from tests.processes import GRACE_S, adopt_orphans, descendants, end_others  # noqa: E402

SIDE = 80  # pixels of a test clip
LENGTH = 40  # frames


def moving_square(step_x: int, step_y: int, colour: tuple[int, int, int] = (230, 120, 40)) -> np.ndarray:
    """Return frames (LENGTH, SIDE, SIDE, 3) uint8 of a textured square that moves by whole pixels and wraps around."""
    rng = np.random.default_rng(100 + step_x * 7 + step_y)
    scene = np.full((SIDE, SIDE, 3), 60, np.uint8)
    scene[20:56, 20:56] = np.clip(np.array(colour) + rng.integers(-25, 25, (36, 36, 1)), 0, 255)
    return np.stack([np.roll(scene, (index * step_y, index * step_x), axis=(0, 1)) for index in range(LENGTH)])


@pytest.fixture(scope="session", autouse=True)
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches in a folder of this run; no process of it outlives it."""
    adopt_orphans()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("user_cache")))
        yield
    if left := end_others({}, GRACE_S):
        pytest.fail(f"processes were left behind at the end: {left}")


@pytest.fixture(autouse=True)
def quiet_video_library() -> None:
    """FFmpeg logs nowhere, as in a show: a thread that logs into Python may wait for who frees its decoder."""
    if (av := sys.modules.get("av")) is not None:
        av.logging.set_level(None)


_HAS_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note which tests have failed, for the fixture below."""
    report = yield
    item.stash[_HAS_FAILED] = item.stash.get(_HAS_FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def no_process_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Kill every process that runs after a test and did not before, and fail the test if it passed otherwise."""
    before = descendants()
    yield
    has_failed = request.node.stash.get(_HAS_FAILED, False)
    left = end_others(before, 0.0 if has_failed else GRACE_S)
    if left and not has_failed:
        pytest.fail(f"the test left processes behind: {left}")


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four short clips in four scenes, and captions.csv."""
    from training.sampling import write_mp4

    folder = tmp_path_factory.mktemp("footage")
    rows = ["file,caption,scene,licence,source"]
    for name, move in {"right": (2, 0), "left": (-2, 0), "down": (0, 2), "up": (0, -2)}.items():
        write_mp4(folder / f"{name}.mp4", list(moving_square(*move)), 25)
        rows.append(f"{name}.mp4,a square that moves {name},{name},CC0-1.0,made by the tests")
    (folder / "captions.csv").write_text("\n".join(rows) + "\n")
    return folder


TINY = """
name = "tiny"
[model]
height = 64
width = 64
num_modes = 4
period_frames = 16
components = 8
encoder_scale = 0.25
[footage]
fps = 25.0
short_side = 72
crop_min = 64
crop_max = 72
horizon_frames = 8
[pretrain]
iterations = 4
batch = 2
[finetune]
iterations = 4
batch = 4
given = 0.5
parts = 0.25
mixed = 0.0
replay = 4
replay_share = 0.5
gap_every = 2
burn_in_frames = 4
[run]
threads = 1
log_every = 2
evaluate_clips = 4
sample_every = 4
checkpoint_every = 2
"""


@pytest.fixture(scope="session")
def tiny_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration that trains in seconds."""
    path = tmp_path_factory.mktemp("config") / "tiny.toml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="session")
def footage_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which footage is decoded once for all runs."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def tiny_run(footage: Path, tiny_config: Path, footage_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder after both stages of a very short training."""
    from training import sampling
    from training.__main__ import parser, run

    rollout = sampling.rollout

    def few_frames(*arguments: Any) -> dict[int, Any]:
        """Make three frames and show the last one for ever."""
        *others, wanted = arguments
        frames = rollout(*others, [0, 1, 2])
        return {number: frames[min(number, 2)] for number in wanted}

    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "rollout", few_frames)
        for command in ("pretrain", "finetune"):
            places = ["--data", str(footage), "--out", str(out), "--cache", str(footage_cache)]
            run(parser().parse_args([command, str(tiny_config), *places]))
    return out


@pytest.fixture(scope="session")
def text_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose generator takes an image, a clip, a text and a seed."""
    from tests.text_run import write_run

    return write_run(tmp_path_factory.mktemp("text_run") / "run", tiny_run)


@pytest.fixture(scope="session")
def text_bundle(text_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle to which `text_run` is exported."""
    from tests.text_run import export

    return export(text_run, tmp_path_factory.mktemp("text_run") / "tiny")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how much of every engine that the tests have built runs in FP16."""
    from tests.export.rtx import SHARES

    if SHARES:
        terminalreporter.section("engines of TensorRT-RTX")
        for bundle, sentence in SHARES.items():
            terminalreporter.write_line(f"{bundle}: {sentence}")
