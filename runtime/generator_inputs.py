"""What may be done to a generator from any thread while one thread asks it for frames."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from runtime.bundle.manifest import Manifest
from runtime.noise import check_seed
from runtime.prompts.conditioner import Conditioner, Picture, Prompt, Scene
from runtime.scenes.cross_fade import SceneTimeline
from runtime.scenes.renewal import Renewal
from runtime.step_inputs import StepInputs

_SEED_DISSOLVE_S = 1.0  # by the contract: what a control for the seed takes to show its scene
FrameArray = npt.NDArray[np.uint8]


class GeneratorInputs:
    """The half of a generator that takes prompts, controls and live frames; all of it is for any thread.

    Args:
        manifest: of the bundle.
        conditioner: makes memories; None where the bundle has no condition graph. Owned from now on.
        seed: of the scene where none is asked for; None for the manifest's.
        renewal: whether a scene made up from a seed, with or without a text, renews itself as the manifest says.
    """

    def __init__(self, manifest: Manifest, conditioner: Conditioner | None, seed: int | None, *, renewal: bool) -> None:
        self.manifest = manifest
        self._conditioner = conditioner
        spec = manifest.renewal if renewal else None
        renews = None
        if spec is not None and conditioner is not None:
            renews = Renewal(spec, conditioner, manifest.frame.fps)
        self._scenes = SceneTimeline(renews)
        self._steering = StepInputs(manifest)
        self._seed = check_seed(manifest.default_seed if seed is None else seed)
        self._frame_index = 0

    @property
    def frame_index(self) -> int:
        """How many frames have been made since the start or the last reset."""
        return self._frame_index

    @property
    def controls(self) -> dict[str, float]:
        """The controls' values, as a copy."""
        return self._steering.values

    @property
    def text(self) -> str | None:
        """The text of the latest scene, the one that plays or waits to be played; None if it was made without one."""
        latest = self._scenes.latest
        return None if latest is None else latest.text

    @property
    def has_live_input(self) -> bool:
        """Whether `feed_live` has a use: frames are made from those of a live input."""
        return self.manifest.step.only_input("live") is not None

    @property
    def scene(self) -> Scene | None:
        """The latest scene, the one that plays or waits to be played; None before the first frame."""
        return self._scenes.latest

    @property
    def takes(self) -> tuple[str, ...]:
        """What a scene can be made from, of "text", "image", "clip" and "seed"; nothing where there are no scenes."""
        graph = self.manifest.condition
        roles = {"text": "text", "image": "image", "clip": "clip", "seed": "noise"}
        return (
            () if graph is None else tuple(kind for kind, role in roles.items() if graph.only_input(role) is not None)
        )

    def set_control(self, name: str, value: float) -> None:
        """Set a control from the next frame on; returns at once.

        A control for the seed makes that scene in the background, with the text of the latest one, and dissolves to it
        over a second as soon as it is ready; what is taken meanwhile comes instead of it.

        Args:
            name: one of the manifest's controls.
            value: within the control's range; a whole number for a seed.

        Raises:
            ValueError: there is no such control, the value is out of range, or the generator is closed.
        """
        control, number = self._steering.set_control(name, value)
        if control.target == "seed" and self._conditioner is not None:
            latest = self._scenes.latest
            prompt = Prompt(seed=int(number))
            if latest is not None:
                prompt = replace(prompt, text=latest.text, vector=latest.vector)
            self._scenes.expect(self._conditioner.submit(prompt), self._to_frames(_SEED_DISSOLVE_S))

    def check_control(self, name: str, value: float) -> None:
        """Check a control's value as `set_control` does, and set nothing.

        Raises:
            ValueError: there is no such control, or the value is out of range.
        """
        self._steering.check_control(name, value)

    def condition(
        self,
        *,
        image: Picture | None = None,
        clip: Picture | None = None,
        text: str | None = None,
        seed: int | None = None,
        dissolve_s: float = 0.0,
    ) -> None:
        """Prepare a memory and take it; blocks while it is made. Arguments as in `prepare`, and:

        Args:
            dissolve_s: seconds over which it replaces what plays; 0 cuts at the next frame.

        Raises:
            ValueError: a value is bad, or this generator does not take it.
            BundleError: the files of the text encoder are damaged.
            EngineError: the engine failed.
        """
        frames = self._to_frames(dissolve_s)
        self._scenes.take(self.prepare(image=image, clip=clip, text=text, seed=seed), frames)

    def prepare(
        self,
        *,
        image: Picture | None = None,
        clip: Picture | None = None,
        text: str | None = None,
        seed: int | None = None,
    ) -> Scene:
        """Make a memory without playing it; may be called beside the show and never touches its frames.

        Each part may be given alone or with others, as far as the generator takes it; without any, the seed decides.

        Args:
            image: what to animate: a path, or a uint8 (h, w, 3) RGB array of any size, fitted by centre crop and
                resize.
            clip: what to go on from: a path of a video or an animated picture, or a uint8 (t, h, w, 3) RGB array,
                oldest first, fitted like an image. Its end is taken; of one that is too short the oldest frame is
                repeated.
            text: what is to be seen, in English, at most 2,000 characters.
            seed: of what is made up, [0, 2**64); None for the generator's own.

        Returns:
            A memory for `take`, as often as wanted.

        Raises:
            ValueError: a value is bad, or this generator does not take it.
            BundleError: the files of the text encoder are damaged.
            EngineError: the engine failed, or a package for text is missing.
        """
        conditioner = self._prompted()
        prompt = conditioner.load(image=image, clip=clip, text=text, seed=seed, default_seed=self._seed)
        return conditioner.prepare(prompt, beside=self._frame_index > 0)

    def check(
        self,
        *,
        image: Picture | None = None,
        clip: Picture | None = None,
        text: str | None = None,
        seed: int | None = None,
    ) -> None:
        """Check a prompt as `prepare` does, files and text included, and make nothing of it; arguments as there.

        Raises:
            ValueError: a value is bad, or this generator does not take it.
            BundleError: the files of the text encoder are damaged.
            EngineError: a package for text is missing.
        """
        self._prompted().load(image=image, clip=clip, text=text, seed=seed, default_seed=self._seed)

    def take(self, memory: Scene, *, dissolve_s: float = 1.0) -> None:
        """Dissolve to a memory from the next frame on; returns at once.

        During a dissolve it waits until that has ended; of several waiting memories only the latest is played.

        Args:
            memory: made by `prepare` of a generator of the same bundle.
            dissolve_s: length, rounded to N frames in which the new memory's share is 1/N, 2/N ... 1; 0 cuts.

        Raises:
            ValueError: the memory belongs to another bundle, or the length is negative or not finite.
        """
        frames = self._to_frames(dissolve_s)
        if not memory.is_for(self.manifest.step):
            raise ValueError(f"this memory was made by another generator than {self.manifest.name}; prepare it anew")
        self._scenes.take(memory, frames)

    def feed_live(self, frame: FrameArray, mask: FrameArray | None = None) -> None:
        """Hand in the latest frame of a live input; it is used from the next frame on until another one comes.

        Args:
            frame: uint8 (h, w, 3) RGB; fitted by centre crop and resize if it is not of the input's size. Copied.
            mask: uint8 (h, w) or (h, w, 1) of the input's size, 255 where the frame counts; None for everywhere.

        Raises:
            ValueError: the generator has no live input, or an array is not as above.
        """
        self._steering.feed_live(frame, mask)

    def _prompted(self) -> Conditioner:
        if self._conditioner is None:
            raise ValueError(
                f"{self.manifest.name} takes no prompt: it has no condition graph; reset(seed=...) changes it"
            )
        return self._conditioner

    def _to_frames(self, seconds: float) -> int:
        if not (math.isfinite(seconds) and 0 <= seconds <= 3600):
            raise ValueError(f"a dissolve must last 0 to 3600 seconds, got {seconds}")
        return round(seconds * self.manifest.frame.fps)
