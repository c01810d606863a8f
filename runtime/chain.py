"""Chains: each frame of a generator is the live frame of the next one, which changes it.

with Chain.open(["bundles/landscape", "bundles/STYLE"]) as chain:
    for frame in chain:                # as those of a Generator: the frames of the last bundle
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from runtime.bundle.reader import read_manifest
from runtime.chaining.checks import check_links, size_for, unique_names
from runtime.chaining.inputs import ChainInputs
from runtime.chaining.link import ChainLink
from runtime.engines.cache import default_cache_dir
from runtime.engines.cuda_frame import CudaFrame
from runtime.engines.table import count_cores, open_engine
from runtime.errors import EngineError
from runtime.generator import Generator
from runtime.live_frames import FrameArray
from runtime.marking.frame_marker import EngineSettings, FrameMarker
from runtime.pixels.fitting import FrameFitter
from runtime.position import Position


class Chain(ChainInputs):
    """Generators in a row, with the interface of one `Generator`; make one with `Chain.open`.

    Prompts, scenes and the live input are those of the first link, and so is the frame rate. Frames are those of the
    last link. Each later link gets every frame of the link before as its live frame, cropped around its centre and
    resized if the sizes differ, through main memory. Threads may call the same methods as of a `Generator`.

    Args:
        generators: at least one; the chain takes ownership. All but the last make RGB frames, and all but the first
            have a live input.
        mark: payload that the last one's frames carry, as it was opened with; None for none.

    Attributes:
        width, height, pixels: of the frames.
        fps: of the first link.
        on_left_out: called with a sentence, in the thread that makes frames, when a later link has failed in every
            engine; the chain then goes on without it, and frames keep their size and format. None (the default) raises
            EngineError instead.

    Raises:
        ValueError: a generator does not fit.
    """

    def __init__(self, generators: Sequence[Generator], mark: int | None = None) -> None:
        manifests = [generator.manifest for generator in generators]
        check_links(manifests)
        for generator in generators[:-1]:
            if generator.pixels != "rgb":
                raise ValueError(f'{generator.manifest.name} was opened with "{generator.pixels}", expected "rgb"')
        befores = (None, *generators[:-1])
        super().__init__(list(map(ChainLink, generators, unique_names(manifests), befores)))
        last = generators[-1]
        self.width, self.height, self.pixels, self.fps = last.width, last.height, last.pixels, generators[0].fps
        self.on_left_out: Callable[[str], object] | None = None
        self._on_fall_back: Callable[[str], object] = lambda _: None
        self._ending: FrameFitter | None = None  # fits the frames once the last link is left out, and marks them
        self._mark = mark
        self._marker: FrameMarker | None = None

    @classmethod
    def open(
        cls,
        paths: Sequence[str | Path],
        *,
        pixels: str = "rgb",
        size: tuple[int, int] | None = None,
        mark: int | None = None,
        **options: Any,
    ) -> Self:
        """Open the bundles of a chain.

        Args:
            paths: folders of the bundles, the first link first. A bundle may be there more than once.
            pixels: format of the frames, "rgb" or "i420".
            size: (width, height) of the frames in pixels; None for the last bundle's own. Earlier links make frames of
                the next link's size if their bundles can, else of their own.
            mark: payload that the last link's frames carry, see `Generator.open`; None for no mark.
            options: the others of `Generator.open`, for all links.

        Returns:
            The chain, to be closed by the caller; use `with`.

        Raises:
            BundleError, EngineError: as `Generator.open`.
            ValueError: as `Generator.open`, or a bundle does not fit.
        """
        manifests = [read_manifest(Path(path)) for path in paths]
        check_links(manifests, size)
        sizes = [size_for(manifest, then) for manifest, then in pairwise(manifests)]
        with ExitStack() as stack:
            generators = [
                stack.enter_context(Generator.open(path, pixels="rgb", size=own, **options))
                for path, own in zip(paths[:-1], sizes, strict=True)
            ]
            last = Generator.open(paths[-1], pixels=pixels, size=size, mark=mark, **options)
            chain = cls([*generators, stack.enter_context(last)], mark)
            stack.pop_all()  # the chain closes them
        return chain

    @property
    def links(self) -> tuple[Generator, ...]:
        """The generators that make frames now; the chain owns them."""
        return tuple(link.generator for link in self._links)

    @property
    def link_ms(self) -> dict[str, float]:
        """Name of each link -> the median milliseconds that it took for the last 60 frames; callable from any thread.

        A link's name is that of its bundle, with -2, -3 ... if the bundle occurs again.
        """
        return {link.name: link.ms for link in self._links}

    @property
    def engine(self) -> str:
        """The links' engine; several names if they differ."""
        return ", ".join(dict.fromkeys(link.engine for link in self.links))

    @property
    def precision(self) -> str:
        """The links' precision; several names if they differ."""
        return ", ".join(dict.fromkeys(link.precision for link in self.links))

    @property
    def engine_reason(self) -> str:
        """Why each link's engine and precision run."""
        return "; ".join(f"{link.name}: {link.generator.engine_reason}" for link in self._links)

    @property
    def on_fall_back(self) -> Callable[[str], object]:
        """Called with a sentence when another engine takes over in a link, in the thread that makes frames."""
        return self._on_fall_back

    @on_fall_back.setter
    def on_fall_back(self, say: Callable[[str], object]) -> None:
        self._on_fall_back = say
        for link in self._links:
            link.generator.on_fall_back = partial(_say_of, link.name, say)

    @property
    def has_half_detail(self) -> bool:
        """Whether `detail` may be "half"."""
        return any(link.has_half_detail for link in self.links)

    @property
    def detail(self) -> str:
        """What the links that have half detail make frames with: "full" or "half"; see `Generator.detail`."""
        return self.links[0].detail

    @detail.setter
    def detail(self, detail: str) -> None:
        for link in self.links:
            link.detail = detail

    def skip(self, frames: int) -> None:
        """Equivalent to discarding the next `frames` frames.

        Links whose frames a later link with states needs make them, so less time is saved than by `Generator.skip`.

        Args:
            frames: number of frames, at least 0.

        Raises:
            EngineError, ValueError: as `Generator.skip`.
        """
        links = self._links
        with_states = [number for number, link in enumerate(links) if link.generator.manifest.step.inputs_of("state")]
        last = max(with_states, default=0)  # the links after it only have to count

        def feed() -> None:
            frame: FrameArray | None = None
            for link in links[:last]:
                frame = link.make(frame)
            if frame is not None:
                links[last].feed(frame)

        links[last].generator.skip(frames, before_each=feed)
        for link in links[last + 1 :]:
            link.generator.skip(frames)

    def position(self) -> Position:
        """Return where the first link is; see `Generator.position`. Later links begin anew after `go_to`."""
        return self.links[0].position()

    def go_to(self, position: Position) -> None:
        """Go on from a position of the first link; see `Generator.go_to`. States of later links are zeros."""
        first, *others = self.links
        first.go_to(position)
        for link in others:
            link.go_to(replace(link.position(), frame_index=position.frame_index))

    def reset(self, seed: int | None = None) -> None:
        """Go back to frame 0 in every link; see `Generator.reset`."""
        for link in self.links:
            link.reset(seed)

    def device_frame(self) -> CudaFrame:
        """Return the last frame in device memory; see `Generator.device_frame`."""
        if self._ending is not None:
            raise ValueError("there is no frame on a device: the last link was left out")
        return self.links[-1].device_frame()

    def close(self) -> None:
        """Free all engines; closing twice is allowed."""
        with ExitStack() as stack:  # the others even if one fails
            for link in self.links:
                stack.callback(link.close)
            if self._marker is not None:
                stack.callback(self._marker.close)

    def __iter__(self) -> Iterator[FrameArray]:
        return self

    def __next__(self) -> FrameArray:
        """Make the next frame of every link.

        Returns:
            The last link's frame, valid until the next one is made; see `Generator.__next__`.

        Raises:
            EngineError: the engine of a link failed.
            ValueError: the chain is closed.
        """
        frame: FrameArray | None = None
        for link in self._links:
            try:
                frame = link.make(frame)
            except EngineError as error:
                if frame is None or self.on_left_out is None:
                    raise
                self._leave_out(link, error)
        assert frame is not None, "a chain has a first link"
        if self._ending is None:
            return frame
        fitted = self._ending.fit(frame)
        return fitted if self._marker is None else self._marker(fitted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, sentence: str) -> None:
        self._on_fall_back(sentence)

    def _leave_out(self, failed: ChainLink, error: EngineError) -> None:
        """Go on without a later link: the next one gets the frames of the link before it."""
        number = self._links.index(failed)
        self._links = (*self._links[:number], *self._links[number + 1 :])
        before = self._links[number - 1].generator
        if number < len(self._links):
            self._links[number].follow(before)
        else:
            self._ending = FrameFitter((before.width, before.height), (self.width, self.height), self.pixels)
            if self._mark is not None:
                settings = EngineSettings(open_engine(before.engine), count_cores(), default_cache_dir())
                self._marker = FrameMarker.of_payload(
                    self._mark, self.width, self.height, self.pixels, settings, self._tell
                )
        with suppress(EngineError):  # freeing a failed engine may fail too
            failed.generator.close()
        if self.on_left_out is not None:
            self.on_left_out(f"{failed.name} is left out from now on: {error}")


FrameSource = Generator | Chain  # what makes the frames of a show


def _say_of(name: str, say: Callable[[str], object], sentence: str) -> None:
    say(f"{name}: {sentence}")
