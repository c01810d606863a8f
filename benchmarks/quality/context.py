"""What the parts of an evaluation share: the generator, the real clips, the judges, what is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.quality.drift import quantities, snippets
from benchmarks.quality.footage import ClipWindow, RealClips, RealFootage
from benchmarks.quality.measures import Lpips, Measured, compare
from benchmarks.quality.memory import small_pictures
from benchmarks.quality.networks import FeatureCache
from benchmarks.quality.sets import ShowClips
from benchmarks.quality.store import Arrays, ResultStore
from benchmarks.quality.text import LabelledPrompt


@dataclass(frozen=True)
class QualityPlan:
    """What the user asked for; see the command's help."""

    seed: int = 0
    horizon: int = 100_000
    shows: int = 2
    windows: int = 8
    probe_every: int = 50
    prompts: Sequence[LabelledPrompt] = ()


Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass
class QualityContext:
    """Everything that the parts share.

    Args:
        name: of what is judged.
        key: what its figures are kept under: name, hash, engine and precision.
        open_show: opens its generator.
        norm: gives the function that reads a generator's states, if they can be read.
        fps: of the generator.
        renewal_frames: frames from one renewal to the next; 0 without.
        listens: whether it takes text.
        footage: real clips.
        cache: asks I3D.
        lpips: None where it is not to be measured.
        store: what is finished.
        plan: what is asked for.
        progress: `with progress(name, total) as advance` shows a bar.
    """

    name: str
    key: Mapping[str, Any]
    open_show: Callable[[], AbstractContextManager[ShowClips]]
    norm: Callable[[Any], Callable[[], float] | None]
    fps: float
    renewal_frames: int
    listens: bool
    footage: RealFootage
    cache: FeatureCache
    lpips: Lpips | None
    lpips_sha256: str | None
    store: ResultStore
    plan: QualityPlan
    progress: Progress
    sets: dict[str, Measured] = field(default_factory=dict)
    figures: dict[str, list[tuple[str, bytes]]] = field(default_factory=dict)

    @cached_property
    def real(self) -> RealClips:
        """The held-out clips."""
        return self._read("held-out footage", self.footage.heldout)

    @cached_property
    def others(self) -> RealClips:
        """Other moments of the same videos."""
        return self._read("held-out footage, other moments", self.footage.others)

    @cached_property
    def training(self) -> RealClips:
        """Clips that the generator was trained on."""
        return self._read("training footage", self.footage.training)

    def _read(self, name: str, windows: list[ClipWindow]) -> RealClips:
        with self.progress(name, len(windows)) as advance:
            return self.footage.read(windows, lambda: advance(1))

    def data_key(self, windows: Sequence[ClipWindow]) -> dict[str, Any]:
        """Return what figures of real clips depend on."""
        return {
            "windows": [list(window) for window in windows],
            "settings": dict(self.footage.settings),
            "extractor": self.cache.extractor.sha256,
        }

    def measured(
        self, name: str, make: Callable[[], Measured], *, made: bool, groups: list[str] | None, **more: Any
    ) -> Measured:
        """Return a set, measured now or before."""
        key = {
            "set": name,
            "real": self.data_key(self.footage.heldout),
            "lpips": self.lpips_sha256,
            "seed": self.plan.seed,
            **({"target": dict(self.key)} if made else {}),
            **more,
        }
        arrays = self.store.get(name, key, lambda: make().to_arrays())
        self.sets[name] = Measured.from_arrays(name, groups, arrays)
        return self.sets[name]

    def compared(self, name: str) -> dict[str, Any]:
        """Return a set's figures against the real one."""
        return compare(self.sets[name], self.sets["real"], self.real.scenes, self.plan.seed, self.cache.extractor.name)


class TrainingClips(NamedTuple):
    """What is known of the training clips.

    Args:
        features: (m, 1024) float32, of I3D.
        probes: (N, quantities) float64, figures of short probes cut from them.
        pictures: (P, D) float32, small pictures of their frames.
    """

    features: npt.NDArray[np.float32]
    probes: npt.NDArray[np.float64]
    pictures: npt.NDArray[np.float32]


def training_footage(context: QualityContext, part: str) -> TrainingClips:
    """Return what is known of the training clips, measured now or before.

    Args:
        context: of the evaluation.
        part: what needs them, for the message.

    Raises:
        ValueError: there are none.
    """
    if not context.footage.training:
        raise ValueError(f"{part} needs training clips: raise --train-clips, or leave {part} out of --parts")

    def make() -> Arrays:
        clips = context.training.clips
        with context.progress("training clips", len(clips)) as advance:
            found = context.cache.features(clips, lambda: advance(1))
        probes = [quantities(probe) for probe in snippets(clips)]
        pictures = np.concatenate([small_pictures(clip) for clip in clips])
        return {"features": found.features, "probes": np.array(probes), "pictures": pictures}

    arrays = context.store.get("training", {"training": context.data_key(context.footage.training)}, make)
    return TrainingClips(arrays["features"], arrays["probes"], arrays["pictures"])
