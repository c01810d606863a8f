"""The generator: an endless iterator of frames that can be controlled while it runs.

with Generator.open("bundles/NAME") as generator:
    generator.condition(seed=7)
    for frame in generator:            # uint8 (H, W, 3) RGB, valid until the next frame
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import numpy as np

from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import open_bundle
from runtime.engines.cuda_frame import CudaFrame
from runtime.engines.opening import OpenedEngine, frame_output, open_engines, state_pairs
from runtime.errors import EngineError
from runtime.generator_inputs import FrameArray, GeneratorInputs
from runtime.noise import FRAMES, check_seed, normals
from runtime.pixels.assemble import with_size
from runtime.pixels.picture_inputs import PictureInputs
from runtime.prompts.conditioner import Conditioner
from runtime.prompts.text_encoder import TextEncoder, prepare_text_encoder
from runtime.step_runner import StepRunner


class Generator(GeneratorInputs):
    """A running generator; make one with `Generator.open`.

    Only one thread may call `next`, `skip` and `reset`. The inherited methods may be called from any thread.

    Args:
        manifest: of the bundle.
        opened: the engine and its sessions, of which the generator takes ownership.
        pixels: "rgb" or "i420".
        seed: of the frames' noise, and of scenes without a seed of their own.
        renewal: whether scenes made from a seed (with or without a text) renew themselves as the manifest says.
        open_text_encoder: opens the text encoder when the first text arrives; None if the graph takes no text.
        fallbacks: opens the next engine each time an engine fails; raises EngineError if there is no other.
        folder: of the bundle, for its scenes; None without scenes.

    Attributes:
        manifest, pixels: as above.
        width, height, fps: of the frames, in pixels and frames per second (a `Fraction`).
        engine, precision: e.g. "openvino" and "fp32".
        engine_reason: one sentence: why this engine and precision run, and why others cannot.
        on_fall_back: called with a sentence when another engine takes over, in the thread that makes frames.
    """

    def __init__(
        self,
        manifest: Manifest,
        opened: OpenedEngine,
        *,
        pixels: str = "rgb",
        seed: int | None = None,
        renewal: bool = True,
        open_text_encoder: Callable[[], TextEncoder] | None = None,
        fallbacks: Iterator[OpenedEngine] | None = None,
        folder: Path | None = None,
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
        super().__init__(manifest, conditioner, seed, renewal=renewal, folder=folder)
        self.width, self.height, self.fps = manifest.frame.width, manifest.frame.height, manifest.frame.fps
        self.pixels = pixels
        choice, self._step = opened.choice, _step_runner(opened, manifest)
        self.engine, self.precision, self.engine_reason = choice.engine.name, choice.precision, choice.reason
        self._frame_name = frame_output(manifest.step, pixels)
        self._frame_shape = next(item.shape[1:] for item in manifest.step.outputs if item.name == self._frame_name)
        graph = manifest.step  # looked up once, because Python time is most of the overhead per frame
        self._slots = {side: [(item.name, item.slot) for item in graph.inputs_of(f"memory_{side}")] for side in "ab"}
        self._mix_names = [item.name for item in graph.inputs_of("mix")]
        self._noises = [(item.name, item.shape[1]) for item in graph.inputs_of("noise")]
        self._pictures, self._is_closed, self._has_frame = PictureInputs(graph), False, False
        self._fallbacks: Iterator[OpenedEngine] = iter(()) if fallbacks is None else fallbacks
        self.on_fall_back: Callable[[str], object] = lambda _: None

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
    ) -> Self:
        """Check a bundle, choose an engine, and compile the bundle's graphs.

        Args:
            path: folder of the bundle.
            engine: "auto" for the fastest that runs here, a name in `runtime.engines.table.ENGINES`, or several names
                separated by commas: the next one takes over if an engine cannot run here or fails later.
            precision: "auto" for the fastest of the engine, "fp32", "bf16" or "fp16".
            pixels: format of the frames, "rgb" or "i420".
            seed: of the noise, [0, 2**64); None for the seed of the first golden file, or 0.
            renewal: whether scenes made from a seed (with or without a text) renew themselves as the manifest says.
            threads: CPU threads per frame; None for all cores.
            cache_dir: folder for compiled graphs, used only if nobody but this user can write to it; None for
                everframe/engines in the user's cache.
            trust_engines: whether TensorRT may load the engines in the bundle's `engines/`, which are not checked and
                can make any frames: only for your own bundles or those of somebody you trust.
            size: (width, height) of the frames in pixels, even; None for the bundle's own.

        Returns:
            The generator, to be closed by the caller; use `with`.

        Raises:
            BundleError: the bundle is damaged or of an unknown schema.
            EngineError: the engine cannot run here, or not in this precision.
            ValueError: a name or number is wrong.
        """
        if seed is not None:
            check_seed(seed)
        try:
            bundle = with_size(open_bundle(path, trust_engines=trust_engines), size, pixels)
            encoder = None if bundle.manifest.text is None else prepare_text_encoder(bundle.path, bundle.manifest)
        except MemoryError as error:
            raise EngineError(f"there is not enough memory to open {path}: end other programs") from error
        frame_output(bundle.manifest.step, pixels)  # checked before any engine is loaded
        engines = open_engines(bundle, engine, precision, pixels=pixels, threads=threads, cache_dir=cache_dir)
        first = next(engines)
        return cls(
            bundle.manifest,
            first,
            pixels=pixels,
            seed=seed,
            renewal=renewal,
            open_text_encoder=encoder,
            fallbacks=engines,
            folder=bundle.path,
        )

    @property
    def has_half_detail(self) -> bool:
        """Whether `detail` may be "half"."""
        return self._step.has_half

    def skip(self, frames: int, before_each: Callable[[], object] = lambda: None) -> None:
        """Equivalent to discarding the next `frames` frames, at a fraction of the cost.

        Scenes, renewals, noise and controls advance as usual; only the picture is not computed. In FP32 the following
        frames are identical to the last bit on both CPU engines; in bf16 they may round differently.

        Args:
            frames: number of frames, at least 0.
            before_each: called before each of them, e.g. to feed a live frame.

        Raises:
            EngineError: the engine failed, here or in the background.
            ValueError: `frames` is not a whole number of at least 0, or the generator is closed.
        """
        if isinstance(frames, bool) or not isinstance(frames, (int, np.integer)) or frames < 0:
            raise ValueError(f"frames to skip must be a whole number of at least 0, got {frames!r}")
        self._check_open()
        with self._step.without_frames():
            for _ in range(frames):
                before_each()
                self._advance()

    def device_frame(self) -> CudaFrame:
        """Return the last frame in device memory, for pycuda, CuPy or PyTorch.

        Returns:
            uint8, shaped like the frame; complete, and valid until the next frame is made.

        Raises:
            ValueError: the engine's frames are in main memory, no frame was made yet, or the generator is closed.
        """
        self._check_open()
        address = self._step.address(self._frame_name) if self._has_frame else None
        if address is None:
            why = f"frames of {self.engine} lie in main memory, take those" if self._has_frame else "ask for one"
            raise ValueError(f"there is no frame on a device: {why}")
        return CudaFrame(address, self._frame_shape)

    def reset(self, seed: int | None = None) -> None:
        """Go back to frame 0 and set the state to zeros; controls keep their values.

        Args:
            seed: None replays the same scene from its start; otherwise the generator's new seed, with a new scene.

        Raises:
            ValueError: the seed is not in [0, 2**64).
        """
        if seed is not None:
            self._seed = check_seed(seed)
        self._scenes.rewind(keep=seed is None)
        self._step.reset()
        self._frame_index = 0

    def close(self) -> None:
        """Wait for scenes that are being prepared and free the engine; closing twice is allowed."""
        if not self._is_closed:
            self._is_closed = True
            if self._conditioner is not None:
                self._conditioner.close()
            self._step.close()

    def __iter__(self) -> Iterator[FrameArray]:
        return self

    def __next__(self) -> FrameArray:
        """Make the next frame.

        Returns:
            A view, valid until the next frame is made: uint8 (H, W, 3) RGB, or (H * 3 / 2, W) I420 in BT.709
            limited range.

        Raises:
            EngineError: the engine failed, here or in the background.
            ValueError: the generator is closed.
        """
        self._check_open()
        self._advance()
        try:
            frame: FrameArray = self._step.read(self._frame_name)[0]
        except EngineError as error:  # engines that only enqueue report the failure of a run here
            self._fall_back(error)
            self._step.run()
            frame = self._step.read(self._frame_name)[0]
        self._has_frame = True
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("this generator is closed")

    def _advance(self) -> None:
        if self._conditioner is not None and self._scenes.is_empty:
            self.condition()
        self._step.use_half(self._wants_half)
        self._write_inputs()
        try:
            self._step.run()
        except EngineError as error:
            self._fall_back(error)
            self._step.run()
        self._frame_index += 1

    def _fall_back(self, error: EngineError) -> None:
        """Continue with the next engine, from the same inputs, and from the same states if they can still be read."""
        try:
            fallback = next(self._fallbacks, None)
        except EngineError as another:
            raise EngineError(f"{error}; {another}") from error
        if fallback is None:
            raise error
        step = _step_runner(fallback, self.manifest)
        has_states = step.take_over(self._step)
        if self._conditioner is not None and fallback.condition is not None:
            self._conditioner.replace(fallback.condition, fallback.open_spare)
        self._step = step
        how = "continues where it was" if has_states else "restarts because its state is lost"
        before = f"{self.engine} {self.precision}"
        self.engine, self.precision = fallback.choice.engine.name, fallback.choice.precision
        self.engine_reason = f"{self.engine} {self.precision} took over from {before} ({error}); the show {how}"
        self.on_fall_back(self.engine_reason)

    def _write_inputs(self) -> None:
        if self._conditioner is not None:
            move = self._scenes.advance(self._step_inputs.renewal_rate)
            if move.scene is not None:
                for name, slot in self._slots[move.side]:
                    self._step.write(name, move.scene.tensors[slot])
            self._pictures.write(move, self._step)
            for name in self._mix_names:
                self._step.write(name, np.array([move.mix], np.float32))
        for name, count in self._noises:
            self._step.write(name, normals(self._seed, FRAMES, self._frame_index, count)[np.newaxis])
        self._step_inputs.write(self._step)


def _step_runner(opened: OpenedEngine, manifest: Manifest) -> StepRunner:
    return StepRunner(opened.step, state_pairs(manifest.step), opened.open_without_frames, opened.open_half)
