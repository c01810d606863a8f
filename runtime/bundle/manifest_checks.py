"""Checks between the parts of a manifest: names exist, pairs match, paths stay inside the bundle."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from runtime.bundle.strict_json import nearest
from runtime.bundle.tensors import GraphSpec
from runtime.errors import BundleError


def check_wiring(step: GraphSpec, condition: GraphSpec | None) -> None:
    """Check slots, states, masks and required inputs of a step graph and its condition graph.

    Raises:
        BundleError: a name is unknown, has the wrong kind, or is used twice.
    """
    _check_states(step)
    _check_memories(step, condition)
    if condition is not None:
        _check_given(condition)


def check_shapes(shapes: Sequence[tuple[GraphSpec, GraphSpec]], paint: GraphSpec | None) -> None:
    """Check the step and condition graphs of every work size, and that they differ in nothing else (schema 2).

    Raises:
        BundleError: a name is unknown, a graph lacks what it needs, or two sizes take different things.
    """
    for step, condition in shapes:
        check_wiring(step, condition)
        if not step.outputs_of("moves"):
            raise BundleError("bundle.json: every step graph needs an output of the role moves")
        if condition.only_input("image") is None:
            raise BundleError("bundle.json: every condition graph needs an input of the role image")
        _check_hints(condition)
        if _kinds(step) != _kinds(shapes[0][0]) or _kinds(condition) != _kinds(shapes[0][1]):
            raise BundleError("bundle.json: the graphs of all shapes must have the same tensors, but for their sizes")
    if paint is not None and (paint.only_input("noise") is None or not paint.outputs):
        raise BundleError("bundle.json: paint needs an input of the role noise and an output of the role picture")


def _check_hints(condition: GraphSpec) -> None:
    """Check that the cells of hints are squares of whole pixels."""
    hints, image = condition.only_input("hints"), condition.only_input("image")
    if hints is None or image is None:
        return
    (rows, columns), (height, width) = hints.shape[2:], image.shape[1:3]
    if height % rows or width % columns or height // rows != width // columns:
        raise BundleError(
            f'bundle.json: condition input "{hints.name}" has {rows} rows and {columns} columns, expected squares of '
            f"a picture of {width} x {height} pixels"
        )


def check_files(used: Sequence[str], files: Collection[str]) -> None:
    """Check that all files that the manifest uses are listed.

    Raises:
        BundleError: one is not.
    """
    for name in used:
        if name not in files:
            known = nearest(name, files)
            raise BundleError(f'bundle.json: the file "{name}" is used but not listed in "files" {known}')


def check_frames(step: GraphSpec) -> None:
    """Check that a step graph makes frames, and each kind once.

    Raises:
        BundleError: it does not.
    """
    kinds = [tensor.pixels for tensor in step.outputs_of("frame")]
    if not kinds or len(set(kinds)) != len(kinds):
        raise BundleError(f"bundle.json: step outputs need one frame per kind of pixels (rgb, i420), got {kinds}")


def _kinds(graph: GraphSpec) -> list[tuple[str, str, str, str, int]]:
    """Return all of a graph's tensors but their sizes."""
    both = (*graph.inputs, *graph.outputs)
    return [(item.name, item.dtype, item.role, item.slot, len(item.shape)) for item in both]


def _check_states(step: GraphSpec) -> None:
    states = {tensor.name: tensor for tensor in step.outputs_of("state")}
    targets = [tensor.next for tensor in step.inputs_of("state")]
    if sorted(targets) != sorted(states):
        got = f"step's state inputs name the nexts {sorted(targets)}"
        raise BundleError(f"bundle.json: {got}, expected each of its state outputs once: {sorted(states)}")
    for tensor in step.inputs_of("state"):
        after = states[tensor.next]
        if (tensor.dtype, tensor.shape) != (after.dtype, after.shape):
            got = f'step input "{tensor.name}" is {tensor.dtype} {tensor.shape}'
            raise BundleError(f'bundle.json: {got}, but its next "{after.name}" is {after.dtype} {after.shape}')


def _check_memories(step: GraphSpec, condition: GraphSpec | None) -> None:
    memories = {} if condition is None else {tensor.name: tensor for tensor in condition.outputs}
    if condition is not None and not memories:
        raise BundleError("bundle.json: condition has no outputs; leave the graph out")
    for role in ("memory_a", "memory_b"):
        slots = [tensor.slot for tensor in step.inputs_of(role)]
        if sorted(slots) != sorted(memories):
            got = f"step's inputs with the role {role} have the slots {sorted(slots)}"
            raise BundleError(f"bundle.json: {got}, expected each output of condition once: {sorted(memories)}")
        for tensor in step.inputs_of(role):
            memory = memories[tensor.slot]
            if (tensor.dtype, tensor.shape) != (memory.dtype, memory.shape):
                got = f'step input "{tensor.name}" is {tensor.dtype} {tensor.shape}'
                raise BundleError(f'bundle.json: {got}, but its slot "{memory.name}" is {memory.dtype} {memory.shape}')
    if memories and step.only_input("mix") is None:
        raise BundleError("bundle.json: step has memories but no input with the role mix to cross-fade between them")


def _check_given(condition: GraphSpec) -> None:
    sources = {tensor.name for tensor in condition.inputs if tensor.role not in ("mask", "given", "token_mask")}
    for tensor in condition.inputs:
        for name in tensor.of:
            if name not in sources:
                known = nearest(name, sources)
                raise BundleError(
                    f'bundle.json: condition input "{tensor.name}" is of the unknown input "{name}" {known}'
                )


def check_path(path: str) -> str:
    """Check a bundle path: relative, with `/`, without `..`, not the manifest, not in engines/.

    Raises:
        BundleError: it is not allowed.
    """
    parts = path.split("/")
    is_safe = path.isprintable() and not set(path) & set('\\:*?"<>|') and not {"", ".", ".."} & set(parts)
    if not is_safe or len(path) > 255 or path == "bundle.json" or parts[0] == "engines":
        raise BundleError(
            f'bundle.json: the path "{path[:256]}" is not allowed: relative, with "/", without "..", not in engines/'
        )
    return path
