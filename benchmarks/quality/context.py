"""What the parts of an evaluation share: the generator, the real clips, the networks, finished measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from benchmarks.quality.clips import Clip
from benchmarks.quality.distances import Values
from benchmarks.quality.drift import snippets
from benchmarks.quality.footage import ClipWindow, RealClips, RealFootage
from benchmarks.quality.measures import Lpips, Measured, compare, measure
from benchmarks.quality.memory import small_pictures
from benchmarks.quality.motion import quantities
from benchmarks.quality.networks import FeatureCache, Floats
from benchmarks.quality.store import Arrays, ResultStore
from benchmarks.quality.text import LabelledPrompt
from benchmarks.report import Bar
from runtime.generator import Generator


@dataclass(frozen=True)
class QualityPlan:
    """The user's choices; see the command's help."""

    seed: int = 0
    horizon: int = 100_000
    shows: int = 2
    windows: int = 8
    probe_every: int = 50
    prompts: Sequence[LabelledPrompt] = ()


@dataclass
class QualityContext:
    """Everything that the parts share.

    Args:
        name: of the generator.
        key: what its figures are kept under: kind, hash, engine and precision.
        open_show: opens its generator.
        norm: returns the function that reads a generator's states, or None.
        fps: of the generator.
        renewal_frames: frames from one renewal to the next; 0 without.
        takes_text: whether it takes text prompts.
        footage: real clips.
        cache: computes features.
        lpips: None if it is not measured.
        store: finished measurements.
        plan: the user's choices.
        progress: `with progress(name, total) as advance` shows a bar.

    Attributes:
        sets: name -> what was measured.
        figures: heading -> (caption, animated WebP) of the page.
    """

    name: str
    key: Mapping[str, Any]
    open_show: Callable[[], AbstractContextManager[Generator]]
    norm: Callable[[Any], Callable[[], float] | None]
    fps: float
    renewal_frames: int
    takes_text: bool
    footage: RealFootage
    cache: FeatureCache
    lpips: Lpips | None
    lpips_sha256: str | None
    store: ResultStore
    plan: QualityPlan
    progress: Bar
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

    def measure_set(
        self,
        name: str,
        clips: Callable[[], list[Clip]],
        *,
        groups: list[str] | None = None,
        is_made: bool = False,
        given: int = 0,
        has_lpips: bool = False,
        previews: Callable[[list[Clip]], list[bytes]] = lambda _: [],
        **more: Any,
    ) -> Measured:
        """Measure a set of clips, unless that is finished, and keep it in `sets`.

        Args:
            name: of the set.
            clips: returns them; called only if needed.
            groups: see `Measured`.
            is_made: whether they depend on the generator.
            given: see `measure`.
            has_lpips: whether row i shows what row i of the real set shows.
            previews: returns WebP files of some of the clips.
            more: plain data that the clips depend on besides.
        """

        def make() -> Arrays:
            found = clips()
            real = self.real.clips if has_lpips else None
            with self.progress(f"{name}: I3D", len(found)) as advance:
                measured = measure(
                    name, found, self.cache, groups=groups, given=given, real=real, lpips=self.lpips,
                    previews=previews(found), advance=lambda: advance(1),
                )  # fmt: skip
            return measured.to_arrays()

        key = {
            "set": name,
            "real": self.data_key(self.footage.heldout),
            "lpips": self.lpips_sha256,
            "seed": self.plan.seed,
            **({"target": dict(self.key)} if is_made else {}),
            **more,
        }
        self.sets[name] = Measured.from_arrays(name, groups, self.store.get(name, key, make))
        return self.sets[name]

    def measure_made(
        self, name: str, count: int, make: Callable[[Generator, Callable[[], None]], list[Clip]], **options: Any
    ) -> Measured:
        """Measure clips of the generator: `make(show, advance)` makes `count` clips; options as of `measure_set`."""

        def clips() -> list[Clip]:
            with self.open_show() as show, self.progress(f"{name}: frames", count) as advance:
                return make(show, lambda: advance(1))

        return self.measure_set(name, clips, is_made=True, **options)

    def compared(self, name: str) -> dict[str, Any]:
        """Return a set's figures against the real one."""
        return compare(self.sets[name], self.sets["real"], self.real.scenes, self.plan.seed, self.cache.extractor.name)


class TrainingClips(NamedTuple):
    """I3D features (m, 1024) of the training clips, quantities (N, Q) of short probes, small pictures (P, D)."""

    features: Floats
    probes: Values
    pictures: Floats


def training_footage(context: QualityContext, part: str) -> TrainingClips:
    """Return what is measured of the training clips; ValueError, naming the part that needs them, without them."""
    if not context.footage.training:
        raise ValueError(f"{part} needs training clips: raise --train-clips, or leave {part} out of --parts")

    def make() -> Arrays:
        clips = context.training.clips
        with context.progress("training clips", len(clips)) as advance:
            found = context.cache.features(clips, lambda: advance(1))
        probes = np.array([quantities(probe) for probe in snippets(clips)])
        pictures = np.concatenate([small_pictures(clip) for clip in clips])
        return {"features": found.features, "probes": probes, "pictures": pictures}

    arrays = context.store.get("training", {"training": context.data_key(context.footage.training)}, make)
    return TrainingClips(arrays["features"], arrays["probes"], arrays["pictures"])
