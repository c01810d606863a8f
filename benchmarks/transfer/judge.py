"""The runs of a transfer benchmark and their judge: what each snapshot makes of held-out first frames, and how close.

Continuing is done by training's own PyTorch code, in FP32: nothing is exported.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.distances import mmd2, paired_test
from benchmarks.quality.footage import RealClips, choose_windows, read_clips
from benchmarks.quality.networks import Extractor, FeatureCache, file_sha256
from benchmarks.quality.sets import repeated
from benchmarks.quality.store import ResultStore

if TYPE_CHECKING:
    from training.config import Config

BATCH = 8  # clips made at once

Curves = dict[str, dict[int, float]]  # figure -> iteration -> value


# Runs.


def read_held_out(run: Path) -> Curves:
    """Return the curves of a run's heldout.jsonl; empty where there is none.

    Raises:
        ValueError: the run is no folder, or a line cannot be read.
    """
    if not run.is_dir():
        raise ValueError(f"there is no run {run}: name a folder that `python -m training finetune` has written")
    path = run / "heldout.jsonl"
    curves: Curves = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines() if path.exists() else (), 1):
        try:
            entry = json.loads(line)
            if entry["stage"] == "finetune":
                for key, value in entry["figures"].items():
                    curves.setdefault(key, {})[int(entry["iteration"])] = float(value)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number} cannot be read ({type(error).__name__}: {error})") from None
    return curves


def find_snapshots(run: Path) -> list[Path]:
    """Return the folders of a run's snapshots, oldest first; ValueError if it has none."""
    found = sorted(path.parent for path in run.glob("kept/finetune-*/finetune.pt"))
    if not found:
        raise ValueError(f"{run} has no kept/finetune-*/finetune.pt: train it with --set run.keep_every=N")
    return found


def shared_config(snapshots: Mapping[Path, Sequence[Path]]) -> Config:
    """Return the configuration that all runs share in what is judged here.

    Raises:
        ValueError: two runs differ in [footage] or in the size of a frame.
    """
    from training.checkpoint import load_generator

    first: tuple[Path, Config] | None = None
    for run, folders in snapshots.items():
        _, config, _ = load_generator(folders[-1])
        if first is None:
            first = run, config
            continue
        other, known = first
        same = [
            ("[footage]", known.footage, config.footage),
            ("the frame's size", (known.model.height, known.model.width), (config.model.height, config.model.width)),
        ]
        for what, one, two in same:
            if one != two:
                raise ValueError(f"{other} and {run} differ in {what}: only runs on the same clips can be compared")
    assert first is not None
    return first[1]


def held_out_clips(
    data: Path, config: Config, snapshots: Mapping[Path, Sequence[Path]], count: int, frames: int, seed: int
) -> RealClips:
    """Return real clips that no run was trained on.

    Args:
        data: the runs' footage.
        config: that all runs share.
        snapshots: run -> folders.
        count: of clips.
        frames: of each.
        seed: of their places.

    Raises:
        ValueError: there are fewer than four, or a run was trained on one of their videos.
    """
    from training.checkpoint import load_generator
    from training.data.footage import open_footage

    library = open_footage(data, config.footage)
    height, width = config.model.height, config.model.width
    windows, _, _ = choose_windows(
        library, config.footage, "heldout", count=count, frames=frames, height=height, width=width,
        seed=seed,
    )  # fmt: skip
    windows = [window for window in windows if window.frames == frames]
    if len(windows) < 4:
        raise ValueError(f"{data} has {len(windows)} held-out clips of {frames} frames, expected 4 or more")
    if config.footage.holdout == "scene":
        for run, folders in snapshots.items():
            _, _, facts = load_generator(folders[-1])
            if known := {window.video for window in windows} & {row[0] for row in facts["footage"]}:
                raise ValueError(
                    f"{run} was trained on {min(known)}, which is held out in {data}: name its own footage"
                )
    return read_clips(library, windows, height, width)


# The judge.


def judge(
    snapshots: Mapping[Path, Sequence[Path]],
    clips: RealClips,
    cache: FeatureCache,
    store: ResultStore,
    seed: int,
    threads: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict[Path, Curves], dict[str, float]]:
    """Let a network judge every snapshot of every run.

    Args:
        snapshots: run -> folders.
        clips: real ones, all of one length.
        cache: asks the network.
        store: what it has said of a snapshot.
        seed: of the frames' noise, the same for every snapshot.
        threads: of the CPU; None for every core.
        advance: called after each snapshot.

    Returns:
        Per run the curves `mmd2` and `closer`; and `mmd2` of the repeated first frames.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    real = cache.features(clips.clips).features
    still = cache.features(repeated(clips.clips)).features
    curves: dict[Path, Curves] = {}
    for run, folders in snapshots.items():
        curves[run] = {"mmd2": {}, "closer": {}}
        for folder in folders:
            key = {
                "checkpoint": file_sha256(folder / "finetune.pt"),
                "windows": [list(window) for window in clips.windows],
                "extractor": cache.extractor.sha256,
                "seed": seed,
            }
            arrays = store.get(
                f"{run.resolve().name}-{folder.name}",
                key,
                lambda: _made_features(folder, clips, cache.extractor, seed),  # noqa: B023 - called at once
            )
            iteration = int(arrays["iteration"])
            curves[run]["mmd2"][iteration] = mmd2(real, arrays["features"], paired=True)
            curves[run]["closer"][iteration] = paired_test(arrays["features"], still, real).share.value
            advance()
    return curves, {"mmd2": mmd2(real, still, paired=True)}


def _made_features(folder: Path, clips: RealClips, extractor: Extractor, seed: int) -> dict[str, npt.NDArray[Any]]:
    made, iteration = continue_clips(folder, clips, seed)
    features = np.stack([extractor.extract(clip)[1] for clip in made])
    if not np.isfinite(features).all():
        raise ValueError(f"{extractor.name} found no finite features in what {folder} makes")
    return {"features": features, "iteration": np.array(iteration)}


def continue_clips(folder: Path, clips: RealClips, seed: int) -> tuple[list[npt.NDArray[np.uint8]], int]:
    """Continue real clips from their first frame alone, with a snapshot's generator, in FP32.

    Args:
        folder: of the snapshot.
        clips: real ones, all of T frames of the generator's size.
        seed: of the frames' noise.

    Returns:
        Clips (T, H, W, 3) uint8 RGB, the given picture first; and the snapshot's iteration.
    """
    import torch

    from training.checkpoint import load_generator
    from training.model.painter import num_code_noise
    from training.sampling import rollout, to_pixels

    generator, config, facts = load_generator(folder)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    generator.to(device)
    made = []
    for start in range(0, len(clips.clips), BATCH):
        some = clips.clips[start : start + BATCH]
        first = torch.from_numpy(np.stack([clip[0] for clip in some])).permute(0, 3, 1, 2).float().to(device) / 255
        size = num_code_noise(config.model.height, config.model.width)
        noise = torch.randn(len(some), size, generator=torch.Generator().manual_seed(seed + start)).to(device)
        wanted = range(1, len(some[0]))
        frames = rollout(generator, first, torch.ones_like(first[:, :1]), noise, wanted, seed + start)
        for row, clip in enumerate(some):
            pictures = [to_pixels(frames[number][row]) for number in wanted]
            made.append(np.concatenate([clip[:1], np.stack(pictures)]))
    return made, int(facts["iteration"])
