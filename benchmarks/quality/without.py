"""A bundle with one part of its motion switched off, and what that changes: is the part worth its cost?

For bundles of schema 2 that Everframe's own training made. Graphs are edited, nothing is trained again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from runtime.bundle.reader import open_bundle, write_manifest
from runtime.bundle.tensors import MOVES
from runtime.generator import Generator

_FRAMES = 90  # that are compared, of each clip
_TIMED = 200


def _zero(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Set initialisers to zero."""
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for name in names:
        tensor = found.get(name) or found.get(f"{name}.half")
        if tensor is None:
            raise ValueError(
                f"the step graph has no {name}: only bundles of Everframe's own training can be taken apart"
            )
        tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))


def _scale(model: onnx.ModelProto, output: str, factor: Sequence[float], offset: Sequence[float]) -> None:
    """Replace an output (1, C, h, w) by `factor * output + offset`, both per channel or one for all."""
    graph, inner = model.graph, f"{output}.whole"
    if output not in {value.name for value in graph.output}:
        raise ValueError(f"a graph has no output {output}: only bundles of Everframe's own training can be taken apart")
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == output:
                    names[index] = inner
    for name, values in (("factor", factor), ("offset", offset)):
        array = np.array(values, np.float32).reshape(1, -1, 1, 1)
        graph.initializer.append(numpy_helper.from_array(array, f"{output}.{name}"))
    graph.node.append(helper.make_node("Mul", [inner, f"{output}.factor"], [f"{output}.scaled"]))
    graph.node.append(helper.make_node("Add", [f"{output}.scaled", f"{output}.offset"], [output]))


def _no_modes(condition: onnx.ModelProto, _: onnx.ModelProto) -> None:
    _scale(condition, "modes", [0.0], [0.0])


def _no_learned(_: onnx.ModelProto, step: onnx.ModelProto) -> None:
    _zero(step, ["step.to_displacement.weight"])


def _no_transport(condition: onnx.ModelProto, _: onnx.ModelProto) -> None:
    _scale(condition, "flow", [0.0, 0.0, 1.0], [0.0] * 3)


def _no_freedom(condition: onnx.ModelProto, _: onnx.ModelProto) -> None:
    _scale(condition, "flow", [1.0, 1.0, 0.0], [0.0, 0.0, 1.0])


def _one_phase(_: onnx.ModelProto, step: onnx.ModelProto) -> None:
    keep = [1.0] * (MOVES - 1)
    _scale(step, "moves", [*keep, 0.0], [0.0] * len(keep) + [1.0])


Edit = Callable[[onnx.ModelProto, onnx.ModelProto], None]
PARTS: dict[str, Edit | None] = {
    "oscillators": _no_modes,  # places that sway
    "learned": _no_learned,  # the recurrent displacement
    "transport": _no_transport,  # what flows for ever
    "freedom": _no_freedom,  # the learned map of how free places are to move
    "second-phase": _one_phase,  # without it, what flows jumps back once per period
    "sharpening": None,  # of the picture, once per scene
}


def write_without(bundle: Path, part: str, out: Path) -> Path:
    """Write a copy of a bundle without a part.

    Args:
        bundle: of schema 2, of Everframe's own training.
        part: a name of `PARTS`.
        out: folder to write, which must not exist.

    Returns:
        `out`.

    Raises:
        ValueError: the bundle cannot be taken apart.
        BundleError: it is damaged.
    """
    opened = open_bundle(bundle)
    shapes = opened.manifest.shapes
    if not shapes:
        raise ValueError(f"{bundle} is of schema 1, expected schema 2: upgrade it with `python -m export upgrade`")
    shutil.copytree(bundle, out, ignore=shutil.ignore_patterns("engines", "golden"))
    value = json.loads((out / "bundle.json").read_text(encoding="utf-8"))
    edit = PARTS[part]
    for shape, (step, condition) in zip(shapes, opened.shapes, strict=True):
        if edit is not None:
            edit(condition, step)
            for model, spec in ((condition, shape.condition), (step, shape.step)):
                (out / spec.file).write_bytes(model.SerializeToString())
    if edit is None:
        value["frame"]["sharpness"] = 1.0
    value["golden"], value["verified"] = [], {}
    write_manifest(out, value)
    return out


def what_it_changes(
    whole: Generator, without: Generator, pictures: Sequence[npt.NDArray[np.uint8]], advance: Callable[[], None]
) -> dict[str, Any]:
    """Return what a part does to frames and to their cost.

    Args:
        whole, without: generators of the bundle, and of the one without the part.
        pictures: each is animated, uint8 (H, W, 3) RGB of the frame's size.
        advance: called after each picture.

    Returns:
        `levels`: mean absolute difference of frames 2 to `_FRAMES` + 1; `moved` and `moved_without`: their mean
        difference to the picture, with the part and without; `ms` and `ms_without`: medians per frame, alternating.
    """
    levels, moved, moved_without = [], [], []
    for picture in pictures:
        for generator in (whole, without):
            generator.reset()
            generator.condition(image=picture)
            next(generator)
        for _ in range(_FRAMES):
            one, other = (next(generator).astype(np.int16) for generator in (whole, without))
            levels.append(float(np.abs(one - other).mean()))
            moved.append(float(np.abs(one - picture).mean()))
            moved_without.append(float(np.abs(other - picture).mean()))
        advance()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_TIMED):
        for generator, taken in zip((whole, without), times, strict=True):
            began = time.perf_counter()
            next(generator)
            taken.append(1000 * (time.perf_counter() - began))
    means = {"levels": levels, "moved": moved, "moved_without": moved_without}
    return {
        **{name: float(np.mean(values)) for name, values in means.items()},
        "ms": float(np.median(times[0])),
        "ms_without": float(np.median(times[1])),
    }


def without_rows(result: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return rows of the report; none if no part was switched off."""
    found = result.get("without")
    if found is None:
        return []
    changed = (
        f"{found['levels']:.2f} levels of 255; {found['moved']:.2f} and {found['moved_without']:.2f} to the picture"
    )
    return [
        (
            f"without {found['part']}",
            changed,
            f"{found['ms']:.2f} ms a frame with it, {found['ms_without']:.2f} without",
        )
    ]
