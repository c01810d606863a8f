"""The parts of an evaluation. Adding one = a function and a line in `PARTS`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import quality_endless as endless
from benchmarks import quality_text as text
from benchmarks.quality_distances import bootstrap_mmd2, half_against_half, paired_test
from benchmarks.quality_footage import RealClips, Window
from benchmarks.quality_measures import Lpips, Measured, as_estimate, compare, measure, side_by_side, to_webp
from benchmarks.quality_memory import distances, nearness, small_pictures
from benchmarks.quality_networks import FeatureCache
from benchmarks.quality_sets import (
    Show,
    from_seeds,
    from_text,
    image_to_video,
    repeated,
    reversed_time,
    shuffled,
)
from benchmarks.quality_store import Arrays, Store, pack, unpack

Clip = npt.NDArray[np.uint8]
PREVIEWS = 8  # clips of a set that the page shows


@dataclass(frozen=True)
class Footage:
    """Real clips, read when first asked for.

    Args:
        heldout, others, training: where they are cut from; row i of `others` is another moment of `heldout`'s video.
        too_short: held-out videos that gave no window.
        settings: how the footage was split and cut, as plain data.
        read: reads windows; called with an `advance`.
        captions: of the training footage, for what counts as new.
    """

    heldout: list[Window]
    others: list[Window]
    training: list[Window]
    too_short: list[str]
    settings: Mapping[str, Any]
    read: Callable[[list[Window], Callable[[], None]], RealClips]
    captions: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """What the user asked for; see the command's help."""

    seed: int = 0
    horizon: int = 100_000
    shows: int = 2
    windows: int = 8
    probe_every: int = 50
    prompts: Sequence[text.Prompt] = ()


Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass
class Context:
    """Everything that the parts share.

    Args:
        name: of what is judged.
        key: what its figures are kept under: name, hash, engine and precision.
        open_show: opens its generator.
        norm: gives the function that reads a generator's states.
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
    open_show: Callable[[], AbstractContextManager[Show]]
    norm: Callable[[Show], Callable[[], float]]
    fps: float
    renewal_frames: int
    listens: bool
    footage: Footage
    cache: FeatureCache
    lpips: Lpips | None
    lpips_sha256: str | None
    store: Store
    plan: Plan
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

    def _read(self, name: str, windows: list[Window]) -> RealClips:
        with self.progress(name, len(windows)) as advance:
            return self.footage.read(windows, lambda: advance(1))

    def data_key(self, windows: Sequence[Window]) -> dict[str, Any]:
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


def measure_real(context: Context) -> dict[str, Any]:
    """Measure the real clips and the floors that need no generator; every other part builds on it."""
    real = context.real

    def floor(name: str, make: Callable[[], list[Clip]], given: int = 0, beside: bool = True) -> None:
        def now() -> Measured:
            clips = make()
            with context.progress(name, len(clips)) as advance:
                return measure(
                    name, clips, context.cache, groups=None, given=given, lpips=context.lpips,
                    real=real.clips if beside else None, advance=lambda: advance(1),
                )  # fmt: skip

        context.measured(name, now, made=False, groups=None, others=context.data_key(context.footage.others))

    floor("real", lambda: real.clips, given=1, beside=False)
    floor("other moments", lambda: context.others.clips, beside=False)
    floor("reversed", lambda: reversed_time(real.clips))
    floor("shuffled", lambda: shuffled(real.clips, context.plan.seed))
    floor("first frame repeated", lambda: repeated(real.clips), given=1)
    result = {name: context.compared(name) for name in FLOORS if name in context.sets}
    videos = [window.video for window in real.windows]
    halves = half_against_half(context.sets["real"].features, videos, seed=context.plan.seed)
    result["half against half"] = {"clips": len(videos) // 2, "mmd2": halves.to_json()}
    if context.footage.training:
        nearest = distances(context.sets["real"].features, training_features(context)[0]).argmin(1)
        windows = [context.footage.training[number] for number in nearest.tolist()]
        floor_clips = [
            context.training.clips[number][: len(clip)]
            for number, clip in zip(nearest.tolist(), real.clips, strict=True)
        ]
        floor("nearest training clip", lambda: floor_clips, beside=False)
        result["nearest training clip"] = context.compared("nearest training clip")
        result["nearest training clip"]["different"] = len({(w.take, w.first, w.top, w.left) for w in windows})
    return result


FLOORS = ("other moments", "reversed", "shuffled", "first frame repeated")


def training_features(context: Context) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Return I3D features of the training clips, (m, 1024), and the figures of probes cut from them, (N, 4)."""

    def make() -> Arrays:
        clips = context.training.clips
        with context.progress("training clips", len(clips)) as advance:
            found = context.cache.features(clips, lambda: advance(1))
        probes = [endless.quantities(probe) for probe in endless.snippets(clips)]
        pictures = np.concatenate([small_pictures(clip) for clip in clips])
        return {"features": found.features, "probes": np.array(probes), "pictures": pictures}

    arrays = context.store.get("training", {"training": context.data_key(context.footage.training)}, make)
    context.__dict__.setdefault("training_pictures", arrays["pictures"])
    return arrays["features"], arrays["probes"]


