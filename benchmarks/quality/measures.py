"""Everything that is measured of one set of clips, and how it compares with the real one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.quality.distances import Estimate, covariance_rank, finite
from benchmarks.quality.intervals import bootstrap_frechet, bootstrap_mean, bootstrap_mmd2
from benchmarks.quality.memory import precision_recall
from benchmarks.quality.motion import flicker, flow_magnitude, frame_difference, median_ratio
from benchmarks.quality.networks import MIN_FRAMES, FeatureCache
from benchmarks.quality.store import Arrays, pack, unpack

Clip = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float64]
LPIPS_FRAMES = 4  # of a clip, evenly spaced up to its last one
STILL = 0.05  # pixels per frame: below it a real clip counts as still
PREVIEW_STEP = 2  # every second frame is shown

Lpips = Callable[[Clip, Clip], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Measured:
    """Figures of every clip of one set.

    Args:
        name: of the set.
        groups: what each clip comes from, for intervals; None where row i belongs to row i of the real set.
        lengths: (n,) frames.
        logits: (n, 400) and features: (n, 1024) float32, of I3D.
        flow: (n,) pixels per frame; flicker and difference: (n,) levels; see `quality_motion`.
        lpips: (n,) mean distance to the real frames at the same times; None where there are none.
        previews: animated WebP files of some of the clips, in their order.
    """

    name: str
    groups: list[str] | None
    lengths: Values
    logits: npt.NDArray[np.float32]
    features: npt.NDArray[np.float32]
    flow: Values
    flicker: Values
    difference: Values
    lpips: Values | None
    previews: list[bytes]

    def to_arrays(self) -> Arrays:
        """Return arrays for a `Store`."""
        arrays: Arrays = {key: getattr(self, key) for key in _NUMBERS}
        if self.lpips is not None:
            arrays["lpips"] = self.lpips
        return arrays | pack(self.previews)

    @classmethod
    def from_arrays(cls, name: str, groups: list[str] | None, arrays: Arrays) -> Measured:
        """Read what `to_arrays` gave."""
        numbers = {key: arrays[key] for key in _NUMBERS}
        return cls(name, groups, **numbers, lpips=arrays.get("lpips"), previews=unpack(arrays))


_NUMBERS = ("lengths", "logits", "features", "flow", "flicker", "difference")


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
        cache: asks I3D.
        groups: see `Measured`.
        given: so many frames at the start were not made but given; motion and flicker leave them out.
        real: the real clips that the rows belong to, for LPIPS.
        lpips: None where it is not to be measured.
        previews: see `Measured`.
        advance: called after each clip.
    """
    found = cache.features(clips, advance)
    made = [clip[given:] for clip in clips]
    distances = None
    if real is not None and lpips is not None:
        distances = np.array([picture_distance(a, b, lpips) for a, b in zip(clips, real, strict=True)], np.float64)
    return Measured(
        name,
        groups,
        np.array([len(clip) for clip in clips], np.float64),
        found.logits,
        found.features,
        np.array([flow_magnitude(clip) for clip in made], np.float64),
        np.array([flicker(clip) for clip in made], np.float64),
        np.array([frame_difference(clip) for clip in made], np.float64),
        distances,
        list(previews),
    )


def picture_distance(made: Clip, real: Clip, lpips: Lpips) -> float:
    """Return the mean LPIPS distance of `LPIPS_FRAMES` frames to the real ones at the same times."""
    count = min(len(made), len(real))
    numbers = np.linspace(0, count - 1, LPIPS_FRAMES + 1).round().astype(int)[1:]  # frame 0 is given
    return float(lpips(made[numbers], real[numbers]).mean())


def compare(found: Measured, real: Measured, groups: Sequence[str], seed: int, extractor: str) -> dict[str, Any]:
    """Return a set's figures against the real set, as plain data.

    Args:
        found: the set.
        real: the real set.
        groups: the scene of each real clip.
        seed: of the intervals.
        extractor: name of the network behind the features.

    Returns:
        `frechet` (of logits, with its proper name), `frechet_features`, `mmd2` (of features) and `mmd2_logits` with
        intervals; `motion` and `flicker` beside real; `lpips`; `precision` and `recall` in features.
    """
    shared: dict[str, Any] = {"groups": groups, "other_groups": found.groups, "seed": seed}
    count = len(found.logits)
    result: dict[str, Any] = {"clips": count, "frames": [int(found.lengths.min()), int(found.lengths.max())]}
    if count >= 2:
        shortest = int(min(found.lengths.min(), real.lengths.min()))
        result["frechet"] = {
            "name": distance_name(extractor, shortest),
            **bootstrap_frechet(real.logits, found.logits, **shared).to_json(),
            "covariance": covariance_rank(min(count, len(real.logits)), found.logits.shape[1]),
        }
        result["frechet_features"] = {
            "name": f"Frechet distance of {extractor} features",
            **bootstrap_frechet(real.features, found.features, **shared).to_json(),
            "covariance": covariance_rank(min(count, len(real.features)), found.features.shape[1]),
        }
        result["mmd2"] = bootstrap_mmd2(real.features, found.features, **shared).to_json()
        result["mmd2_logits"] = bootstrap_mmd2(real.logits, found.logits, **shared).to_json()
    if min(count, len(real.features)) > 3:
        result["precision"], result["recall"] = precision_recall(real.features, found.features)
    result["motion"] = beside_real(found.flow, real.flow, found.groups is None, groups, STILL)
    result["flicker"] = beside_real(found.flicker, real.flicker, found.groups is None, groups, 1e-6)
    result["frame_difference"] = beside_real(found.difference, real.difference, found.groups is None, groups, 1e-6)
    if found.lpips is not None:
        result["lpips"] = bootstrap_mean(found.lpips, groups=groups, seed=seed).to_json()
    return result


