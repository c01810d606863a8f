"""Puts the person of a live input over frames: a matte bundle cuts the person out, the compositing stage blends."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from runtime.bundle.controls import ControlSpec
from runtime.compositing.controls import SPECS, edge_of
from runtime.compositing.light import Light, light_size
from runtime.compositing.placement import Placement, matrices, moved, place
from runtime.compositing.stage import PREFIX, build_composite_stage, composite_inputs, composite_outputs
from runtime.control_values import ControlValues
from runtime.engines.cache import default_cache_dir
from runtime.engines.engine import Program, Session
from runtime.engines.table import count_cores, open_engine
from runtime.generator import Generator
from runtime.marking.frame_marker import EngineSettings, FrameMarker
from runtime.marking.graph import with_mark
from runtime.marking.plane import PLANE, make_plane, plane_input
from runtime.pixels.assemble import check_size
from runtime.pixels.video_frames import KeptFrame, resized, to_pixels, to_small, to_video
from runtime.prompts.images import load_image

FrameArray = npt.NDArray[np.uint8]
_BLUR = 24  # a blurred background is reduced by this, and enlarged again


class _LiveFrame(NamedTuple):
    """A live frame, converted: the person's frame, what the matte sees, its place, and whether it is to be lit."""

    person: FrameArray
    small: FrameArray
    to: Placement
    is_lit: bool