def measure_i2v(context: Context) -> dict[str, Any]:
    """Continue every real clip from its first frame."""
    real = context.real
    name = "image to video"

    def make() -> Measured:
        with context.open_show() as show, context.progress(f"{name}: frames", len(real.clips)) as advance:
            clips = image_to_video(show, real.clips, context.plan.seed, lambda: advance(1))
        chosen = spread(len(clips), PREVIEWS)
        previews = [to_webp(side_by_side([real.clips[i], clips[i]]), context.fps) for i in chosen]
        with context.progress(f"{name}: I3D", len(clips)) as advance:
            return measure(
                name, clips, context.cache, groups=None, given=1, real=real.clips, lpips=context.lpips,
                previews=previews, advance=lambda: advance(1),
            )  # fmt: skip

    found = context.measured(name, make, made=True, groups=None)
    rivals, truth = context.sets["first frame repeated"], context.sets["real"]
    captions = [f"{real.windows[i].video}: real, made" for i in spread(len(real.clips), PREVIEWS)]
    context.figures["Image to video: the real clip, and what was made from its first frame"] = list(
        zip(captions, found.previews, strict=True)
    )
    return {
        **context.compared(name),
        "closer_than_first_frame_repeated": paired_test(found.features, rivals.features, truth.features).to_json(),
        "closer_by_logits": paired_test(found.logits, rivals.logits, truth.logits).to_json(),
        "per_clip": [
            {
                "video": window.video, "first": window.first, "frames": window.frames,
                "flow": round(float(found.flow[i]), 4), "real_flow": round(float(truth.flow[i]), 4),
                "flicker": round(float(found.flicker[i]), 4), "real_flicker": round(float(truth.flicker[i]), 4),
                "distance": round(float(np.linalg.norm(found.features[i] - truth.features[i])), 5),
                "still_distance": round(float(np.linalg.norm(rivals.features[i] - truth.features[i])), 5),
            }
            for i, window in enumerate(real.windows)
        ],
    }  # fmt: skip


def measure_seeds(context: Context) -> dict[str, Any]:
    """Make as many clips from seeds alone as there are real ones."""
    name, seeds = "from seeds", 10_000 + context.plan.seed

    def make() -> Measured:
        with context.open_show() as show, context.progress(f"{name}: frames", len(context.real.clips)) as advance:
            clips = from_seeds(show, context.real.lengths, seeds, lambda: advance(1))
        sheet = side_by_side([clips[i] for i in spread(len(clips), PREVIEWS)], columns=4)
        with context.progress(f"{name}: I3D", len(clips)) as advance:
            found = measure(
                name, clips, context.cache, groups=[], previews=[to_webp(sheet, context.fps)],
                advance=lambda: advance(1),
            )  # fmt: skip
        context.store.get("seed pictures", _seed_pictures_key(context), lambda: _pictures(clips))
        return found

    groups = [str(number) for number in range(len(context.real.clips))]
    found = context.measured(name, make, made=True, groups=groups)
    context.figures["From seeds alone"] = [("made from a seed each", found.previews[0])]
    return context.compared(name)


def _seed_pictures_key(context: Context) -> dict[str, Any]:
    return {"target": dict(context.key), "lengths": context.real.lengths, "seed": context.plan.seed}


def _pictures(clips: Sequence[Clip]) -> Arrays:
    rows = [small_pictures(clip) for clip in clips]
    return {"pictures": np.concatenate(rows), "clip": np.repeat(np.arange(len(rows)), [len(row) for row in rows])}


