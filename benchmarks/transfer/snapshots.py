"""The snapshots of fine-tuning runs, and how close to real clips their continuations of held-out first frames are.

Clips are continued by training's own PyTorch code, in FP32: nothing is exported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.quality.clips import Clip, repeated
from benchmarks.quality.distances import mmd2, paired_test
from benchmarks.quality.footage import RealClips, choose_windows, read_clips
from benchmarks.quality.networks import I3D, FeatureCache, file_sha256
from benchmarks.quality.store import Arrays, ResultStore

if TYPE_CHECKING:
    from training.config import Config

BATCH = 8  # clips made at once

Curves = dict[str, dict[int, float]]  # figure -> iteration -> value


def find_snapshots(run: Path) -> list[Path]:
    """Return the folders of a run's snapshots, oldest first; ValueError if it has none."""
    found = sorted(path.parent for path in run.glob("kept/finetune-*/finetune.pt"))
    if not found:
        raise ValueError(f"{run} has no kept/finetune-*/finetune.pt: train it with --set run.keep_every=N")
    return found


def shared_config(snapshots: Mapping[Path, Sequence[Path]]) -> Config:
    """Return the runs' configuration; ValueError if two differ in [footage] or in the size of a frame."""
    from training.checkpoint import load_generator

    configs = {run: load_generator(folders[-1])[1] for run, folders in snapshots.items()}
    (first, known), *others = configs.items()
    for run, config in others:
        same_size = (known.model.height, known.model.width) == (config.model.height, config.model.width)
        if known.footage != config.footage or not same_size:
            what = "the frame's size" if known.footage == config.footage else "[footage]"
            raise ValueError(f"{first} and {run} differ in {what}: only runs on the same clips can be compared")
    return known


def held_out_clips(
    data: Path, config: Config, snapshots: Mapping[Path, Sequence[Path]], count: int, frames: int, seed: int
) -> RealClips:
    """Return real clips of the same length that no run was trained on.

    Raises:
        ValueError: there are fewer than four, or a run was trained on one of their videos.
    """
    from training.checkpoint import load_generator
    from training.data.footage import open_footage

    library = open_footage(data, config.footage)
    size = {"height": config.model.height, "width": config.model.width}
    windows, _, _ = choose_windows(library, config.footage, "heldout", count=count, frames=frames, seed=seed, **size)
    windows = [window for window in windows if window.frames == frames]
    if len(windows) < 4:
        raise ValueError(f"{data} has {len(windows)} held-out clips of {frames} frames, expected 4 or more")
    if config.footage.holdout == "scene":
        for run, folders in snapshots.items():
            trained = {row[0] for row in load_generator(folders[-1])[2]["footage"]}
            if known := {window.video for window in windows} & trained:
                raise ValueError(f"{run} was trained on {min(known)}, which is held out in {data}: name its footage")
    return read_clips(library, windows, height=config.model.height, width=config.model.width)


def judge(
    snapshots: Mapping[Path, Sequence[Path]],
    clips: RealClips,
    cache: FeatureCache,
    store: ResultStore,
    seed: int,
    threads: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> dict[Path, Curves]:
    """Return the curves `mmd2` (x 1000), `closer` and `still mmd2` of every run.

    Args:
        snapshots: run -> folders.
        clips: real ones, all of one length.
        cache: computes features.
        store: keeps the features of a snapshot's clips.
        seed: of the frames' noise, the same for every snapshot.
        threads: of the CPU; None for every core.
        advance: called after each snapshot.
    """
    import torch

    if threads:
        torch.set_num_threads(threads)
    real = cache.features(clips.clips).features
    still = cache.features(repeated(clips.clips)).features
    windows = [list(window) for window in clips.windows]
    shared = {"windows": windows, "extractor": cache.extractor.sha256, "seed": seed}
    curves: dict[Path, Curves] = {}
    for run, folders in snapshots.items():
        curves[run] = {"mmd2": {}, "closer": {}, "still mmd2": {}}
        for folder in folders:
            key = {"checkpoint": file_sha256(folder / "finetune.pt"), **shared}
            name = f"{run.resolve().name}-{folder.name}"
            made = store.get(name, key, lambda: _made_features(folder, clips, cache.extractor, seed))  # noqa: B023
            iteration = int(made["iteration"])
            curves[run]["mmd2"][iteration] = 1000 * mmd2(real, made["features"], paired=True)
            curves[run]["closer"][iteration] = paired_test(made["features"], still, real).share.value
            curves[run]["still mmd2"][iteration] = 1000 * mmd2(real, still, paired=True)
            advance()
    return curves


def _made_features(folder: Path, clips: RealClips, extractor: I3D, seed: int) -> Arrays:
    made, iteration = continue_clips(folder, clips, seed)
    features = np.stack([extractor.extract(clip)[1] for clip in made])
    if not np.isfinite(features).all():
        raise ValueError(f"{extractor.name} found no finite features in the clips of {folder}")
    return {"features": features, "iteration": np.array(iteration)}


def continue_clips(folder: Path, clips: RealClips, seed: int) -> tuple[list[Clip], int]:
    """Continue real clips from their first frame alone, with a snapshot's generator, in FP32.

    Args:
        folder: of the snapshot.
        clips: real ones, all of T frames of the generator's size.
        seed: of the frames' noise.

    Returns:
        Clips (T, H, W, 3) uint8 RGB, beginning with the real first frame; and the snapshot's iteration.
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
            made.append(np.stack([clip[0], *(to_pixels(frames[number][row]) for number in wanted)]))
    return made, int(facts["iteration"])
