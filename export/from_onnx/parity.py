"""The original model in a closed loop, with the inputs that the runtime gives the bundle from the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from threading import Condition

import numpy as np
import numpy.typing as npt

from export.from_onnx.graphs import latent_inputs
from export.from_onnx.original import Array, decode_picture, encode_picture
from export.from_onnx.plan import ImportPlan
from export.from_onnx.planned_graph import PlannedGraph
from export.from_onnx.text_inputs import EXAMPLE_TEXT
from runtime.golden import golden_mask
from runtime.noise import CODES, FRAMES, normals

SEED = 7
GOLDEN_FRAMES = (1, 4, 8)
LONG_LOOP = 300  # frames of a model with states, in which small errors can accumulate
LIVE_FRAMES = 5  # of the test clip, which repeats; no divisor of 8, so that golden frames differ
RANGE_MARGIN = 0.25  # share of a range by which values may leave it
FLAT_SHARE = 0.01  # of a range; a frame whose values span less is of one colour
MAX_OUTSIDE = 0.02  # share of a frame's values outside the range and its margin

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class OriginalRun:
    """Frames and inputs of the original model.

    Args:
        frames: uint8 (H, W, 3) each, from frame 1 on.
        image: the prompt's image, uint8 (H, W, 3), or None.
        live: the live input, uint8 (T, h, w, 3), repeated; or None.
        text: the prompt's text, or None.
        low, high: lowest and highest value of the frames, where 0 is black and 1 is white.
        outside: largest share of a frame's values outside [0, 1] by more than `RANGE_MARGIN`.
    """

    frames: list[Pixels]
    image: Pixels | None
    live: Pixels | None
    low: float
    high: float
    outside: float
    text: str | None = None


class OriginalLoop:
    """The original model in a closed loop: one thread makes its frames, and another may wait for them.

    Args:
        plan: role, type and shape of every tensor.
        block: side of the blocks of pixels that the live test pattern consists of.
    """

    def __init__(self, plan: ImportPlan, block: int = 1) -> None:
        self.plan = plan
        self._image = self._live = None
        if plan.step.inputs_of("image") or (plan.first is not None and plan.first.inputs_of("image")):
            self._image = moving_frames(*plan.size, 1, start=3)[0]
        for name in plan.step.inputs_of("live"):
            self._live = moving_frames(*plan.step.pictures[name].size, LIVE_FRAMES, block=block)
        self._text = None if plan.text is None else EXAMPLE_TEXT
        self._values = _loop(plan, self._image, self._live, self._text)
        self._frames: list[Pixels] = []
        self._low, self._high, self._outside = np.inf, -np.inf, 0.0
        self._changed = Condition()
        self._error: BaseException | None = None
        self._is_stopped = False

    @property
    def run(self) -> OriginalRun:
        """The frames that were made so far."""
        with self._changed:
            frames = list(self._frames)
        return OriginalRun(frames, self._image, self._live, self._low, self._high, self._outside, self._text)

    def make(self, count: int, tell: Callable[[int], object] = lambda _: None) -> None:
        """Make frames until there are `count`; calls `tell` with the number so far.

        Raises:
            ValueError: the model fails, or a frame has values that are not finite.
        """
        try:
            while len(self._frames) < count and not self._is_stopped:
                tell(len(self._frames))
                frame = self._next()
                with self._changed:
                    self._frames.append(frame)
                    self._changed.notify_all()
        except BaseException as error:
            with self._changed:
                self._error = error
                self._changed.notify_all()
            raise

    def stop(self) -> None:
        """Let `make` of another thread end after the frame that it makes."""
        self._is_stopped = True

    def frames(self, count: int) -> Iterator[Pixels]:
        """Yield the first `count` frames; waits for those that another thread still has to make.

        Raises:
            ValueError: that thread failed.
        """
        for number in range(count):
            with self._changed:
                while len(self._frames) <= number and self._error is None:
                    self._changed.wait()
                if len(self._frames) <= number and self._error is not None:
                    raise self._error
                frame = self._frames[number]
            yield frame

    def _next(self) -> Pixels:
        plan, values = self.plan, next(self._values)
        if not np.isfinite(values).all():
            raise ValueError(f'the frame "{plan.frame}" has values that are not finite: check --role and its range')
        frame, planes = decode_picture(values, plan.step.pictures[plan.frame], plan.size)
        self._low, self._high = min(self._low, float(planes.min())), max(self._high, float(planes.max()))
        outside = float(np.mean((planes < -RANGE_MARGIN) | (planes > 1 + RANGE_MARGIN)))
        self._outside = max(self._outside, outside)
        return frame


def loop_length(plan: ImportPlan, loop_frames: int = LONG_LOOP) -> int:
    """Return how many frames are compared: up to the last golden one, or `loop_frames` of a model with states."""
    return loop_frames if plan.step.inputs_of("state") else GOLDEN_FRAMES[-1]


def check_range(plan: ImportPlan, run: OriginalRun, *, is_whole: bool = True) -> None:
    """Check that the frame's values match its range, if the range was assumed.

    Args:
        plan: of the import.
        run: frames of the original.
        is_whole: whether these are all; the states of a model may still have to fill with values.

    Raises:
        ValueError: they do not match.
    """
    if plan.frame not in plan.assumed:
        return
    picture = plan.step.pictures[plan.frame]
    black, white = (float(end.mean()) for end in picture.black_and_white())
    low, high = (black + value * (white - black) for value in (run.low, run.high))
    told = f'the frame "{plan.frame}" goes from {low:.3g} to {high:.3g}'
    if run.outside > MAX_OUTSIDE:
        raise ValueError(
            f"{told}, which is not the range {picture.range}: give its range, e.g. --role {plan.frame}=frame:0..255"
            f"{_doubted_inputs(plan)}"
        )
    # Pictures in -1..1 have values below 0 almost everywhere; a frame of one value says nothing.
    is_half = picture.range == "-1..1" and low >= 0 and high - low > FLAT_SHARE * (white - black)
    if is_whole and is_half and plan.bounded_by == "Tanh":
        raise ValueError(
            f"{told} and never below 0, which may not be the range -1..1 that was assumed as it ends in Tanh: give its "
            f"range, e.g. --role {plan.frame}=frame:0..1{_doubted_inputs(plan)}"
        )


def _doubted_inputs(plan: ImportPlan) -> str:
    """Return the end of the message about a frame's values: what the model was given may be wrong instead."""
    stages = [plan.step] if plan.first is None else [plan.first, plan.step]
    given = [
        (stage.roles[name].kind, name, stage.pictures[name])
        for stage in stages
        for name in stage.inputs_of("live", "image")
    ]
    if not given:
        return ""
    formats = " and ".join(
        f'"{name}" got {picture.order} in the range {picture.range}{", assumed" if name in plan.assumed else ""}'
        for _, name, picture in given
    )
    kind, name, picture = given[0]
    other = "0..1" if picture.range == "0..255" else "0..255"
    return (
        f"; or the input's range or colour order is wrong ({formats}): try another range (0..255, -1..1, imagenet) or "
        f"bgr, e.g. --role {name}={kind}:bgr,{other}"
    )


