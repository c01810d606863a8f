"""A bundle on air: an endless iterator of frames that can be steered while it runs.

with Generator.open("bundles/NAME") as generator:
    generator.condition(seed=7)
    for frame in generator:            # uint8 (H, W, 3) RGB, valid until the next one is asked for
        ...
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from runtime.bundle import open_bundle
from runtime.conditioning import Conditioner, Memory, Picture
from runtime.engine import Choice, Session, choose_engine
from runtime.manifest import Manifest
from runtime.noise import FRAMES, check_seed, normals
from runtime.renewal import Renewal
from runtime.scenes import Scenes
from runtime.sessions import frame_output, open_sessions
from runtime.steering import Steering

Frame = npt.NDArray[np.uint8]


class Generator:
    """A running generator; make one with `Generator.open`.

    One thread asks for frames. `prepare`, `take`, `set_control` and `feed_live` may be called from any other thread.

    Args:
        manifest: of the bundle.
        choice: the engine that the sessions belong to.
        step: session of the step graph, pruned to the frame output in `pixels`; owned from now on.
        condition: session of the condition graph, or None where the manifest has none; owned from now on.
        pixels: "rgb" or "i420".
        seed: of the frames' noise, and of the scene where none is asked for.
        renewal: whether a scene made from a seed alone renews itself as the manifest says.

    Attributes:
        manifest: of the bundle.
        width, height: of a frame, in pixels; fps: frames per second that it was trained for, a `Fraction`.
        pixels: "rgb" or "i420".
        engine, precision: what runs it, e.g. "openvino" and "fp32"; engine_reason: one sentence on which and why.
    """

    def __init__(
        self,
        manifest: Manifest,
        choice: Choice,
        step: Session,
        condition: Session | None,
        *,
        pixels: str = "rgb",
        seed: int | None = None,
        renewal: bool = True,
    ) -> None:
        self.manifest = manifest
        self.width, self.height, self.fps = manifest.frame.width, manifest.frame.height, manifest.frame.fps
        self.pixels = pixels
        self.engine, self.precision, self.engine_reason = choice.engine.name, choice.precision, choice.reason
        self._step = step
        self._frame_name = frame_output(manifest.step, pixels)
        self._conditioner: Conditioner | None = None
        if manifest.condition is not None and condition is not None:
            self._conditioner = Conditioner(manifest.condition, condition)
        renews = manifest.renewal if renewal and self._conditioner is not None else None
        self._scenes = Scenes(Renewal(renews, self._conditioner) if renews and self._conditioner else None)
        self._seed = check_seed(manifest.default_seed if seed is None else seed)
        self._frame_index = 0
        self._is_closed = False
        self._steering = Steering(manifest)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        engine: str = "auto",
        precision: str = "auto",
        pixels: str = "rgb",
        seed: int | None = None,
        renewal: bool = True,
        threads: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> Self:
        """Check a bundle, choose an engine, and compile the bundle's graphs.

        Args:
            path: folder of the bundle.
            engine: "auto" for the fastest that runs here, or a name of `runtime.engine.ENGINES`.
            precision: "auto" for the fastest of the engine, "fp32" or "bf16".
            pixels: what frames are made of, "rgb" or "i420".
            seed: of the noise, [0, 2**64); None for that of the first golden file, or 0.
            renewal: whether a scene made from a seed alone renews itself as the manifest says.
            threads: CPU threads for a frame; None for every core.
            cache_dir: folder for compiled graphs; None for the bundle's `engines/`, or the user's cache if that cannot
                be written.

        Returns:
            The generator, to be closed by the caller, best with `with`.

        Raises:
            BundleError: the bundle is damaged or not schema 1.
            EngineError: the engine cannot run here, or not in this precision.
            ValueError: a name or number is wrong.
        """
        if seed is not None:
            check_seed(seed)
        bundle = open_bundle(path)
        frame_output(bundle.manifest.step, pixels)  # an error of the user's comes before any engine is loaded
        choice = choose_engine(engine, precision)
        step, condition = open_sessions(
            bundle, choice.engine, choice.precision, pixels=pixels, threads=threads, cache_dir=cache_dir
        )
        return cls(bundle.manifest, choice, step, condition, pixels=pixels, seed=seed, renewal=renewal)

    @property
    def frame_index(self) -> int:
        """How many frames have been made since the start or the last reset."""
        return self._frame_index

    @property
    def controls(self) -> dict[str, float]:
        """The controls' values, as a copy."""
        return self._steering.values

    def set_control(self, name: str, value: float) -> None:
        """Set a control from the next frame on.

        Args:
            name: one of the manifest's controls.
            value: within the control's range.

        Raises:
            ValueError: there is no such control, or the value is out of range.
        """
        self._steering.set_control(name, value)

    def condition(self, *, image: Picture | None = None, seed: int | None = None, dissolve_s: float = 0.0) -> None:
        """Prepare a memory and take it; blocks while it is made.

        Args:
            image: what to animate: a path, or a uint8 (h, w, 3) RGB array of any size; None to make one up.
            seed: of what is made up; None for the generator's own.
            dissolve_s: seconds over which it replaces what plays; 0 cuts at the next frame.

        Raises:
            ValueError: a value is bad, or this generator does not take it.
            EngineError: the engine failed.
        """
        frames = self._to_frames(dissolve_s)
        self._scenes.take(self.prepare(image=image, seed=seed), frames)

    def prepare(self, *, image: Picture | None = None, seed: int | None = None) -> Memory:
        """Make a memory without playing it; may be called beside the show and never touches its frames.

        Args:
            image: a path, or a uint8 (h, w, 3) RGB array of any size, fitted by centre crop and resize; None for none.
            seed: of the content code, [0, 2**64); None for the generator's own.

        Returns:
            A memory for `take`, as often as wanted.

        Raises:
            ValueError: a value is bad, or this generator does not take it.
            EngineError: the engine failed.
        """
        if self._conditioner is None:
            raise ValueError(
                f"{self.manifest.name} takes no prompt: it has no condition graph; reset(seed=...) changes it"
            )
        return self._conditioner.prepare(image, seed, self._seed, beside=self._frame_index > 0)

    def take(self, memory: Memory, *, dissolve_s: float = 1.0) -> None:
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

    def feed_live(self, frame: Frame, mask: Frame | None = None) -> None:
        """Hand in the latest frame of a live input; it is used from the next frame on until another one comes.

        Args:
            frame: uint8 (h, w, 3) RGB; fitted by centre crop and resize if it is not of the input's size. Copied.
            mask: uint8 (h, w) or (h, w, 1) of the input's size, 255 where the frame counts; None for everywhere.

        Raises:
            ValueError: the generator has no live input, or an array is not as above.
        """
        self._steering.feed_live(frame, mask)

    def reset(self, seed: int | None = None) -> None:
        """Go back to frame 0 with the state at zeros; controls stay.

        Args:
            seed: None plays the same scene again from its start; a seed becomes the generator's own, with its scene.

        Raises:
            ValueError: the seed is not in [0, 2**64).
        """
        if seed is not None:
            self._seed = check_seed(seed)
        self._scenes.rewind(keep=seed is None)
        self._step.reset()
        self._frame_index = 0

    def close(self) -> None:
        """Wait for what is being prepared and free the engine; closing twice is fine."""
        if not self._is_closed:
            self._is_closed = True
            if self._conditioner is not None:
                self._conditioner.close()
            self._step.close()

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        """Make the next frame.

        Returns:
            A view, valid until the next frame is asked for: uint8 (H, W, 3) RGB, or (H * 3 / 2, W) I420 in BT.709
            limited range.

        Raises:
            EngineError: the engine failed, here or in the background.
            ValueError: the generator is closed.
        """
        if self._is_closed:
            raise ValueError("this generator is closed")
        if self._conditioner is not None and self._scenes.is_empty:
            self.condition()
        self._write_inputs()
        self._step.run()
        self._frame_index += 1
        frame: Frame = self._step.read(self._frame_name)[0]
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write_inputs(self) -> None:
        graph = self.manifest.step
        if self._conditioner is not None:
            move = self._scenes.advance(self._frame_index)
            if move.memory is not None:
                for tensor in graph.inputs_of(f"memory_{move.side}"):
                    self._step.write(tensor.name, move.memory.tensors[tensor.slot])
            for tensor in graph.inputs_of("mix"):
                self._step.write(tensor.name, np.array([move.mix], np.float32))
        for tensor in graph.inputs_of("noise"):
            values = normals(self._seed, FRAMES, self._frame_index, tensor.shape[1])
            self._step.write(tensor.name, values[np.newaxis])
        self._steering.write(self._step)

    def _to_frames(self, seconds: float) -> int:
        if not (math.isfinite(seconds) and 0 <= seconds <= 3600):
            raise ValueError(f"a dissolve must last 0 to 3600 seconds, got {seconds}")
        return round(seconds * self.fps)
