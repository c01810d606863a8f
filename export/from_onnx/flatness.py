"""Frames of one colour: what a model makes if its controls start at 0, or if its input is not what it expects.

Nobody wants such a frame. So controls without defaults start at other values where these make a picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace

from export.from_onnx.parity import GOLDEN_FRAMES, OriginalLoop, OriginalRun
from export.from_onnx.plan import ImportPlan

FLAT_LEVELS = 2.0  # standard deviation of a frame's values, of 255; less is one colour to the eye


def first_frames(
    plan: ImportPlan, block: int, tell: Callable[[int], object] = lambda _: None
) -> tuple[OriginalLoop, tuple[str, ...]]:
    """Make the golden frames, with other values of controls that have no defaults if the frames would be flat.

    Args:
        plan: role, type and shape of every tensor; the new defaults are written into its roles.
        block: as of `OriginalLoop`.
        tell: called with the number of frames so far.

    Returns:
        The original in its loop, and sentences for the user.

    Raises:
        ValueError: the model fails, or a frame has values that are not finite.
    """
    loop = _made(plan, block, tell)
    deviation = deviation_of(loop.run)
    if deviation >= FLAT_LEVELS:
        return loop, ()
    roles = dict(plan.step.roles)
    for values in _tries(plan):
        plan.step.roles |= {name: replace(roles[name], values=found) for name, found in values.items()}
        with suppress(ValueError):  # e.g. values that are not finite
            other = _made(plan, block, tell)
            if deviation_of(other.run) >= FLAT_LEVELS:
                return other, tuple(_changed(plan, name, found) for name, found in values.items())
    plan.step.roles |= roles
    return loop, (_advice(plan, deviation),)


def deviation_of(run: OriginalRun) -> float:
    """Return the largest standard deviation of a channel of a frame, in levels of 255."""
    return max(float(frame.std(axis=(0, 1)).max()) for frame in run.frames)


def _made(plan: ImportPlan, block: int, tell: Callable[[int], object]) -> OriginalLoop:
    loop = OriginalLoop(plan, block)
    loop.make(GOLDEN_FRAMES[-1], tell)
    return loop


def _tries(plan: ImportPlan) -> Iterator[Mapping[str, tuple[float, ...]]]:
    """Yield values of the controls without defaults: the middle of the limits, but first one of several alone."""
    step = plan.step
    free = [name for name in step.inputs_of("control") if not step.roles[name].values]
    if not free:
        return
    alone, middle = {}, {}
    for name in free:
        (low, high), count = step.roles[name].limits, step.count(name)
        centre = (low + high) / 2 or high
        rest = min(max(0.0, low), high)
        alone[name] = (high, *[rest] * (count - 1)) if count > 1 else (centre,)
        middle[name] = (centre,) * count
    yield alone
    if middle != alone:
        yield middle


def _changed(plan: ImportPlan, name: str, values: tuple[float, ...]) -> str:
    low, high = plan.step.roles[name].limits
    listed = f"{values[0]:g}" if len(set(values)) == 1 else f"{values[0]:g} and then {values[1]:g}"
    return (
        f'the frame is flat if the control "{name}" starts at 0, so it starts at {listed}; choose its default with '
        f"--role {name}=control:{_example(plan, name, values)}@{low:g}..{high:g}"
    )


def _advice(plan: ImportPlan, deviation: float) -> str:
    told = f"the frame is flat: its standard deviation is {deviation:.2g} of 255 levels"
    for name in plan.step.inputs_of("control"):
        low, high = plan.step.roles[name].limits
        example = _example(plan, name, ((low + high) / 2,))
        return f"{told}; give other defaults, e.g. --role {name}=control:{example}@{low:g}..{high:g}"
    return f"{told}; if it should not be, check the roles and the ranges of the pictures"


def _example(plan: ImportPlan, name: str, values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values[: min(2, plan.step.count(name))])
