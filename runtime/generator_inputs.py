"""The inputs of a generator: prompts, controls and live frames, from any thread."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

from runtime.bundle.controls import ControlSpec
from runtime.bundle.manifest import Manifest
from runtime.clips.endless import ClipReader
from runtime.clips.playback import VARIETY, ClipPlayback
from runtime.live_frames import LiveFrames
from runtime.noise import check_seed
from runtime.prompts.bundle_scenes import scene_thumbnail, with_scene
from runtime.prompts.clip_scenes import check_clip, clip_scene, endless_clip, kinds_taken
from runtime.prompts.conditioner import Conditioner
from runtime.prompts.hints import Hints
from runtime.prompts.images import FITS
from runtime.prompts.scene import Prompt, PromptParts, Scene, only_hints
from runtime.scenes.cross_fade import SceneTimeline
from runtime.scenes.renewal import Renewal
from runtime.step_inputs import StepInputs

_SEED_CROSS_FADE_S = 1.0  # for a control with the target "seed" (docs/bundle.md)


class GeneratorInputs(LiveFrames):
    """The part of a generator that takes prompts, controls and live frames; thread-safe.

    Args:
        manifest: of the bundle.
        conditioner: makes scenes; None if the bundle has no condition graph. This object takes ownership.
        seed: of scenes without a seed of their own; None for the manifest's.
        renewal: whether scenes made from a seed (with or without a text) renew themselves as the manifest says.
        folder: of the bundle, for its scenes.
        clips: reads clips that play on for ever; None if the bundle cannot play them.
    """

    def __init__(
        self,
        manifest: Manifest,
        conditioner: Conditioner | None,
        seed: int | None,
        *,
        renewal: bool,
        folder: Path | None = None,
        clips: ClipReader | None = None,
    ) -> None:
        self._clip_reader = clips if conditioner is not None else None
        super().__init__(manifest, StepInputs(manifest, () if self._clip_reader is None else (VARIETY,)))
        self._clips: ClipPlayback | None = None
        self._folder, self._conditioner = folder, conditioner
        renews = None
        if renewal and manifest.renewal is not None and conditioner is not None:
            renews = Renewal(manifest.renewal, conditioner, manifest.frame.fps)
        self._scenes = SceneTimeline(renews)
        self._seed = check_seed(manifest.default_seed if seed is None else seed)
        self._frame_index, self._wants_half = 0, False

    @property
    def frame_index(self) -> int:
        """The number of frames made since the start or the last reset."""
        return self._frame_index

    @property
    def controls(self) -> dict[str, float]:
        """A copy of the controls' values."""
        return self._step_inputs.values

    @property
    def control_specs(self) -> tuple[ControlSpec, ...]:
        """The controls, in the manifest's order, and those of clips."""
        return self._step_inputs.specs

    @property
    def text(self) -> str | None:
        """The text of the latest scene, playing or waiting; None if it was made without a text."""
        latest = self._scenes.latest
        return None if latest is None else latest.text

    @property
    def scene(self) -> Scene | None:
        """The latest scene, playing or waiting; None before the first frame."""
        return self._scenes.latest

    @property
    def shown_scene(self) -> Scene | None:
        """The waiting scene, else the one that plays, a renewal of `scene` included; None before the first frame."""
        return self._scenes.shown

    @property
    def takes_hints(self) -> bool:
        """Whether motion can be drawn over its scenes."""
        return self._conditioner is not None and self._conditioner.loader.takes_hints

    @property
    def takes(self) -> tuple[str, ...]:
        """The kinds of prompt that it takes: "text", "image", "clip", "past", "seed"; or none."""
        return kinds_taken(self.manifest, plays_clips=self._clip_reader is not None)

    @property
    def fit(self) -> str:
        """How pictures of another shape fit the frame: one of `runtime.prompts.images.FITS`; "cover" at first."""
        return "cover" if self._conditioner is None else self._conditioner.loader.fit

    @fit.setter
    def fit(self, how: str) -> None:
        if how not in FITS:
            raise ValueError(f"pictures fit by {', '.join(FITS)}, got {how!r}")
        if self._conditioner is not None:
            self._conditioner.loader.fit = how

    @property
    def detail(self) -> str:
        """What frames are made with from the next one on: "full", or "half", which takes 0.6 of the time.

        Bundles of schema 2 have both on a CPU. Frames keep their size; after the first switch to "half" they come with
        full detail until that graph has been compiled in the background.
        """
        return "half" if self._wants_half else "full"

    @detail.setter
    def detail(self, detail: str) -> None:
        if detail not in ("full", "half"):
            raise ValueError(f'the detail is "full" or "half", got {detail!r}')
        self._wants_half = detail == "half"

    def set_control(self, name: str, value: float) -> None:
        """Set a control from the next frame on; returns at once.

        A control for the seed makes a scene in the background, with the text of the latest scene, and cross-fades to it
        over one second as soon as it is ready. A scene that is taken in the meantime replaces it.

        Args:
            name: one of the manifest's controls.
            value: within the control's range; a whole number for a seed.

        Raises:
            ValueError: there is no such control, the value is out of range, or the generator is closed.
        """
        control, number = self._step_inputs.set_control(name, value)
        if control.target == "seed" and self._conditioner is not None:
            latest = self._scenes.latest
            prompt = Prompt(seed=int(number))
            if latest is not None:
                prompt = replace(prompt, text=latest.text, text_inputs=latest.text_inputs)
            self._scenes.expect(self._conditioner.submit(prompt), self._to_frames(_SEED_CROSS_FADE_S))

    def check_control(self, name: str, value: float) -> None:
        """Raise ValueError unless there is such a control and the value is in its range."""
        self._step_inputs.check_control(name, value)

    def condition(self, *, dissolve_s: float = 0.0, **parts: Unpack[PromptParts]) -> None:
        """Prepare a scene and take it; blocks while it is made.

        Args:
            dissolve_s: length of the cross-fade in seconds; 0 cuts at the next frame.
            parts: as in `prepare`.

        Raises:
            ValueError: a value is wrong, or the generator does not take it.
            BundleError: the files of the text encoder or of a scene are damaged.
            EngineError: the engine failed.
        """
        frames = self._to_frames(dissolve_s)
        self._scenes.take(self.prepare(**parts), frames)

    def prepare(self, *, ahead_s: float | None = None, **parts: Unpack[PromptParts]) -> Scene:
        """Make a scene without playing it; may be called while frames are made and does not change them.

        Args:
            ahead_s: seconds until it is needed: for 3/4 of that time it is made only while the CPU is idle, which
                hardly delays a frame. None if somebody waits for it: it then waits 2 s at most for idle moments.
            parts: see `PromptParts`; they can be combined if the generator takes them. Without any of them, the seed
                decides. Hints alone make a scene of the picture that plays.

        Returns:
            A scene for `take`; it may be taken several times.

        Raises:
            ValueError: a value is wrong, or the generator does not take it.
            BundleError: the files of the text encoder or of a scene are damaged.
            EngineError: the engine failed, or a package for text is missing.
        """
        is_playing, conditioner = self._frame_index > 0, self._require_conditioner()
        if (shown := self._scenes.shown) is not None and (hints := only_hints(parts)) is not None:
            return self.redraw(shown, hints)
        if (clip := endless_clip(parts, self._clip_reader)) is not None:
            make = partial(clip_scene, clip, self._clip_reader, self._clips, self.fit, conditioner.check_open)
            return conditioner.make(partial(make, is_playing=is_playing), in_background=is_playing)
        return conditioner.prepare(self._load(parts), in_background=is_playing, ahead_s=ahead_s)

    def redraw(self, scene: Scene, hints: Hints) -> Scene:
        """Make a scene of the same picture with other hints, in tens of milliseconds; the given scene stays as it is.

        Without any hints, a scene from a seed renews itself again.

        Raises:
            ValueError: the generator takes no hints, or the scene is a clip.
            EngineError: the engine failed.
        """
        return self._require_conditioner().redraw(scene, hints, in_background=self._frame_index > 0)

    def check(self, **parts: Unpack[PromptParts]) -> None:
        """Check a prompt as `prepare` does, including files and text, without making a scene.

        Raises:
            ValueError: a value is wrong, or the generator does not take it.
            BundleError: the files of the text encoder or of a scene are damaged.
            EngineError: a package for text is missing.
        """
        if only_hints(parts) is not None:
            self._require_conditioner().loader.check_drawable()
        elif (clip := endless_clip(parts, self._clip_reader)) is None:
            self._load(parts)
        else:
            check_clip(clip)

    def take(self, scene: Scene, *, dissolve_s: float = 1.0) -> None:
        """Cross-fade to a scene from the next frame on; returns at once.

        During a cross-fade the scene waits for its end. Of several waiting scenes only the latest is played.

        Args:
            scene: made by `prepare` of a generator of the same bundle.
            dissolve_s: length, rounded to N frames in which the new scene's share is 1/N, 2/N ... 1; 0 cuts.

        Raises:
            ValueError: the scene belongs to another bundle, or the length is negative or not finite.
        """
        frames = self._to_frames(dissolve_s)
        if not scene.is_for(self.manifest.step):
            raise ValueError(f"this scene was made by another generator than {self.manifest.name}; prepare it again")
        self._scenes.take(scene, frames)

    def scene_thumbnail(self, name: str) -> bytes:
        """Return a small JPEG of a scene of the manifest; raises ValueError or BundleError if there is none."""
        if self._folder is None:
            raise ValueError(f'{self.manifest.name} has no scene "{name}"')
        return scene_thumbnail(self._folder, self.manifest, name)

    def _load(self, parts: PromptParts) -> Prompt:
        loader = self._require_conditioner().loader
        given = with_scene(parts, self._folder, self.manifest, loader.fit, takes_hints=loader.takes_hints)
        return loader.load(**given, default_seed=self._seed)

    def _require_conditioner(self) -> Conditioner:
        if self._conditioner is None:
            raise ValueError(
                f"{self.manifest.name} takes no prompt: it has no condition graph; reset(seed=...) changes it"
            )
        return self._conditioner

    def _to_frames(self, seconds: float) -> int:
        if not (math.isfinite(seconds) and 0 <= seconds <= 3600):
            raise ValueError(f"a cross-fade must last 0 to 3600 seconds, got {seconds}")
        return round(seconds * self.manifest.frame.fps)
