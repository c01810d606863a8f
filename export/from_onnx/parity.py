"""Parity of an imported bundle: the model as it was given beside the bundle, frame by frame, from the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from export.from_onnx.graphs import latents
from export.from_onnx.original import Array, feed_picture, read_picture
from export.from_onnx.plan import ImportPlan
from export.from_onnx.planned_graph import PlannedGraph
from export.parity.checks import GATES_DB, IDENTICAL_DB, ParityCheck
from runtime import Generator
from runtime.golden import psnr_db
from runtime.noise import CODES, FRAMES, normals

SEED = 7
GOLDEN_FRAMES = (1, 4, 8)
LONG_LOOP = 300  # frames of a model with states: what differs a little in one may differ a lot after many
LIVE_FRAMES = 5  # of the test clip, which is repeated: no divisor of 8, so that every round differs
OUTSIDE = 0.25  # of a range: values further out than this do not belong to it
MANY = 0.02  # of the values

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class OriginalRun:
    """What the original made.

    Args:
        frames: uint8 (H, W, 3) each, from frame 1 on.
        image: what it was conditioned on, uint8 (H, W, 3), or None.
        live: what it was fed in turn, uint8 (T, h, w, 3), or None.
        low, high: the lowest and the highest value of its pictures, where 0 is black and 1 is white.
        outside: share of the values far outside of that.
    """

    frames: list[Pixels]
    image: Pixels | None
    live: Pixels | None
    low: float
    high: float
    outside: float


def run_original(plan: ImportPlan) -> OriginalRun:
    """Run the model as it was given: as long as the golden frames ask for, or `LONG_LOOP` frames if it has states.

    Args:
        plan: says what every tensor is.

    Raises:
        ValueError: the model fails, or gives another shape than before.
    """
    image = None
    if plan.step.of("image") or (plan.first is not None and plan.first.of("image")):
        image = moving_frames(*plan.size, 1, start=3)[0]
    live = None
    for name in plan.step.of("live"):
        live = moving_frames(*plan.step.pictures[name].size, LIVE_FRAMES)
    frames, low, high, outside = [], np.inf, -np.inf, 0.0
    loop = _loop(plan, image, live)
    for _ in range(LONG_LOOP if plan.step.of("state") else GOLDEN_FRAMES[-1]):
        values = next(loop)
        if not np.isfinite(values).all():
            raise ValueError(f'the frame "{plan.frame}" has values that are not finite: check --role and its range')
        frame, planes = read_picture(values, plan.step.pictures[plan.frame], plan.size)
        frames.append(frame)
        low, high = min(low, float(planes.min())), max(high, float(planes.max()))
        outside = max(outside, float(np.mean((planes < -OUTSIDE) | (planes > 1 + OUTSIDE))))
    return OriginalRun(frames, image, live, low, high, outside)


def check_range(plan: ImportPlan, run: OriginalRun) -> None:
    """Refuse a range of the frame that was only assumed and that its values do not keep to.

    Raises:
        ValueError: they do not.
    """
    if plan.frame in plan.assumed and run.outside > MANY:
        picture = plan.step.pictures[plan.frame]
        black, white = (float(end.mean()) for end in picture.black_and_white())
        low, high = (black + value * (white - black) for value in (run.low, run.high))
        raise ValueError(
            f'the frame "{plan.frame}" goes from {low:.3g} to {high:.3g}, which is not the range {picture.range}: say '
            f"its range, e.g. --role {plan.frame}=frame:0..255"
        )


def write_golden(folder: Path, run: OriginalRun) -> dict[str, Any]:
    """Write golden/original.npz and return the manifest's entry for it."""
    arrays: dict[str, Any] = {
        "frames": np.stack([run.frames[number - 1] for number in GOLDEN_FRAMES]),
        "indices": np.array(GOLDEN_FRAMES, np.int32),
    }
    entry: dict[str, Any] = {
        "file": "golden/original.npz",
        "seed": SEED,
        "image": run.image is not None,
        "frames": list(GOLDEN_FRAMES),
    }
    if run.image is not None:
        arrays["image"] = run.image
    if run.live is not None:
        arrays["live"] = run.live
        entry["live"] = True
    (folder / "golden").mkdir()
    np.savez_compressed(folder / "golden" / "original.npz", **arrays)
    return entry


