"""The generator: an endless iterator of frames that can be controlled while it runs.

with Generator.open("bundles/NAME") as generator:
    generator.condition(seed=7)
    frame = next(generator)            # uint8 (H, W, 3) RGB, valid until the next frame
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Self, TypeVar

import numpy as np

from runtime.asked_frames import AskedFrame, AskedFrames
from runtime.bundle.manifest import Manifest
from runtime.clips.endless import ClipReader, clip_reader
from runtime.clips.playback import ClipPlayback
from runtime.engines.cuda_frame import CudaFrame
from runtime.engines.opening import OpenedEngine, frame_output
from runtime.engines.selection import next_engine, open_engines, taken_over
from runtime.errors import EngineError
from runtime.frame_inputs import FrameInputs
from runtime.generator_inputs import GeneratorInputs
from runtime.live_frames import FrameArray
from runtime.noise import check_seed
from runtime.position import Movable
from runtime.prepared_bundle import prepare_bundle
from runtime.prompts.conditioner import Conditioner
from runtime.prompts.prompt_text import OpenEncoder
from runtime.step_runner import step_runner

Result = TypeVar("Result")


class Generator(GeneratorInputs, Movable):
    """A running generator; make one with `Generator.open`.

    Only one thread may call `next`, `skip` and `reset`. The inherited methods may be called from any thread.

    Args:
        manifest: of the bundle.
        opened: the engine and its sessions, of which the generator takes ownership.
        pixels: "rgb" or "i420".
        seed: of the frames' noise, and of scenes without a seed of their own.
        renewal, folder, clips: as in `GeneratorInputs`.
        open_text_encoder: opens what encodes texts when the first one arrives; None if the graph takes no text.
        fallbacks: opens the next engine each time an engine fails; raises EngineError if there is no other.

    Attributes:
        manifest, pixels: as above; width, height: of the frames in pixels; fps: frames per second, a `Fraction`.
        engine, precision: e.g. "openvino" and "fp32".
        engine_reason: one sentence: why this engine and precision run, and why others cannot.
        on_fall_back: called with a sentence when another engine takes over, or a lost server is back, by `next`.
    """

    def __init__(
        self,
        manifest: Manifest,
        opened: OpenedEngine,
        *,
        pixels: str = "rgb",
        seed: int | None = None,
        renewal: bool = True,
        open_text_encoder: OpenEncoder | None = None,
        fallbacks: Iterator[OpenedEngine] | None = None,
        folder: Path | None = None,
        clips: ClipReader | None = None,
    ) -> None:
        conditioner = None
        if manifest.condition is not None and opened.condition is not None:
            conditioner = Conditioner(
                manifest.condition,
                opened.condition,
                name=manifest.name,
                open_text_encoder=open_text_encoder,
                open_spare=opened.open_spare,
                steps_per_s=float(manifest.frame.fps) * manifest.frame.pace,
            )
        super().__init__(manifest, conditioner, seed, renewal=renewal, folder=folder, clips=clips)
        self.width, self.height, self.fps = manifest.frame.width, manifest.frame.height, manifest.frame.fps
        self.on_fall_back: Callable[[str], object] = lambda _: None
        self._tell = tell = lambda sentence: self.on_fall_back(sentence)
        choice, self._step = opened.choice, step_runner(opened, manifest, tell)
        self.engine, self.precision, self.engine_reason = choice.engine.name, choice.precision, choice.reason
        self.pixels, self._frame_name = pixels, frame_output(manifest.step, pixels)
        self._frame_shape = next(item.shape[1:] for item in manifest.step.outputs if item.name == self._frame_name)
        self._is_closed = self._has_frame = False
        scenes = None if conditioner is None else self._scenes
        self._frame_inputs = FrameInputs(manifest.step, scenes, self._step_inputs, opened.plane)
        if clips is not None and opened.open_clip_stage is not None:
            stage, on_device = opened.open_clip_stage, self._step.has_addresses
            self._clips = ClipPlayback(stage, clips.small, clips.fps, is_on_device=on_device, marker=opened.marker)
            self._clips.say = tell
        self._fallbacks, self._asked = fallbacks or iter(()), AskedFrames(self._advance)

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
        trust_engines: bool = False,
        size: tuple[int, int] | None = None,
        fps: float | None = None,
        areas: str | Path | None = None,
        mark: int | None = None,
    ) -> Self:
        """Check a bundle, choose an engine, and compile the bundle's graphs.

        Args:
            path: folder of the bundle.
            engine: "auto" for the fastest here, a name in `runtime.engines.table.ENGINES`, or several with commas: the
                next one takes over if an engine cannot run here or fails later.
            precision: "auto" for the fastest of the engine, "fp32", "bf16", "fp16" or, if the bundle has such a graph,
                "int8".
            pixels: format of the frames, "rgb" or "i420".
            seed: of the noise, [0, 2**64); None for the seed of the first golden file, or 0.
            renewal: whether scenes made from a seed (with or without a text) renew themselves as the manifest says.
            threads: CPU threads per frame; None for all cores.
            cache_dir: of compiled graphs, used only if nobody but this user can write to it; None for the user's cache.
            trust_engines: whether TensorRT may load the engines in the bundle's `engines/`, which are not checked and
                can make any frames: only for your own bundles or those of somebody you trust.
            size: (width, height) of the frames in pixels, even; None for the bundle's own.
            fps: frames per second that are shown, by which clips keep their speed; None for the bundle's own.
            areas: folder of a bundle that says what may move in pictures without a mask (bundles/areas); None for none.
            mark: payload that frames carry, [0, 2**48), from `runtime.marking.payload`; None for no mark. Unlike shows,
                this API does not mark by default: if you publish the frames, choose a payload (docs/verify.md).

        Returns:
            The generator, to be closed by the caller; use `with`.

        Raises:
            BundleError, EngineError: the bundle is damaged or unknown; the engine or precision cannot run here.
            ValueError: a name or number is wrong.
        """
        seed = None if seed is None else check_seed(seed)
        bundle, encoder = prepare_bundle(path, pixels, size, areas=areas, mark=mark, trust_engines=trust_engines)
        engines = open_engines(bundle, engine, precision, pixels=pixels, threads=threads, cache_dir=cache_dir)
        return cls(
            bundle.manifest,
            next(engines),
            pixels=pixels,
            seed=seed,
            renewal=renewal,
            open_text_encoder=encoder,
            fallbacks=engines,
            folder=bundle.path,
            clips=clip_reader(bundle, pixels, fps),
        )

    @property
    def has_half_detail(self) -> bool:
        """Whether `detail` may be "half"."""
        return self._step.has_half

    def skip(self, frames: int, before_each: Callable[[], object] = lambda: None) -> None:
        """Equivalent to discarding the next `frames` frames, at a fraction of the cost.

        Scenes, renewals, noise and controls advance as usual; only the picture is not computed. In FP32 later frames
        are the same to the last bit on both CPU engines. `before_each` is called before each, e.g. to feed live frames.

        Raises:
            EngineError: the engine failed, here or in the background.
            ValueError: `frames` is not a whole number of at least 0, or the generator is closed.
        """
        if isinstance(frames, bool) or not isinstance(frames, (int, np.integer)) or frames < 0:
            raise ValueError(f"frames to skip must be a whole number of at least 0, got {frames!r}")
        self._check_open()
        make: Callable[[], object] = self.__next__ if self._step.is_remote else self._advance
        with self._step.without_frames():
            for _ in range(frames):
                before_each()
                make()
        self._step_inputs.forget_live()

    def device_frame(self) -> CudaFrame:
        """Return the last frame in device memory, for pycuda, CuPy or PyTorch: uint8, complete until the next is made.

        Raises:
            ValueError: the engine's frames are in main memory, no frame was made yet, or the generator is closed.
        """
        self._check_open()
        clips = self._clips if self._clips is not None and self._clips.is_playing else None
        made = self._step.address(self._frame_name) if clips is None else clips.address
        if made is None or not self._has_frame:
            why = f"frames of {self.engine} lie in main memory, take those" if self._has_frame else "ask for one"
            raise ValueError(f"there is no frame on a device: {why}")
        return CudaFrame(made, self._frame_shape)

    def reset(self, seed: int | None = None) -> None:
        """Go back to frame 0 and set the state to zeros; controls keep their values.

        Args:
            seed: None replays the same scene from its start; otherwise the generator's new seed, with a new scene.

        Raises:
            ValueError: the seed is not in [0, 2**64).
        """
        self._seed = self._seed if seed is None else check_seed(seed)
        self._scenes.rewind(keep=seed is None)
        self._asked.forget()
        self._step.reset()
        self._step_inputs.forget_live()
        self._frame_index = 0

    def close(self) -> None:
        """Wait for scenes that are being prepared and free the engine; closing twice is allowed."""
        if not self._is_closed:
            self._is_closed = True
            if self._conditioner is not None:
                self._conditioner.close()
            if self._clips is not None:
                self._clips.close()
            self._step.close()

    def __iter__(self) -> Iterator[FrameArray]:
        return self

    def __next__(self) -> FrameArray:
        """Make the next frame.

        Returns:
            A view, valid until the next one: uint8 (H, W, 3) RGB, or (H * 3 / 2, W) I420 in BT.709 limited range.

        Raises:
            EngineError: the engine failed, here or in the background.
            ValueError: the generator is closed.
        """
        self._check_open()
        frame = None
        asked = self._asked.next(is_ahead=self._step.is_remote and not self.has_live_input)
        if asked.is_needed:  # engines that only enqueue report the failure of a run when it is read
            frame = self._or_fall_back(self._read, partial(self._read, again=True))
        if asked.is_clip and self._clips is not None:
            picture = None if frame is None else frame.copy()  # it would be gone if another engine took over
            frame = self._or_fall_back(partial(self._clips.frame, picture))
        assert frame is not None, "neither a clip nor the step graph made a frame"
        self._has_frame = True
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("this generator is closed")

    def _advance(self) -> AskedFrame:
        """Go on by one frame; the step graph does not run while only clips are seen."""
        if self._conditioner is not None and self._scenes.is_empty:
            self.condition()
        self._step.use_half(self._wants_half)
        is_needed = self._frame_inputs.write(self._step, self._seed, self._frame_index, self._clips)
        if is_needed and not (self._frame_inputs.is_still and self._step.has_frame and not self._step.is_remote):
            self._or_fall_back(lambda: self._step.run())
        self._frame_index += 1
        return AskedFrame(is_needed, self._clips is not None and self._clips.is_playing)

    def _read(self, *, again: bool = False) -> FrameArray:
        """Return the step graph's frame, after another run with `again`."""
        if again:
            self._step.run()
        frame: FrameArray = self._step.read(self._frame_name)[0]
        return frame

    def _or_fall_back(self, act: Callable[[], Result], again: Callable[[], Result] | None = None) -> Result:
        """Do something with the engine; if it fails, do it, or `again`, with the next engine."""
        try:
            return act()
        except EngineError as error:
            self._fall_back(error)
            return (again or act)()

    def _fall_back(self, error: EngineError) -> None:
        """Continue with the next engine, from the same inputs, and from the same states if they can still be read."""
        fallback = next_engine(self._fallbacks, error)
        step = step_runner(fallback, self.manifest, self._tell)
        has_states = step.take_over(self._step)
        if self._conditioner is not None and fallback.condition is not None:
            self._conditioner.replace(fallback.condition, fallback.open_spare)
        self._step = step
        self._asked.forget()
        if self._clips is not None and fallback.open_clip_stage is not None:
            self._clips.replace(fallback.open_clip_stage, fallback.marker, is_on_device=step.has_addresses)
        before = f"{self.engine} {self.precision}"
        self.engine, self.precision = fallback.choice.engine.name, fallback.choice.precision
        self.engine_reason = f"{self.engine} {self.precision} {taken_over(before, error, has_states=has_states)}"
        self.on_fall_back(self.engine_reason)
