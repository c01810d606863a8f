"""Puts the person of a live input over frames: a matte bundle cuts the person out, the compositing stage blends."""

from __future__ import annotations

import math
import re
import threading
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from runtime.bundle.controls import ControlSpec
from runtime.compositing.stage import (
    CONTROLS,
    PREFIX,
    build_composite_stage,
    composite_inputs,
    composite_outputs,
)
from runtime.engines.cache import default_cache_dir
from runtime.engines.engine import Program
from runtime.engines.table import count_cores, open_engine
from runtime.generator import Generator
from runtime.pixels.assemble import check_size
from runtime.prompts.images import load_image

FrameArray = npt.NDArray[np.uint8]
_SPECS = (
    ControlSpec("matte.feather", "width of the person's edge; 0 is hard", "of the matte", 0.0, 1.0, 0.5, "step", 0),
    ControlSpec(
        "matte.threshold", "where the person ends; higher cuts closer", "of the matte", 0.1, 0.9, 0.35, "step", 1
    ),
)
_BLUR = 24  # a blurred background is reduced by this, and enlarged again
assert len(_SPECS) == len(CONTROLS), "a control without a description"


class Composite:
    """Blends a person over frames; use `open`.

    Everything but `over` may be called from any thread. Colours are BT.709, limited range in "i420".

    Args:
        matte: generator whose live input becomes a matte: frames that are white where the person is.
        width, height: of the frames in pixels, even.
        pixels: format of the frames, "rgb" or "i420".
        threads: CPU threads per frame; None for all cores.
        cache_dir: folder for compiled graphs; None for the default.

    Raises:
        EngineError: the matte's engine refused the graph.
        ValueError: the bundle has no live input or makes no RGB frames, or the size is not allowed.
    """

    def __init__(
        self,
        matte: Generator,
        width: int,
        height: int,
        *,
        pixels: str = "i420",
        threads: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        check_size((width, height))
        if not matte.has_live_input or matte.pixels != "rgb":
            raise ValueError(
                f"{matte.manifest.name} is no matte: it must turn a live input into frames that are white where the "
                "person is"
            )
        self.width, self.height, self.pixels, self._matte = width, height, pixels, matte
        self._matte_size = matte.width, matte.height
        spec = (width, height, pixels, self._matte_size)
        states = ((f"{PREFIX}before", f"{PREFIX}after"),)
        graph = build_composite_stage(*spec).SerializeToString()
        program = Program(graph, composite_inputs(*spec), composite_outputs(*spec), states)
        folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        engine = open_engine(matte.engine)
        self._session = engine.open(program, "fp32", threads or count_cores(), folder)
        self._lock = threading.Lock()
        self._values = {spec.name: spec.default for spec in _SPECS}
        self._is_changed = True
        self._fresh: tuple[FrameArray, FrameArray] | None = None
        self._has_person = False
        self._behind, self._instead = "show", np.zeros(0, np.uint8)  # what is shown, and its frame
        self.is_mirrored = False

    @classmethod
    def open(
        cls,
        bundle: str | Path,
        width: int,
        height: int,
        *,
        pixels: str = "i420",
        engine: str = "auto",
        threads: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> Self:
        """Open a matte bundle, and the compositing stage in the same engine.

        Args:
            bundle: folder of the matte bundle.
            width, height, pixels, threads, cache_dir: as in the constructor.
            engine: as in `Generator.open`.

        Returns:
            The composite, to be closed by the caller; use `with`.

        Raises:
            BundleError, EngineError, ValueError: as `Generator.open` and the constructor.
        """
        # FP32: a matte is small, and reduced precision shows at its edges.
        matte = Generator.open(
            bundle, engine=engine, precision="fp32", pixels="rgb", threads=threads, cache_dir=cache_dir
        )
        try:
            return cls(matte, width, height, pixels=pixels, threads=threads, cache_dir=cache_dir)
        except BaseException:
            matte.close()
            raise

    @property
    def behind(self) -> str:
        """What is shown behind the person: "show", "blur" (the live input, blurred) or a colour as "RRGGBB".

        "green" is short for "00b140", a common green for keying.
        """
        return self._behind

    @behind.setter
    def behind(self, what: str) -> None:
        colour = {"green": "00b140"}.get(what, what)
        if what not in ("show", "blur") and re.fullmatch("[0-9A-Fa-f]{6}", colour) is None:
            raise ValueError(f"behind the person is show, blur, green or a colour as RRGGBB, got {what!r}")
        instead = np.zeros(0, np.uint8)
        if what not in ("show", "blur"):
            plain = np.zeros((self.height, self.width, 3), np.uint8)
            plain[:] = tuple(bytes.fromhex(colour))
            instead = _to_pixels(_to_video(plain), self.pixels)
        with self._lock:
            self._behind, self._instead = what, instead

    @property
    def needs_show(self) -> bool:
        """Whether the next frame shows what `over` is given; otherwise it needs not be made."""
        with self._lock:
            return self._behind == "show" or not self._instead.size or not (self._has_person or self._fresh is not None)

    @property
    def control_specs(self) -> tuple[ControlSpec, ...]:
        """The controls."""
        return _SPECS

    @property
    def controls(self) -> dict[str, float]:
        """A copy of the controls' values."""
        with self._lock:
            return dict(self._values)

    def check_control(self, name: str, value: float) -> None:
        """Raise ValueError unless there is such a control and the value is in its range."""
        spec = next((spec for spec in _SPECS if spec.name == name), None)
        if spec is None:
            raise ValueError(f"there is no control {name}; expected {', '.join(spec.name for spec in _SPECS)}")
        if not math.isfinite(value) or not spec.minimum <= value <= spec.maximum:
            raise ValueError(f"{name} must be from {spec.minimum} to {spec.maximum}, got {value}")

    def set_control(self, name: str, value: float) -> None:
        """Set a control from the next frame on.

        Raises:
            ValueError: see `check_control`.
        """
        self.check_control(name, value)
        with self._lock:
            self._values[name] = float(value)
            self._is_changed = True

    def feed_live(self, frame: FrameArray) -> None:
        """Set the live input's frame; it is used from the next frame on until another one arrives.

        Args:
            frame: uint8 (h, w, 3) RGB of any size; copied, and fitted by centre crop and resize.
        """
        picture = load_image(frame, self.width, self.height)
        if self.is_mirrored:
            picture = np.ascontiguousarray(picture[:, ::-1])
        frame = _to_video(picture)
        person = picture if self.pixels == "rgb" else _to_pixels(frame, self.pixels)
        small = _resized(frame, *self._matte_size).to_ndarray()
        blurred = None
        if self._behind == "blur":
            tiny = _resized(frame, max(2, self.width // _BLUR), max(2, self.height // _BLUR))
            blurred = _to_pixels(tiny, self.pixels, (self.width, self.height))
        with self._lock:
            self._fresh = person, small
            if blurred is not None and self._behind == "blur":
                self._instead = blurred

    def over(self, behind: FrameArray) -> FrameArray:
        """Return a frame with the person over it; the frame itself before the first live frame.

        Args:
            behind: uint8 frame of the composite's size and pixels.

        Returns:
            A view, valid until the next call.

        Raises:
            EngineError: an engine failed.
        """
        with self._lock:
            fresh, self._fresh = self._fresh, None
            changed = [self._values[spec.name] for spec in _SPECS] if self._is_changed else None
            self._is_changed = False
            if self._behind != "show" and self._instead.size and (self._has_person or fresh is not None):
                behind = self._instead
        if fresh is not None:
            person, small = fresh
            self._matte.feed_live(small)
            self._session.write(f"{PREFIX}person", person[np.newaxis])
            self._session.write(f"{PREFIX}matte", next(self._matte)[np.newaxis])
            self._has_person = True
        if changed is not None:
            self._session.write(f"{PREFIX}control", np.array([changed], np.float32))
        if not self._has_person:
            return behind
        self._session.write(f"{PREFIX}behind", behind[np.newaxis])
        self._session.run()
        frame: FrameArray = self._session.read(f"{PREFIX}frame")[0]
        return frame

    def close(self) -> None:
        """Free the engines' memory."""
        self._session.close()
        self._matte.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _to_video(picture: FrameArray) -> Any:
    """Return an RGB picture as a frame of the video library, which converts faster than NumPy."""
    import av

    return av.VideoFrame.from_ndarray(picture, format="rgb24")


def _resized(frame: Any, width: int, height: int) -> Any:
    from av.video.reformatter import Interpolation

    return frame.reformat(width, height, "rgb24", interpolation=Interpolation.AREA)


def _to_pixels(frame: Any, pixels: str, size: tuple[int, int] | None = None) -> FrameArray:
    """Return an RGB frame as "rgb" or "i420" (BT.709, limited range), enlarged to a size."""
    from av.video.reformatter import Colorspace, Interpolation

    width, height = size or (frame.width, frame.height)
    kind = "rgb24" if pixels == "rgb" else "yuv420p"
    how = {"interpolation": Interpolation.BICUBIC, "dst_colorspace": Colorspace.ITU709}
    found: FrameArray = frame.reformat(width, height, kind, **how).to_ndarray()
    return found
