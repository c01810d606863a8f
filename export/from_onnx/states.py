"""States of an imported model in the step graph. In a bundle all states start as zeros (docs/bundle.md).

A state that starts with other values is replaced by them in the first frame. Another state tells that frame from the
others: it is 0 in the first frame and 1 in all others. It is reset, skipped and carried to other machines like all
states, so no engine has to know about it.
"""

from __future__ import annotations

from export.from_onnx.pixels import GraphFragment
from export.from_onnx.planned_graph import PlannedGraph
from export.manifest_entries import Entry

# ONNX Runtime's Where on the CPU does not take these types: they are compared in another one that holds their values.
_SELECTED_AS = {"float16": "float32", "int8": "int32", "bool": "int32"}


def add_states(graph: GraphFragment, stage: PlannedGraph, prefix: str, taken: set[str]) -> list[Entry]:
    """Add the inputs of the states, and what makes the model's inputs of them.

    Args:
        graph: the nodes are added here; the next values are added by the caller, but for that of the added state.
        stage: the model.
        prefix: of the names of the embedded model.
        taken: names of tensors that exist.

    Returns:
        The inputs' entries for the manifest.
    """
    entries: list[Entry] = []
    is_later = ""
    for name in stage.inputs_of("state"):
        dtype, shape = stage.inputs[name]
        entries.append(_entry(name, dtype, shape, stage.roles[name].output))
        carried = graph.add_input(name, dtype, shape)
        if not stage.roles[name].values:
            graph.add("Identity", carried, out=prefix + name)
            continue
        if not is_later:
            entry = _add_started(graph, taken)
            entries.append(entry)
            flat = graph.add("Reshape", entry["name"], graph.constant([], "int64"))
            is_later = graph.add("Greater", flat, graph.constant(0.5))
        selected = _SELECTED_AS.get(dtype, dtype)
        value = stage.value(name).astype(selected)
        if (value == value.reshape(-1)[0]).all():
            value = value.reshape(-1)[:1].reshape([1] * len(shape))
        carried = carried if selected == dtype else graph.cast(carried, selected)
        chosen = graph.add("Where", is_later, carried, graph.constant(value, selected))
        graph.cast(chosen, dtype, out=prefix + name)
    return entries


def _add_started(graph: GraphFragment, taken: set[str]) -> Entry:
    """Add the state that is 0 in the first frame and then 1."""
    name = "started"
    while {name, f"next_{name}"} & taken:
        name += "_"
    graph.add_input(name, "float32", (1,))
    more = graph.add("Add", name, graph.constant([1.0]))
    graph.add("Clip", more, graph.constant(0.0), graph.constant(1.0), out=f"next_{name}")
    return _entry(name, "float32", (1,), f"next_{name}")


def _entry(name: str, dtype: str, shape: tuple[int, ...], output: str) -> Entry:
    return {"name": name, "dtype": dtype, "shape": list(shape), "role": "state", "next": output}
