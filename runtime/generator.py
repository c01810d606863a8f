"""A bundle on air: an endless iterator of frames that can be steered while it runs.

with Generator.open("bundles/NAME") as generator:
    generator.condition(seed=7)
    for frame in generator:            # uint8 (H, W, 3) RGB, valid until the next one is asked for
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import open_bundle
from runtime.engines.cuda_frame import CudaFrame
from runtime.engines.engine import Session
from runtime.engines.opening import OpenedEngine, open_engines
from runtime.engines.sessions import frame_output, state_pairs
from runtime.engines.table import EngineChoice
from runtime.errors import EngineError
from runtime.generator_inputs import FrameArray, GeneratorInputs
from runtime.noise import FRAMES, check_seed, normals
from runtime.prompts.conditioner import Conditioner
from runtime.prompts.text_encoder import TextEncoder, prepare_words
from runtime.step_runner import StepRunner


class Generator(GeneratorInputs):
    """A running generator; make one with `Generator.open`.

    One thread asks for frames: by `next`, `skip` and `reset`. What is inherited may be called from any other thread.

    Args:
        manifest: of the bundle.
        choice: the engine that the sessions belong to.
        step: session of the step graph, pruned to the frame output in `pixels`; owned from now on.
        condition: session of the condition graph, or None where the manifest has none; owned from now on.
        pixels: "rgb" or "i420".
        seed: of the frames' noise, and of the scene where none is asked for.
        renewal: whether a scene made up from a seed, with or without a text, renews itself as the manifest says.
        open_blind: opens a session of the step graph without frames, for `skip`; None to use `step` for that.
        open_words: gives the token vectors when the first text comes; None where the condition graph takes no text.
        open_second: opens another session of the condition graph, for a machine that is never idle; None for none.
        spares: opens what to go on with if the engine fails, one after the other; raises EngineError where none is.

    Attributes:
        manifest: of the bundle.
        width, height: of a frame, in pixels; fps: frames per second that it was trained for, a `Fraction`.
        pixels: "rgb" or "i420".
        engine, precision: what runs it, e.g. "openvino" and "fp32"; engine_reason: one sentence on which and why.
        on_fall_back: called with one sentence whenever another engine takes over, by the thread that asks for frames.
    """

    def __init__(
        self,
        manifest: Manifest,
        choice: EngineChoice,
        step: Session,
        condition: Session | None,
        *,
        pixels: str = "rgb",
        seed: int | None = None,
        renewal: bool = True,
        open_blind: Callable[[], Session] | None = None,
        open_words: Callable[[], TextEncoder] | None = None,
        open_second: Callable[[], Session] | None = None,
        spares: Iterator[OpenedEngine] | None = None,
    ) -> None:
        conditioner = None
        if manifest.condition is not None and condition is not None:
            conditioner = Conditioner(
                manifest.condition, condition, name=manifest.name, open_words=open_words, open_second=open_second
            )
        super().__init__(manifest, conditioner, seed, renewal=renewal)
        self.width, self.height, self.fps = manifest.frame.width, manifest.frame.height, manifest.frame.fps
        self.pixels = pixels
        self.engine, self.precision, self.engine_reason = choice.engine.name, choice.precision, choice.reason
        self._step = StepRunner(step, state_pairs(manifest.step), open_blind)
        self._frame_name = frame_output(manifest.step, pixels)
        self._frame_shape = next(item.shape[1:] for item in manifest.step.outputs if item.name == self._frame_name)
        # Looked up once: between two frames, Python's own time is most of what the runtime adds to the engine's.
        graph = manifest.step
        self._slots = {side: [(item.name, item.slot) for item in graph.inputs_of(f"memory_{side}")] for side in "ab"}
        self._mix_names = [item.name for item in graph.inputs_of("mix")]
        self._noises = [(item.name, item.shape[1]) for item in graph.inputs_of("noise")]
        self._is_closed = self._has_frame = False
        self._spares: Iterator[OpenedEngine] = iter(()) if spares is None else spares
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
    ) -> Self:
        """Check a bundle, choose an engine, and compile the bundle's graphs.

        Args:
            path: folder of the bundle.
            engine: "auto" for the fastest that runs here, a name of `runtime.engines.table.ENGINES`, or several with
                commas between them: the next takes over if one cannot run here, or fails on air.
            precision: "auto" for the fastest of the engine, "fp32" or "bf16".
            pixels: what frames are made of, "rgb" or "i420".
            seed: of the noise, [0, 2**64); None for that of the first golden file, or 0.
            renewal: whether a scene made up from a seed, with or without a text, renews itself as the manifest says.
            threads: CPU threads for a frame; None for every core.
            cache_dir: folder for compiled graphs; None for everframe/engines in the user's cache. It is used only if it
                is this user's and nobody else may write to it: compiled graphs are not checked.
            trust_engines: whether TensorRT may load engines that came in the bundle's `engines/`. They can make any
                frames, and no check covers them: only for bundles of your own or from somebody you trust.

        Returns:
            The generator, to be closed by the caller, best with `with`.

        Raises:
            BundleError: the bundle is damaged or not schema 1.
            EngineError: the engine cannot run here, or not in this precision.
            ValueError: a name or number is wrong.
        """
        if seed is not None:
            check_seed(seed)
        try:
            bundle = open_bundle(path, trust_engines=trust_engines)
            words = None if bundle.manifest.text is None else prepare_words(bundle.path, bundle.manifest)
        except MemoryError as error:
            raise EngineError(f"there is not enough memory to open {path}: end other programs") from error
        frame_output(bundle.manifest.step, pixels)  # an error of the user's comes before any engine is loaded
        engines = open_engines(bundle, engine, precision, pixels=pixels, threads=threads, cache_dir=cache_dir)
        first = next(engines)
        return cls(
            bundle.manifest,
            first.choice,
            first.step,
            first.condition,
            pixels=pixels,
            seed=seed,
            renewal=renewal,
            open_blind=first.open_blind,
            open_words=words,
            open_second=first.open_second,
            spares=engines,
        )

    def skip(self, frames: int) -> None:
        """Go on by some frames without making them; what follows is what would have followed had they been made.

        Scenes, renewals, noise and controls go on as in a show; only the way from the state to the picture is left out.
        In FP32 what follows is the same to the last bit on both CPU engines; in bf16 a graph without its picture may be
        rounded in other places, and the difference is as small as that between bf16 and FP32.

        Args:
            frames: how many, at least 0.

        Raises:
            EngineError: the engine failed, here or in the background.
            ValueError: the number is no whole number of at least 0, or the generator is closed.
        """
        if isinstance(frames, bool) or not isinstance(frames, (int, np.integer)) or frames < 0:
            raise ValueError(f"frames to skip must be a whole number of at least 0, got {frames!r}")
        self._check_open()
        with self._step.without_frames():
            for _ in range(frames):
                self._advance()

    def device_frame(self) -> CudaFrame:
        """Return the frame that was made last where the engine made it, for pycuda, CuPy or PyTorch.

        Returns:
            uint8, shaped like the frame; complete, and valid until the next one is asked for.

        Raises:
            ValueError: the engine's frames lie in main memory, no frame was made yet, or the generator is closed.
        """
        self._check_open()
        address = self._step.address(self._frame_name) if self._has_frame else None
        if address is None:
            why = f"frames of {self.engine} lie in main memory, take those" if self._has_frame else "ask for one"
            raise ValueError(f"there is no frame on a device: {why}")
        return CudaFrame(address, self._frame_shape)

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

    def __iter__(self) -> Iterator[FrameArray]:
        return self

    def __next__(self) -> FrameArray:
        """Make the next frame.

        Returns:
            A view, valid until the next frame is asked for: uint8 (H, W, 3) RGB, or (H * 3 / 2, W) I420 in BT.709
            limited range.

        Raises:
            EngineError: the engine failed, here or in the background.
            ValueError: the generator is closed.
        """
        self._check_open()
        self._advance()
        try:
            frame: FrameArray = self._step.read(self._frame_name)[0]
        except EngineError as error:  # of an engine that only enqueues, a run's failure shows here
            self._fall_back(error)
            self._step.run()
            frame = self._step.read(self._frame_name)[0]
        self._has_frame = True
        return frame

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._is_closed:
            raise ValueError("this generator is closed")

    def _advance(self) -> None:
        if self._conditioner is not None and self._scenes.is_empty:
            self.condition()
        self._write_inputs()
        try:
            self._step.run()
        except EngineError as error:
            self._fall_back(error)
            self._step.run()
        self._frame_index += 1

    def _fall_back(self, error: EngineError) -> None:
        """Go on with the next engine, from the same inputs, and the same states if they can still be had."""
        try:
            spare = next(self._spares, None)
        except EngineError as worse:
            raise EngineError(f"{error}; {worse}") from error
        if spare is None:
            raise error
        step = StepRunner(spare.step, state_pairs(self.manifest.step), spare.open_blind)
        has_states = step.take_over(self._step)
        if self._conditioner is not None and spare.condition is not None:
            self._conditioner.replace(spare.condition, spare.open_second)
        self._step = step
        goes_on = "goes on where it was" if has_states else "begins anew, as its state is lost"
        before = f"{self.engine} {self.precision}"
        self.engine, self.precision = spare.choice.engine.name, spare.choice.precision
        self.engine_reason = f"{self.engine} {self.precision} took over from {before} ({error}); the show {goes_on}"
        self.on_fall_back(self.engine_reason)

    def _write_inputs(self) -> None:
        if self._conditioner is not None:
            move = self._scenes.advance(self._steering.renewal_rate)
            if move.memory is not None:
                for name, slot in self._slots[move.side]:
                    self._step.write(name, move.memory.tensors[slot])
            for name in self._mix_names:
                self._step.write(name, np.array([move.mix], np.float32))
        for name, count in self._noises:
            self._step.write(name, normals(self._seed, FRAMES, self._frame_index, count)[np.newaxis])
        self._steering.write(self._step)