def closed_loop(bundle: Path, engine: str, precision: str, run: OriginalRun) -> ParityCheck:
    """Run the bundle through the runtime beside what the original made.

    Args:
        bundle: a complete bundle.
        engine: name of the engine.
        precision: "fp32" or "bf16".
        run: the original's.

    Raises:
        EngineError: the engine refused the graph.
    """
    values = []
    with Generator.open(bundle, engine=engine, precision=precision, renewal=False, seed=SEED) as generator:
        if run.image is not None:
            generator.condition(image=run.image)
        for number, frame in enumerate(run.frames):
            if run.live is not None:
                generator.feed_live(run.live[number % len(run.live)])
            values.append(min(psnr_db(next(generator), frame), IDENTICAL_DB))
        used = generator.precision
    return ParityCheck(
        engine,
        used,
        "the original, closed loop",
        len(values),
        min(values),
        float(np.mean(values)),
        GATES_DB[used],
        "dB",
    )


def moving_frames(height: int, width: int, count: int, start: int = 0) -> Pixels:
    """Return frames of a moving test picture, uint8 (count, height, width, 3): gradients, waves, an edge and a disc."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    frames = []
    for time in range(start, start + count):
        disc = np.hypot(x - 0.3 - 0.05 * time, y - 0.4) < 0.15
        planes = [x, y, 0.5 + 0.4 * np.sin(20 * (x + y) + time)]
        picture = np.stack([np.where(disc, 1 - plane, plane) for plane in planes], axis=-1)
        frames.append(np.where((x > 0.7)[..., np.newaxis], picture * 0.4, picture))
    return (np.stack(frames).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _loop(plan: ImportPlan, image: Pixels | None, live: Pixels | None) -> Iterator[Array]:
    """Yield the model's own frame tensor, fed as the runtime feeds the bundle."""
    drawn = latents(plan)
    codes = _rows(drawn, CODES, 0)
    memory = {name: codes[place] for place, (stage, name) in enumerate(drawn) if stage is plan.step}
    if plan.first is not None:
        feeds = {name: plan.first.value(name) for name in plan.first.inputs}
        feeds |= {name: codes[place] for place, (stage, name) in enumerate(drawn) if stage is plan.first}
        feeds |= _pictures(plan.first, "image", image)
        memory |= plan.first.original.run(feeds, plan.step.of("memory"))
    step = plan.step
    fixed = {name: step.value(name) for name in step.of("control", "fixed", "state")}
    # Inputs that do not matter for the frame still have to be fed to the whole file.
    idle = {name: np.zeros(shape, dtype) for name, (dtype, shape) in step.idle.items()}
    states = {name: fixed[name] for name in step.of("state")}
    frame = 0
    while True:
        feeds = {**idle, **fixed, **memory, **states, **_pictures(step, "image", image)}
        noises = [(step, name) for name in step.of("noise")]
        feeds |= {name: row for (_, name), row in zip(noises, _rows(noises, FRAMES, frame), strict=True)}
        if live is not None:
            feeds |= _pictures(step, "live", live[frame % len(live)])
            feeds |= _pictures(step, "mask", np.full((*live.shape[1:3], 1), 255, np.uint8))
        found = step.original.run(feeds, list(step.outputs))
        states = {name: found[step.roles[name].output] for name in states}
        yield found[plan.frame]
        frame += 1


def _pictures(stage: PlannedGraph, role: str, pixels: Pixels | None) -> dict[str, Array]:
    if pixels is None:
        return {}
    return {name: feed_picture(pixels, stage.pictures[name]) for name in stage.of(role)}


def _rows(parts: list[tuple[PlannedGraph, str]], stream: int, frame: int) -> list[Array]:
    """Draw one row of noise and cut it into inputs, in order."""
    counts = [stage.count(name) for stage, name in parts]
    row = normals(SEED, stream, frame, sum(counts)) if parts else np.zeros(0, np.float32)
    cuts = np.split(row, np.cumsum(counts)[:-1]) if parts else []
    return [
        cut.reshape(stage.inputs[name][1]).astype(stage.inputs[name][0])
        for cut, (stage, name) in zip(cuts, parts, strict=True)
    ]
