"""Builds the step graph of a server: the runtime's graph, which also keeps what changes rarely as states."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from runtime.bundle.external_weights import without_external
from runtime.bundle.pruning import pruned_model
from runtime.bundle.reader import Bundle
from runtime.engines.triton_interface import SHARE, TILE, Held, StepInterface, state_names, step_interface
from runtime.errors import BundleError
from runtime.marking.plane import PLANE, frame_size
from runtime.pixels.graph import GraphBuilder

PREFIX = "server."  # of the names of its tensors
_LAST = np.iinfo(np.int64).max


def server_step(bundle: Bundle, pixels: str, *, holds_floats: bool) -> tuple[onnx.ModelProto, StepInterface]:
    """Return the step graph for a server, and its tensors.

    Args:
        bundle: with a frame size and a mark, as `runtime.prepared_bundle.prepare_bundle` returns it.
        pixels: the frame output, "rgb" or "i420".
        holds_floats: whether pictures are converted to float32 before they are joined and cut: TensorRT does nothing
            else with uint8 than convert it.

    Raises:
        BundleError: the graph has tensors of our names.
    """
    step = bundle.manifest.step
    frame = next(item for item in step.outputs_of("frame") if item.pixels == pixels)
    interface = step_interface(step.inputs, frame)
    model = pruned_model(bundle.step, [frame.name, *(item.next for item in interface.states)])
    _check_names(model, interface)
    graph = GraphBuilder(PREFIX)
    inputs: list[onnx.ValueInfoProto] = []
    outputs: list[onnx.ValueInfoProto] = []
    pictures: dict[str, list[str]] = {}
    for item in interface.held:
        given, before, after = item.names
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(item.dtype))
        inputs.append(helper.make_tensor_value_info(given, kind, [f"{given}.size"]))
        inputs.append(helper.make_tensor_value_info(before, kind, [item.count]))
        outputs.append(helper.make_tensor_value_info(after, kind, [item.count]))
        value = _hold(graph, item, as_float=holds_floats and item.dtype == "uint8")
        if item.source.role == "picture":
            pictures.setdefault(item.source.name, []).append(_shaped(graph, value, item.shape))
        elif item.name == TILE:
            _add_plane(graph, value, item, interface)
        else:
            _shaped(graph, value, item.shape, output=item.name)
    for source in step.inputs_of("picture"):
        _add_picture(graph, pictures[source.name], source.shape, source.name)
    if pictures:
        inputs.append(helper.make_tensor_value_info(SHARE, TensorProto.FLOAT, [1]))
    last = GraphBuilder(f"{PREFIX}last.")
    for state in interface.states:
        before, after = state_names(state.name)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(state.dtype))
        inputs.append(helper.make_tensor_value_info(before, kind, state.shape))
        outputs.append(helper.make_tensor_value_info(after, kind, state.shape))
        graph.add("Identity", [before], output=state.name)
        last.add("Identity", [state.next], output=after)
    made = {item.source.name for item in interface.held} | {item.name for item in interface.states}
    kept = [item for item in model.graph.input if item.name not in made]
    frames = [item for item in model.graph.output if item.name == frame.name]
    nodes = [*graph.nodes, *model.graph.node, *last.nodes]
    del model.graph.input[:], model.graph.node[:], model.graph.output[:]
    model.graph.input.extend([*kept, *inputs])
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(graph.constants)
    model.graph.output.extend([*frames, *outputs])
    onnx.checker.check_model(without_external(model))
    return model, interface


def _hold(graph: GraphBuilder, item: Held, *, as_float: bool) -> str:
    """Add the choice between the value that is given and the one that is held; return the name of the choice, flat."""
    given, before, after = item.names
    if as_float:
        given, before = graph.to_float(given), graph.to_float(before)
    fresh = graph.slice(given, 1, _LAST, axis=0)  # empty if nothing is given
    both = graph.add("Concat", [before, fresh], axis=0)
    if as_float:
        chosen = graph.slice(both, -item.count, _LAST, axis=0)
        graph.add("Cast", [chosen], output=after, to=TensorProto.UINT8)
        return chosen
    bounds = [graph.constant(np.array([value], np.int64)) for value in (-item.count, _LAST, 0, 1)]
    return graph.add("Slice", [both, *bounds], output=after)


def _shaped(graph: GraphBuilder, name: str, shape: tuple[int, ...], *, output: str = "") -> str:
    return graph.add("Reshape", [name, graph.constant(np.array(shape, np.int64))], output=output)


def _add_picture(graph: GraphBuilder, sides: list[str], shape: tuple[int, ...], output: str) -> None:
    """Add the blend of two pictures, and its copies that are shifted by the pixels of a block.

    As `runtime.pixels.picture_inputs` and `runtime.pixels.planes.shifted_copies` do it for other engines.
    """
    one, two = (graph.to_float(side) for side in sides)
    change = graph.add("Mul", [graph.add("Sub", [two, one]), SHARE])
    blended = graph.add("Add", [change, one])
    planes, blocks, _, rows, columns = shape
    copies = []
    for down in range(blocks):
        for across in range(blocks):
            part = graph.slice(graph.slice(blended, down, down + rows, axis=1), across, across + columns, axis=2)
            copies.append(_shaped(graph, part, (planes, 1, rows, columns)))
    _shaped(graph, graph.add("Concat", copies, axis=1), shape, output=output)


def _add_plane(graph: GraphBuilder, flat: str, item: Held, interface: StepInterface) -> None:
    """Add the plane of the mark: its tile, repeated over the frame; zeros in chroma."""
    width, height = frame_size(interface.frame)
    tile = _shaped(graph, flat, item.shape)
    rows, columns = (
        graph.constant(np.arange(side) % size) for side, size in zip((height, width), item.shape, strict=True)
    )
    luma = graph.add("Gather", [graph.add("Gather", [tile, rows], axis=0), columns], axis=1)
    if interface.frame.pixels == "rgb":
        _shaped(graph, luma, (1, height, width, 1), output=PLANE)
        return
    below = graph.constant(np.array([0, 0, height // 2, 0], np.int64))
    _shaped(graph, graph.add("Pad", [luma, below]), interface.frame.shape, output=PLANE)


def _check_names(model: onnx.ModelProto, interface: StepInterface) -> None:
    ours = {name for item in interface.held for name in item.names} | {SHARE}
    ours |= {name for item in interface.states for name in state_names(item.name)}
    names = [name for node in model.graph.node for name in (node.name, *node.output)]
    names += [item.name for item in (*model.graph.input, *model.graph.initializer)]
    for name in names:
        if name in ours or name.startswith(PREFIX):
            raise BundleError(f'the step graph has a tensor "{name}", a name that the export for Triton uses itself')
