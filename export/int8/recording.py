"""The step graph's real inputs: runs a bundle's own scenes, golden prompts and test patterns, and records them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from export.int8.moves import count_moves, live_pattern, moved_frames, show_scene
from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import Bundle
from runtime.bundle.tensors import GraphSpec
from runtime.engines.engine import Array, BufferedSession, Session
from runtime.engines.opening import OpenedEngine, open_sessions
from runtime.engines.table import choose_engine
from runtime.generator import Generator
from runtime.golden import load_golden
from runtime.pixels.assemble import with_size
from runtime.prompts.images import load_image
from runtime.prompts.prompt_text import prepare_encoder

Feeds = dict[str, Array]
SEED = 1_000_003  # of the shows; golden files have others, so that they stay a test
_MAX_PROMPTS = 16  # scenes and golden prompts that are played
MAX_BYTES = 4 * 2**30  # of the inputs that are kept


class RecordingSession:
    """A step session that copies the inputs of each run.

    Args:
        session: does the work; owned from now on.
        names: the inputs to copy.
        keep: gets a copy for each run.
    """

    def __init__(self, session: BufferedSession, names: set[str], keep: Callable[[Feeds], object]) -> None:
        self._session, self._names, self._keep = session, names, keep
        self._inner: Any = session

    def write(self, name: str, value: Array) -> None:
        """Write an input."""
        self._session.write(name, value)

    def run(self) -> None:
        """Copy the inputs and evaluate the graph."""
        inputs = self._session.turns[self._session.turn][0]
        self._keep({name: value.copy() for name, value in inputs.items() if name in self._names})
        self._inner.run()

    def read(self, name: str) -> Array:
        """Read an output."""
        return self._session.read(name)

    def reset(self) -> None:
        """Set the states to zeros."""
        self._session.reset()

    def close(self) -> None:
        """Close the session."""
        self._inner.close()


def most_frames(manifest: Manifest, graph: GraphSpec) -> int:
    """Return how many frames can be recorded: the inputs of a step graph of the bundle fit into `MAX_BYTES`."""
    frame_bytes = sum(math.prod(item.shape) * np.dtype(item.dtype).itemsize for item in graph.inputs)
    return max(1, MAX_BYTES // max(1, frame_bytes) - count_moves(manifest))


def record_feeds(
    bundle: Bundle, frames: int, graph: GraphSpec, size: tuple[int, int], advance: Callable[[float], None]
) -> list[Feeds]:
    """Play a bundle in ONNX Runtime (FP32) and return the inputs of its step graph.

    Args:
        bundle: as `open_bundle` returns it.
        frames: to record, shared among the prompts, at least one each; at most `most_frames`.
        graph: the step graph of the bundle whose inputs are wanted.
        size: (width, height) of the frames in pixels.
        advance: called with the completed share, 0 to 1.

    Returns:
        One set of inputs per frame, by name; the last ones, beyond `frames`, are those of `moved_frames`.

    Raises:
        BundleError, EngineError: the bundle cannot be played.
    """
    feeds: list[Feeds] = []
    with _open(bundle, size, {item.name for item in graph.inputs}, feeds.append) as generator:
        prompts = list(islice(_prompts(bundle, generator), min(_MAX_PROMPTS, most_frames(bundle.manifest, graph))))
        share, rest = divmod(max(frames, len(prompts)), len(prompts))
        count = max(frames, len(prompts)) + count_moves(bundle.manifest)
        for place, start in enumerate(prompts):
            generator.reset(seed=SEED + place)
            live = start(generator)
            for number in range(share + (place < rest)):
                if live is not None:
                    generator.feed_live(live[number % len(live)])
                next(generator)
                advance(len(feeds) / count)
        if count_moves(bundle.manifest):
            generator.reset(seed=SEED + len(prompts))
            prompts[0](generator)
            for _ in moved_frames(generator):
                advance(len(feeds) / count)
    return feeds


Start = Callable[[Generator], "npt.NDArray[np.uint8] | None"]  # gives a prompt; returns the live frames


def _prompts(bundle: Bundle, generator: Generator) -> Iterator[Start]:
    manifest, size = bundle.manifest, (generator.width, generator.height)
    yield lambda generator: _seeded(generator, None)
    for spec in manifest.golden:
        has_prompt = spec.image or spec.clip or spec.text is not None
        if has_prompt or spec.live:
            yield lambda generator, spec=spec: _golden(bundle, generator, spec)  # type: ignore[misc]
    for scene in manifest.scenes:
        picture = bundle.path / scene.picture
        yield lambda generator, picture=picture: _seeded(generator, load_image(picture, *size))  # type: ignore[misc]


def _seeded(generator: Generator, image: npt.NDArray[np.uint8] | None) -> npt.NDArray[np.uint8] | None:
    if generator.manifest.condition is not None:
        show_scene(generator, image)
    return live_pattern(generator.manifest, start=9)


def _golden(bundle: Bundle, generator: Generator, spec: Any) -> npt.NDArray[np.uint8] | None:
    content = load_golden(bundle.path, spec, bundle.manifest)
    if spec.image or spec.clip or spec.text is not None:
        image = content.image
        if image is not None and image.shape[:2] != (generator.height, generator.width):
            image = load_image(image, generator.width, generator.height)
        clip = content.clip
        if clip is not None and clip.shape[1:3] != (generator.height, generator.width):
            clip = np.stack([load_image(frame, generator.width, generator.height) for frame in clip])
        generator.condition(image=image, past=clip, text=spec.text)
    return content.live if content.live is not None else live_pattern(generator.manifest)


def _open(bundle: Bundle, size: tuple[int, int], names: set[str], keep: Callable[[Feeds], object]) -> Generator:
    """Open a bundle as `Generator.open` does, with a step session that records its inputs."""
    choice = choose_engine("onnxruntime", "fp32")
    sized = with_size(replace(bundle, int8=None), size, "rgb")
    step, condition = open_sessions(sized, choice.engine, "fp32", pixels="rgb", threads=None, cache_dir=None)
    assert isinstance(step, BufferedSession), "ONNX Runtime keeps its tensors in main memory"
    recording: Session = RecordingSession(step, names, keep)
    return Generator(
        sized.manifest,
        OpenedEngine(choice, recording, condition),
        renewal=False,
        open_text_encoder=prepare_encoder(sized.path, sized.manifest),
        folder=sized.path,
    )