def moving_frames(height: int, width: int, count: int, start: int = 0, block: int = 1) -> Pixels:
    """Return a moving test pattern, uint8 (count, height, width, 3): gradients, waves, an edge and a disc.

    It consists of blocks of `block` x `block` equal pixels, so that a large one can be packed small.
    """
    y, x = np.mgrid[0:height, 0:width] // block * block / max(height, width)
    frames = []
    for moment in range(start, start + count):
        disc = np.hypot(x - 0.3 - 0.05 * moment, y - 0.4) < 0.15
        planes = [x, y, 0.5 + 0.4 * np.sin(20 * (x + y) + moment)]
        picture = np.stack([np.where(disc, 1 - plane, plane) for plane in planes], axis=-1)
        frames.append(np.where((x > 0.7)[..., np.newaxis], picture * 0.4, picture))
    return (np.stack(frames).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _loop(plan: ImportPlan, image: Pixels | None, live: Pixels | None, text: str | None) -> Iterator[Array]:
    """Yield the model's frame tensor, with the inputs that the runtime gives the bundle."""
    drawn = latent_inputs(plan)
    codes = _rows(drawn, CODES, 0)
    memory = {name: codes[place] for place, (stage, name) in enumerate(drawn) if stage is plan.step}
    if plan.first is not None:
        feeds = {name: np.zeros(shape, dtype) for name, (dtype, shape) in plan.first.unused.items()}
        feeds |= {name: plan.first.value(name) for name in plan.first.inputs}
        feeds |= {name: codes[place] for place, (stage, name) in enumerate(drawn) if stage is plan.first}
        feeds |= _pictures(plan.first, "image", image)
        feeds |= {} if plan.text is None else plan.text.feeds(plan.first.inputs, text)
        made = plan.first.original.run(feeds, list(dict.fromkeys(plan.memories.values())))
        memory |= {name: made[output].astype(plan.step.inputs[name][0]) for name, output in plan.memories.items()}
    step = plan.step
    fixed = {name: step.value(name) for name in step.inputs_of("control", "fixed", "state")}
    # The original file also needs the inputs that the frame does not depend on.
    unused = {name: np.zeros(shape, dtype) for name, (dtype, shape) in step.unused.items()}
    states = {name: fixed[name] for name in step.inputs_of("state")}
    encoded = [] if live is None else [_pictures(step, "live", picture) for picture in live]
    frame = 0
    while True:
        feeds = {**unused, **fixed, **memory, **states, **_pictures(step, "image", image)}
        noises = [(step, name) for name in step.inputs_of("noise")]
        feeds |= {name: row for (_, name), row in zip(noises, _rows(noises, FRAMES, frame), strict=True)}
        if live is not None:
            feeds |= encoded[frame % len(encoded)]
            feeds |= _pictures(step, "mask", golden_mask(frame, *live.shape[1:3])[..., np.newaxis])
        found = step.original.run(feeds, list(step.outputs))
        states = {name: found[step.roles[name].output] for name in states}
        yield found[plan.frame]
        frame += 1


def _pictures(stage: PlannedGraph, role: str, pixels: Pixels | None) -> dict[str, Array]:
    if pixels is None:
        return {}
    return {name: encode_picture(pixels, stage.pictures[name]) for name in stage.inputs_of(role)}


def _rows(parts: list[tuple[PlannedGraph, str]], stream: int, frame: int) -> list[Array]:
    """Draw one row of noise and split it into inputs, in order."""
    counts = [stage.count(name) for stage, name in parts]
    row = normals(SEED, stream, frame, sum(counts)) if parts else np.zeros(0, np.float32)
    cuts = np.split(row, np.cumsum(counts)[:-1]) if parts else []
    return [
        cut.reshape(stage.inputs[name][1]).astype(stage.inputs[name][0])
        for cut, (stage, name) in zip(cuts, parts, strict=True)
    ]