def measure_memory(context: Context) -> dict[str, Any]:
    """Compare the distance to the training footage with that of held-out footage, in features and in small pictures."""
    if not context.footage.training:
        raise ValueError("there is no training footage to compare with: leave memory out of --parts")
    training, _ = training_features(context)
    measure_seeds(context)
    real, scenes = context.sets["real"], context.real.scenes
    result: dict[str, Any] = {"training_clips": len(training), "small_pictures": "16 x 16, contrast evened out"}
    if "image to video" in context.sets:
        made = context.sets["image to video"]
        result["image to video"] = nearness(
            made.features, training, real.features, made_groups=scenes, heldout_groups=scenes
        ).to_json()
    result["from seeds"] = nearness(
        context.sets["from seeds"].features, training, real.features, heldout_groups=scenes
    ).to_json()

    def again() -> Arrays:
        with context.open_show() as show, context.progress("from seeds: pictures", len(context.real.clips)) as advance:
            return _pictures(from_seeds(show, context.real.lengths, 10_000 + context.plan.seed, lambda: advance(1)))

    kept = context.store.get("seed pictures", _seed_pictures_key(context), again)
    heldout = _pictures(context.real.clips)
    pictures = context.__dict__["training_pictures"]

    def per_clip(arrays: Arrays, others: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return for every clip the distance of the one of its small pictures that is nearest to any other."""
        nearest = distances(arrays["pictures"], others).min(1)
        return np.array([nearest[arrays["clip"] == number].min() for number in np.unique(arrays["clip"])])

    made_near, real_near = per_clip(kept, pictures), per_clip(heldout, pictures)
    result["from seeds, pictures"] = {
        "to_training": float(np.median(made_near)),
        "to_heldout": float(np.median(per_clip(kept, heldout["pictures"]))),
        "heldout_to_training": float(np.median(real_near)),
        "ratio": float(np.median(made_near) / max(float(np.median(real_near)), 1e-12)),
        "closest": float(made_near.min()),
        "nearer_than_5_percent_of_heldout": float((made_near < np.percentile(real_near, 5)).mean()),
    }
    return result


def measure_text(context: Context) -> dict[str, Any]:
    """Let a probe name what was made from prompts."""
    prompts = list(context.plan.prompts)
    if not context.listens:
        raise ValueError(f"{context.name} does not listen to text: leave text out of --parts")
    features, _ = training_features(context)
    windows = context.footage.training
    labels = [window.label for window in windows]
    probe = text.fit_probe(features, labels, [window.scene for window in windows])
    real = context.real
    known = [i for i, label in enumerate(real.labels) if label in probe.classes]
    ceiling = None
    if known:
        named = probe.predict(context.sets["real"].features[known])
        ceiling = text.accuracy([real.labels[i] for i in known], named)
    asked = [prompt for prompt in prompts if prompt.label in probe.classes]
    if not asked:
        raise ValueError(
            f"no prompt has a class that the probe knows ({', '.join(probe.classes)}): name others with --prompts"
        )
    name = "from text"

    def make() -> Measured:
        with context.open_show() as show, context.progress(f"{name}: frames", len(asked)) as advance:
            texts = [prompt.text for prompt in asked]
            clips = from_text(show, texts, real.lengths, 20_000 + context.plan.seed, lambda: advance(1))
        with context.progress(f"{name}: I3D", len(clips)) as advance:
            return measure(
                name, clips, context.cache, groups=[], previews=[to_webp(clip, context.fps) for clip in clips],
                advance=lambda: advance(1),
            )  # fmt: skip

    found = context.measured(
        name, make, made=True, groups=[str(i) for i in range(len(asked))], prompts=[prompt.text for prompt in asked]
    )
    named = probe.predict(found.features)
    wanted = [prompt.label for prompt in asked]
    captions = [
        f"{prompt.text}{' (new)' if prompt.novel else ''}: "
        + (f"named {name}" if name == prompt.label else f"asked for {prompt.label}, named {name}")
        for prompt, name in zip(asked, named, strict=True)
    ]
    context.figures["From text"] = list(zip(captions, found.previews, strict=True))
    novel = [i for i, prompt in enumerate(asked) if prompt.novel]
    wrong = text.wrongly_marked(asked, context.footage.captions) if context.footage.captions else []
    return {
        **context.compared(name),
        "all": text.accuracy(wanted, named),
        "novel": text.accuracy([wanted[i] for i in novel], [named[i] for i in novel]) if novel else None,
        "not_new_after_all": [prompt.text for prompt in wrong],
        "left_out": sorted({prompt.label for prompt in prompts} - set(probe.classes)),
        "ceiling": ceiling,
        "chance": 1 / len(probe.classes),
        "probe": {
            "classes": list(probe.classes),
            "training_clips": dict(Counter(label for label in labels if label in probe.classes)),
            "penalty": probe.penalty,
        },
        "confusion": text.confusion(wanted, named, probe.classes),
        "per_prompt": [
            {"prompt": prompt.text, "class": prompt.label, "novel": prompt.novel, "named": name}
            for prompt, name in zip(asked, named, strict=True)
        ],
    }


def measure_endless(context: Context) -> dict[str, Any]:
    """Watch long shows: distances at marks, probes all along, returns."""
    plan = context.plan
    marks = endless.marks_up_to(plan.horizon)
    lengths = [context.real.lengths[i % len(context.real.lengths)] for i in range(plan.windows)]
    spacing = max(context.renewal_frames, *lengths)
    shows = []
    for number in range(plan.shows):
        seed = 30_000 + plan.seed + number
        key = {
            "target": dict(context.key), "seed": seed, "marks": marks, "lengths": lengths, "spacing": spacing,
            "probe_every": plan.probe_every, "extractor": context.cache.extractor.sha256,
        }  # fmt: skip
        shows.append(
            context.store.get(f"show {seed}", key, lambda seed=seed: _watch(context, seed, marks, lengths, spacing))
        )
    real = context.sets["real"]
    scenes = context.real.scenes
    by_mark = []
    for mark in marks:
        features = np.concatenate([show["features"][show["marks"] == mark] for show in shows])
        logits = np.concatenate([show["logits"][show["marks"] == mark] for show in shows])
        names = [str(i) for i in range(len(features))]
        flow = np.concatenate([show["flow"][show["marks"] == mark] for show in shows])
        estimate = bootstrap_mmd2(real.features, features, groups=scenes, other_groups=names, seed=plan.seed)
        by_logits = bootstrap_mmd2(real.logits, logits, groups=scenes, other_groups=names, seed=plan.seed)
        by_mark.append(
            {
                "mark": mark, "clips": len(features), "mmd2": estimate.to_json(), "mmd2_logits": by_logits.to_json(),
                "flow": float(np.median(flow)),
            }
        )  # fmt: skip
    _, training = training_features(context)
    band = endless.Band.of(training)
    heldout = [endless.quantities(probe) for probe in endless.snippets(context.real.clips)]
    returns = [
        endless.recurrence(show["pictures"], show["frames"], 4 * max(context.renewal_frames, max(lengths)))
        for show in shows
    ]
    norms = np.concatenate([show["norms"] for show in shows])
    states = None if np.isnan(norms).all() else bool(np.isfinite(norms).all())
    for mark in marks:
        strips = [unpack({"bytes": show[f"bytes_{mark}"], "ends": show[f"ends_{mark}"]})[0] for show in shows]
        captions = [f"frame {mark:,}, show {number + 1}" for number in range(len(strips))]
        context.figures.setdefault("An endless show", []).extend(zip(captions, strips, strict=True))
    return {
        "shows": plan.shows,
        "marks": by_mark,
        "growth_per_tenfold_time": endless.slope(marks, [as_estimate(row["mmd2"]) for row in by_mark]),
        "band": endless.band_table(band, [show["probes"] for show in shows], heldout),
        "quantities": list(endless.QUANTITIES),
        "recurrence": [None if found is None else found.to_json() for found in returns],
        "states_finite": states,
        "largest_state": float(np.nanmax(norms)) if states else None,
        "probes": [
            {"frames": show["frames"].tolist(), "values": np.round(show["probes"], 5).tolist()} for show in shows
        ],
    }


def _watch(context: Context, seed: int, marks: list[int], lengths: list[int], spacing: int) -> Arrays:
    plan = context.plan
    total = marks[-1] + len(lengths) * spacing
    with context.open_show() as show, context.progress(f"show of {total:,} frames", total) as advance:
        record = endless.watch(
            show, seed, marks, lengths, spacing=spacing, probe_every=plan.probe_every, norm=context.norm(show),
            advance=advance,
        )  # fmt: skip
    clips = [clip for mark in marks for clip in record.windows[mark]]
    with context.progress("windows of the show: I3D", len(clips)) as advance:
        found = measure("show", clips, context.cache, groups=[], advance=lambda: advance(1))
    arrays: Arrays = {
        "features": found.features,
        "logits": found.logits,
        "flow": found.flow,
        "marks": np.array([mark for mark in marks for _ in record.windows[mark]], np.int64),
        "frames": record.frames,
        "probes": record.probes,
        "pictures": record.pictures,
        "norms": record.state_norms,
    }
    for mark in marks:
        strip = to_webp(side_by_side(record.windows[mark][:4]), context.fps)
        arrays |= {f"{key}_{mark}": value for key, value in pack([strip]).items()}
    return arrays


def spread(count: int, wanted: int) -> list[int]:
    """Return `wanted` numbers below `count` at most, evenly spread."""
    return sorted({int((number + 0.5) * count / min(count, wanted)) for number in range(min(count, wanted))})


PARTS: dict[str, Callable[[Context], dict[str, Any]]] = {
    "i2v": measure_i2v,
    "seeds": measure_seeds,
    "text": measure_text,
    "memory": measure_memory,
    "endless": measure_endless,
}
