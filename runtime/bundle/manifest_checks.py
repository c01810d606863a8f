"""Checks between the parts of a manifest: names exist, pairs match, paths stay inside the bundle."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from runtime.bundle.strict_json import nearest
from runtime.bundle.tensors import GraphSpec
from runtime.errors import BundleError


def check_wiring(
    step: GraphSpec,
    condition: GraphSpec | None,
    *,
    needs: Sequence[tuple[str, str]],
    used: Sequence[str],
    files: Collection[str],
) -> None:
    """Check slots, states, masks, frames, required inputs of the condition graph, and file names.

    Args:
        step: the step graph.
        condition: the condition graph, or None.
        needs: (part of the manifest, role of the condition input that it needs).
        used: files that the manifest uses, besides those of the graphs.
        files: files that the manifest lists.

    Raises:
        BundleError: a name is unknown, has the wrong kind, or is used twice.
    """
    _check_frames(step)
    _check_states(step)
    _check_memories(step, condition)
    if condition is not None:
        _check_given(condition)
    for part, role in needs:
        if condition is None or condition.only_input(role) is None:
            raise BundleError(f"bundle.json: {part} needs a condition graph with an input of the role {role}")
    graphs = [graph.file for graph in (step, condition) if graph is not None]
    for name in [*graphs, *used]:
        if name not in files:
            known = nearest(name, files)
            raise BundleError(f'bundle.json: the file "{name}" is used but not listed in "files" {known}')


def _check_frames(step: GraphSpec) -> None:
    kinds = [tensor.pixels for tensor in step.outputs_of("frame")]
    if not kinds or len(set(kinds)) != len(kinds):
        raise BundleError(f"bundle.json: step outputs need one frame per kind of pixels (rgb, i420), got {kinds}")


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
    sources = {tensor.name for tensor in condition.inputs if tensor.role not in ("mask", "given")}
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