class Composite:
    """Blends a person over frames; use `open`.

    `update`, `over`, `background` and `close` belong to one thread, everything else to any thread. Colours are BT.709,
    limited range in "i420".

    Args:
        matte: generator whose live input becomes a matte: frames that are white where the person is.
        width, height: of the frames in pixels, even.
        pixels: format of the frames, "rgb" or "i420".
        threads: CPU threads per frame; None for all cores.
        cache_dir: folder for compiled graphs; None for the default.
        mark: payload that frames carry (`runtime.marking`); None for no mark.

    Attributes:
        is_mirrored: whether the live input is mirrored.
        keeps_blurred: whether `blurred` is kept up to date although it is not behind the person.
        person_share: share of the live picture that the person takes, 0 to 1; 0 before the first live frame.

    Raises:
        EngineError: the matte's engine refused the graph.
        ValueError: the bundle has no live input or makes no RGB frames, or the size or the payload is not allowed.
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
        mark: int | None = None,
    ) -> None:
        check_size((width, height))
        if not matte.has_live_input or matte.pixels != "rgb":
            raise ValueError(
                f"{matte.manifest.name} is no matte: it must turn a live input into frames that are white where the "
                "person is"
            )
        self.width, self.height, self.pixels, self._matte = width, height, pixels, matte
        self._matte_size = matte.width, matte.height
        folder = Path(cache_dir) if cache_dir is not None else default_cache_dir()
        settings = EngineSettings(open_engine(matte.engine), threads or count_cores(), folder)
        frame = composite_outputs(width, height, pixels, self._matte_size)[0]
        self._plane = None if mark is None else make_plane(mark, frame)
        self._marker = None if self._plane is None else FrameMarker(self._plane, frame, settings, self._tell)
        self._open_stage = self._stage_opener(settings)
        self._stages = {False: self._open_stage(False)}  # by whether it is lit; the lit one is opened when it is needed
        self._is_lit = False
        self._light = Light(width, height, pixels, self._matte_size)
        self._lock = threading.Lock()
        self._feeding = threading.Lock()  # of what converts a live frame
        self._kept = KeptFrame(width, height)
        self._controls = ControlValues(SPECS)
        self._written: dict[str, object] = {}  # what the stage in use was told last
        self._fresh: _LiveFrame | None = None
        self._person: FrameArray | None = None
        self._behind = "show"
        self._frames: dict[str, FrameArray] = {}  # behind the person instead of the show: "blur", "picture", "colour"
        self.is_mirrored = self.keeps_blurred = False
        self.person_share = 0.0

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
        mark: int | None = None,
    ) -> Self:
        """Open a matte bundle, and the compositing stage in the same engine.

        Args:
            bundle: folder of the matte bundle.
            width, height, pixels, threads, cache_dir, mark: as in the constructor.
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
            return cls(matte, width, height, pixels=pixels, threads=threads, cache_dir=cache_dir, mark=mark)
        except BaseException:
            matte.close()
            raise

    @property
    def wants_live(self) -> bool:
        """Whether the live frame that was fed last has been used."""
        return self._fresh is None

    @property
    def on_fall_back(self) -> Callable[[str], object]:
        """Called with a sentence when another engine takes over in the matte, in the thread that makes frames."""
        return self._matte.on_fall_back

    @on_fall_back.setter
    def on_fall_back(self, say: Callable[[str], object]) -> None:
        self._matte.on_fall_back = say

    @property
    def behind(self) -> str:
        """What is behind the person: "show", "blur" (the live input, blurred), "picture" or a colour as "RRGGBB".

        "green" is short for "00b140", a common green for keying. "picture" is what `feed_behind` was given last.
        """
        return self._behind

    @behind.setter
    def behind(self, what: str) -> None:
        colour = {"green": "00b140"}.get(what, what)
        is_known = what in ("show", "blur") or (what == "picture" and what in self._frames)
        if not is_known and re.fullmatch("[0-9A-Fa-f]{6}", colour) is None:
            raise ValueError(f"behind the person is show, blur, green or a colour as RRGGBB, got {what!r}")
        plain = None
        if not is_known:
            picture = np.zeros((self.height, self.width, 3), np.uint8)
            picture[:] = tuple(bytes.fromhex(colour))
            plain = to_pixels(to_video(picture), self.pixels)
        with self._lock:
            self._behind = what
            if plain is not None:
                self._frames["colour"] = plain

    @property
    def needs_show(self) -> bool:
        """Whether the next frame shows what `over` is given; otherwise it needs not be made."""
        return self._instead() is None

    @property
    def blurred(self) -> FrameArray | None:
        """The live input, blurred, as a frame; None before the first one, and where nothing keeps it."""
        return self._frames.get("blur")

    @property
    def control_specs(self) -> tuple[ControlSpec, ...]:
        """The controls."""
        return SPECS

    @property
    def controls(self) -> dict[str, float]:
        """A copy of the controls' values."""
        return self._controls.copy()

    def check_control(self, name: str, value: float) -> None:
        """Raise ValueError unless there is such a control and the value is in its range."""
        self._controls.check(name, value)

    def set_control(self, name: str, value: float) -> None:
        """Set a control from the next frame on; place, size and light from the next live frame on.

        Raises:
            ValueError: see `check_control`.
        """
        self._controls.set(name, value)

    def feed_live(self, frame: FrameArray) -> None:
        """Set the live input's frame; it is used from the next frame on until another one arrives.

        Args:
            frame: uint8 (h, w, 3) RGB of any size; copied, and fitted by centre crop and resize.

        Raises:
            EngineError: the engine refused the graph for light, which is opened when it is needed first.
        """
        values = self._controls.copy()
        to = place(self.width, self.height, values["matte.x"], values["matte.y"], values["matte.size"])
        is_lit = values["matte.wrap"] > 0 or values["matte.tone"] > 0
        if is_lit and True not in self._stages:
            self._stages[True] = self._open_stage(True)
        fits = frame.shape == (self.height, self.width, 3) and frame.dtype == np.uint8
        picture = frame if fits else load_image(frame, self.width, self.height)
        if self.is_mirrored:
            picture = np.ascontiguousarray(picture[:, ::-1])
        with self._feeding:
            fresh, blurred = self._converted(picture, to, is_lit=is_lit)
        with self._lock:
            self._fresh = fresh
            if blurred is not None:
                self._frames["blur"] = blurred

    def feed_behind(self, picture: FrameArray) -> None:
        """Set the picture that `behind` calls "picture", until another one arrives.

        Args:
            picture: uint8 (h, w, 3) RGB of any size; copied, and fitted by centre crop and resize.
        """
        fitted = load_image(picture, self.width, self.height)
        frame = fitted if self.pixels == "rgb" else to_pixels(to_video(fitted), self.pixels)
        with self._lock:
            self._frames["picture"] = frame

    def forget_live(self) -> None:
        """Forget the live input, e.g. because it is lost: no person and nothing blurred until the next `feed_live`."""
        with self._lock:
            self._fresh = self._person = None
            self._frames.pop("blur", None)
        self.person_share = 0.0

    def update(self) -> None:
        """Find the person in the live frame, if there is a new one; `over` does this as well.

        Raises:
            EngineError: an engine failed.
        """
        with self._lock:
            fresh, self._fresh = self._fresh, None
        if fresh is None:
            return
        self._matte.feed_live(fresh.small)
        matte = next(self._matte)
        stage = self._switch(fresh.is_lit)
        stage.write(f"{PREFIX}person", fresh.person[np.newaxis])
        stage.write(f"{PREFIX}matte", matte[np.newaxis])
        if self._is_new("to", fresh.to):
            self._write_place(stage, fresh)
        if fresh.is_lit:
            self._light.see(fresh.person, matte[..., 0], fresh.to)
        self.person_share = float(np.count_nonzero(matte[..., 0] > 127)) / matte[..., 0].size
        self._person = fresh.person

    def background(self, show: FrameArray) -> FrameArray:
        """Return what `over` blends the person over: the given frame of the show, or what is shown instead."""
        instead = self._instead()
        return show if instead is None else instead

    def over(self, show: FrameArray) -> FrameArray:
        """Return a frame with the person over it, and with the mark; without a person what is behind.

        Args:
            show: uint8 frame of the composite's size and pixels; not shown if something else is behind the person.

        Returns:
            A view, valid until the next call.

        Raises:
            EngineError: an engine failed.
        """
        self.update()
        behind = self.background(show)
        if self._person is None:
            return self.marked(behind)
        stage, values = self._stages[self._is_lit], self._controls.copy()
        if self._is_new("edge", edge := edge_of(values)):
            stage.write(f"{PREFIX}control", np.array([edge], np.float32))
        if self._is_lit:
            for name, value in self._light.update(behind, values["matte.wrap"], values["matte.tone"]).items():
                stage.write(PREFIX + name, value)
        stage.write(f"{PREFIX}behind", behind[np.newaxis])
        stage.run()
        frame: FrameArray = stage.read(f"{PREFIX}frame")[0]
        return frame

    def marked(self, frame: FrameArray) -> FrameArray:
        """Return a frame that `over` has not made with the mark; valid until the next call. Without a mark, itself."""
        return frame if self._marker is None else self._marker(frame)

    def close(self) -> None:
        """Free the engines' memory."""
        for stage in self._stages.values():
            stage.close()
        if self._marker is not None:
            self._marker.close()
        self._matte.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _instead(self) -> FrameArray | None:
        """Return what is behind the person instead of the show; None for the show."""
        with self._lock:
            what = self._behind
            return self._frames.get(what if what in ("show", "blur", "picture") else "colour")

    def _converted(self, picture: FrameArray, to: Placement, *, is_lit: bool) -> tuple[_LiveFrame, FrameArray | None]:
        """Return a live picture, converted, and blurred if somebody needs that."""
        video = self._kept.write(picture)
        small = to_small(video, *self._matte_size)
        blurred = None
        if self._behind == "blur" or self.keeps_blurred:
            tiny = resized(video, max(2, self.width // _BLUR), max(2, self.height // _BLUR))
            blurred = to_pixels(tiny, self.pixels, (self.width, self.height))
        is_whole = to == (0, 0, self.width, self.height)
        if self.pixels == "rgb" and is_whole:
            person = picture.copy()
        else:
            person = to_pixels(video, self.pixels, (to.width, to.height))
        if not is_whole:
            person = moved(person, to, self.width, self.height)
        return _LiveFrame(person, small, to, is_lit), blurred

    def _tell(self, sentence: str) -> None:
        self.on_fall_back(sentence)

    def _stage_opener(self, settings: EngineSettings) -> Callable[[bool], Session]:
        spec = (self.width, self.height, self.pixels, self._matte_size)
        states, plane = ((f"{PREFIX}before", f"{PREFIX}after"),), self._plane

        def open_stage(is_lit: bool) -> Session:
            model, inputs = build_composite_stage(*spec, is_lit=is_lit), composite_inputs(*spec, is_lit=is_lit)
            outputs = composite_outputs(*spec)
            if plane is not None:
                model, inputs = with_mark(model, outputs[0]), (*inputs, plane_input(outputs[0]))
            program = Program(model.SerializeToString(), inputs, outputs, states)
            stage = settings.engine.open(program, "fp32", settings.threads, settings.folder)
            if plane is not None:
                stage.write(PLANE, plane)
            return stage

        return open_stage

    def _switch(self, is_lit: bool) -> Session:
        """Return the lit or the other stage, which continues where the one in use stands."""
        stage = self._stages[is_lit]
        if is_lit != self._is_lit:
            if self._person is not None:
                stage.write(f"{PREFIX}before", self._stages[self._is_lit].read(f"{PREFIX}after"))
            self._is_lit = is_lit
            self._written.clear()
        return stage

    def _write_place(self, stage: Session, live: _LiveFrame) -> None:
        frame = (self.width, self.height)
        sizes = {"": (self.width // 2, self.height // 2)}
        if live.is_lit:
            sizes["light_"] = light_size(self._matte_size)
        for kind, size in sizes.items():
            rows, columns = matrices(live.to, frame, self._matte_size, size)
            stage.write(f"{PREFIX}{kind}rows", rows[np.newaxis, np.newaxis])
            stage.write(f"{PREFIX}{kind}columns", columns[np.newaxis, np.newaxis])

    def _is_new(self, name: str, value: object) -> bool:
        """Return whether the stage in use has another value, and note this one."""
        is_new = self._written.get(name) != value
        self._written[name] = value
        return is_new