def distance_name(extractor: str, shortest: int) -> str:
    """Return what the Frechet distance of logits may be called: FVD only under the I3D protocol.

    Logits of I3D (Kinetics-400) at 224 x 224, resized bilinearly, of clips of 16 frames or more (Unterthiner et al.
    1812.01717).
    """
    is_i3d = extractor == "I3D Kinetics-400"
    if is_i3d and shortest >= MIN_FRAMES:
        return "FVD"
    return "I3D Frechet distance" if is_i3d else f"Frechet distance of {extractor} logits"


def beside_real(
    made: npt.ArrayLike, real: npt.ArrayLike, paired: bool, groups: Sequence[str], least: float
) -> dict[str, Any]:
    """Put a figure of every clip beside the real ones'.

    Args:
        made: (n,).
        real: (m,).
        paired: whether row i of both belongs together.
        groups: the scene of each real clip.
        least: clips whose real figure is below it are left out of the ratio of pairs, and counted.

    Returns:
        Medians of both; `ratio` of the means, with an interval; and for pairs the median of made / real, its quartiles,
        and how the still ones fare.
    """
    one, two = np.asarray(made, np.float64), np.asarray(real, np.float64)
    result: dict[str, Any] = {
        "median": float(np.median(one)),
        "real_median": float(np.median(two)),
        "ratio_of_means": float(one.mean() / two.mean()) if two.mean() > 0 else None,
    }
    if not paired:
        return result
    moving = two >= least
    ratios = one[moving] / two[moving]
    result["left_out"] = int((~moving).sum())
    if ratios.size:
        names = [group for group, keep in zip(groups, moving.tolist(), strict=True) if keep]
        estimate = bootstrap_mean(ratios, groups=names, statistic=lambda drawn: float(np.median(drawn)))
        result["ratio"] = estimate.to_json()
        result["ratio_quartiles"] = [float(value) for value in np.percentile(ratios, [25, 75])]
    if (~moving).any():
        result["median_where_real_is_still"] = float(np.median(one[~moving]))
    result["median_ratio_of_all"] = finite(median_ratio(one.tolist(), two.tolist()))
    return result


def to_webp(clip: Clip, fps: float, quality: int = 70) -> bytes:
    """Return an animated WebP of every second frame, at the clip's own speed, for ever repeated.

    Args:
        clip: (T, H, W, 3) uint8 RGB.
        fps: frames per second of the clip.
        quality: 0 to 100.
    """
    from PIL import Image

    frames = [Image.fromarray(frame) for frame in clip[::PREVIEW_STEP]]
    buffer = BytesIO()
    frames[0].save(
        buffer, "WEBP", save_all=True, append_images=frames[1:], duration=round(1000 * PREVIEW_STEP / fps), loop=0,
        quality=quality, method=4,
    )  # fmt: skip
    return buffer.getvalue()


def side_by_side(clips: Sequence[Clip], columns: int = 0, gap: int = 2) -> Clip:
    """Lay clips out in rows of `columns` (0: one row), as long as the shortest, with black between."""
    columns = columns or len(clips)
    length = min(len(clip) for clip in clips)
    height, width = clips[0].shape[1:3]
    rows = -(-len(clips) // columns)
    size = (length, rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    sheet = np.zeros(size, np.uint8)
    for number, clip in enumerate(clips):
        row, column = divmod(number, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[:, top : top + height, left : left + width] = clip[:length]
    return sheet


def as_estimate(value: dict[str, Any]) -> Estimate:
    """Return an estimate from its plain data; None becomes nan."""
    numbers = (value.get(key) for key in ("value", "low", "high"))
    return Estimate(*(float("nan") if number is None else float(number) for number in numbers))
