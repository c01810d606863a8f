"""Everything that is measured of one set of clips, and its comparison with the real set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.clips import Clip
from benchmarks.quality.distances import (
    Values,
    bootstrap_frechet,
    bootstrap_mean,
    bootstrap_mmd2,
    covariance_rank,
    finite,
)
from benchmarks.quality.memory import distances, precision_recall, small_pictures
from benchmarks.quality.motion import flicker, flow_magnitude
from benchmarks.quality.networks import MIN_FRAMES, FeatureCache, Floats
from benchmarks.quality.store import Arrays, pack, unpack

LPIPS_FRAMES = 4  # of a clip, evenly spaced up to its last one
STILL = 0.05  # pixels per frame: below it a real clip counts as still

Lpips = Callable[[Clip, Clip], Floats]


@dataclass(frozen=True)
class Measured:
    """Figures of every clip of one set.

    Args:
        name: of the set.
        groups: what each clip was made from, for intervals; None if row i belongs to row i of the real set.
        lengths: (n,) frames.
        logits: (n, 400) and features: (n, 1024) float32, of I3D.
        flow: (n,) pixels per frame; flicker: (n,) levels of 255; see `motion`.
        pictures: (P, D) float32, small pictures of all clips; picture_clip: (P,) the number of the clip.
        lpips: (n,) mean distance to the real frames at the same times; None if it was not measured.
        previews: animated WebP files of some of the clips.
    """

    name: str
    groups: list[str] | None
    lengths: Values
    logits: Floats
    features: Floats
    flow: Values
    flicker: Values
    pictures: Floats
    picture_clip: npt.NDArray[np.int64]
    lpips: Values | None
    previews: list[bytes]

    def to_arrays(self) -> Arrays:
        """Return arrays for a `ResultStore`."""
        arrays: Arrays = {key: getattr(self, key) for key in _ARRAYS}
        if self.lpips is not None:
            arrays["lpips"] = self.lpips
        return arrays | pack(self.previews)

    @classmethod
    def from_arrays(cls, name: str, groups: list[str] | None, arrays: Arrays) -> Measured:
        """Read the result of `to_arrays`."""
        numbers = {key: arrays[key] for key in _ARRAYS}
        return cls(name, groups, **numbers, lpips=arrays.get("lpips"), previews=unpack(arrays))

    def nearest_pictures(self, others: npt.ArrayLike) -> Values:
        """Return for each clip the smallest distance of any of its small pictures to any of the others: (n,)."""
        nearest = distances(self.pictures, others).min(1)
        return np.array([nearest[self.picture_clip == number].min() for number in range(len(self.lengths))])


_ARRAYS = ("lengths", "logits", "features", "flow", "flicker", "pictures", "picture_clip")


def measure(
    name: str,
    clips: Sequence[Clip],
    cache: FeatureCache,
    *,
    groups: list[str] | None,
    given: int = 0,
    real: Sequence[Clip] | None = None,
    lpips: Lpips | None = None,
    previews: Sequence[bytes] = (),
    advance: Callable[[], None] = lambda: None,
) -> Measured:
    """Measure a set of clips.

    Args:
        name: of the set.
        clips: (T, H, W, 3) uint8 RGB.
        cache: computes features.
        groups: see `Measured`.
        given: number of frames at the start that were not made but given; motion and flicker leave them out.
        real: the real clips that the rows belong to, for LPIPS.
        lpips: None if it is not measured.
        previews: see `Measured`.
        advance: called after each clip.
    """
    found = cache.features(clips, advance)
    made = [clip[given:] for clip in clips]
    pictures = [small_pictures(clip) for clip in clips]
    to_real = None
    if real is not None and lpips is not None:
        to_real = np.array([_picture_distance(a, b, lpips) for a, b in zip(clips, real, strict=True)], np.float64)
    return Measured(
        name,
        groups,
        lengths=np.array([len(clip) for clip in clips], np.float64),
        logits=found.logits,
        features=found.features,
        flow=np.array([flow_magnitude(clip) for clip in made], np.float64),
        flicker=np.array([flicker(clip) for clip in made], np.float64),
        pictures=np.concatenate(pictures),
        picture_clip=np.repeat(np.arange(len(clips)), [len(rows) for rows in pictures]),
        lpips=to_real,
        previews=list(previews),
    )


def _picture_distance(made: Clip, real: Clip, lpips: Lpips) -> float:
    """Return the mean LPIPS distance of `LPIPS_FRAMES` frames to the real ones at the same times."""
    count = min(len(made), len(real))
    numbers = np.linspace(0, count - 1, LPIPS_FRAMES + 1).round().astype(int)[1:]  # frame 0 is given
    return float(lpips(made[numbers], real[numbers]).mean())


def compare(found: Measured, real: Measured, groups: Sequence[str], seed: int, extractor: str) -> dict[str, Any]:
    """Compare a set with the real set.

    Args:
        found: the set.
        real: the real set.
        groups: the scene of each real clip.
        seed: of the intervals.
        extractor: name of the network behind the features.

    Returns:
        Plain data: `frechet` (of logits, with its proper name) and `mmd2` (of features) with intervals; `motion` and
        `flicker` against real; `lpips`; `precision` and `recall` in features.
    """
    shared: dict[str, Any] = {"groups": groups, "other_groups": found.groups, "seed": seed}
    count = len(found.logits)
    result: dict[str, Any] = {"clips": count, "frames": [int(found.lengths.min()), int(found.lengths.max())]}
    if count >= 2:
        result["frechet"] = {
            "name": distance_name(extractor, int(min(found.lengths.min(), real.lengths.min()))),
            **bootstrap_frechet(real.logits, found.logits, **shared).to_json(),
            "covariance": covariance_rank(min(count, len(real.logits)), found.logits.shape[1]),
        }
        result["mmd2"] = bootstrap_mmd2(real.features, found.features, **shared).to_json()
    if min(count, len(real.features)) > 3:
        result["precision"], result["recall"] = precision_recall(real.features, found.features)
    scenes = groups if found.groups is None else None
    result["motion"] = against_real(found.flow, real.flow, scenes, STILL)
    result["flicker"] = against_real(found.flicker, real.flicker, scenes, 1e-6)
    if found.lpips is not None:
        result["lpips"] = bootstrap_mean(found.lpips, groups, seed=seed).to_json()
    return result


def distance_name(extractor: str, shortest: int) -> str:
    """Return the name of the Frechet distance of logits: FVD only under the I3D protocol.

    Logits of I3D (Kinetics-400) at 224 x 224, resized bilinearly, of clips of 16 frames or more (Unterthiner et al.
    1812.01717).
    """
    is_i3d = extractor == "I3D Kinetics-400"
    if is_i3d and shortest >= MIN_FRAMES:
        return "FVD"
    return "I3D Frechet distance" if is_i3d else f"Frechet distance of {extractor} logits"


def against_real(
    made: npt.ArrayLike, real: npt.ArrayLike, groups: Sequence[str] | None, least: float
) -> dict[str, Any]:
    """Compare a figure of every clip with those of the real clips.

    Args:
        made: (n,).
        real: (m,).
        groups: the scene of each real clip if row i of both belongs together, else None.
        least: pairs whose real figure is below it are left out of the ratio, and counted.

    Returns:
        Medians of both and the ratio of their means; for pairs the median of made / real with an interval, and of all
        pairs, still ones too.
    """
    one, two = np.asarray(made, np.float64), np.asarray(real, np.float64)
    result: dict[str, Any] = {
        "median": float(np.median(one)),
        "real_median": float(np.median(two)),
        "ratio_of_means": float(one.mean() / two.mean()) if two.mean() > 0 else None,
    }
    if groups is None:
        return result
    moving, known = two >= least, two > 1e-6
    result["left_out"] = int((~moving).sum())
    if moving.any():
        ratios = one[moving] / two[moving]
        result["ratio"] = bootstrap_mean(ratios, np.asarray(groups)[moving].tolist(), np.median).to_json()
    result["median_ratio_of_all"] = finite(float(np.median(one[known] / two[known]))) if known.any() else None
    return result
