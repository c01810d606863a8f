"""Model configurations of Triton (config.pbtxt), written and read by Triton's own protobuf."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
from onnx import helper

from runtime.bundle.tensors import GraphSpec
from runtime.engines.triton_interface import GRAPH_KEY, INTERFACE, INTERFACE_KEY, TYPES, StepInterface, state_names
from runtime.errors import EngineError

BACKENDS = {"onnxruntime": "model.onnx", "tensorrt": "model.plan"}  # backend -> the file that it loads
IDLE_S = 10  # a sequence without a request for this long is ended by the server
_HEADER = "# Written by everframe. It has not yet been run on a Triton server.\n"


def load_protobuf() -> tuple[Any, Any]:
    """Return the modules `tritonclient.grpc.model_config_pb2` and `google.protobuf.text_format`.

    Raises:
        EngineError: tritonclient is not installed.
    """
    if find_spec("tritonclient") is None or find_spec("grpc") is None:
        raise EngineError("the export for Triton needs the extra: pip install everframe[triton]")
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return model_config_pb2, text_format


def step_config(name: str, interface: StepInterface, backend: str, *, sha256: str, max_sequences: int) -> str:
    """Return the config.pbtxt of a step model.

    Every graph has the batch size 1, so Triton must not batch: `max_batch_size` is 0. With the strategy `oldest` one
    instance then runs the requests of `max_sequences` sequences in turn. With `direct` it would have one slot.

    Args:
        name: of the model.
        interface: its tensors.
        backend: a key of `BACKENDS`.
        sha256: of the bundle's graph.
        max_sequences: sequences that an instance has at a time.
    """
    config = _model(name, backend, sha256)
    states: list[tuple[str, str, str, tuple[int, ...]]] = []
    for item in interface.held:
        given, before, after = item.names
        config.input.add(name=given, data_type=TYPES[item.dtype], dims=[-1])
        states.append((before, after, item.dtype, (item.count,)))
    _add_tensors(config.input, [(item.name, item.dtype, item.shape) for item in interface.fresh])
    _add_tensors(config.output, [(interface.frame.name, interface.frame.dtype, interface.frame.shape)])
    states += [(*state_names(item.name), item.dtype, item.shape) for item in interface.states]
    batching = config.sequence_batching
    batching.max_sequence_idle_microseconds = IDLE_S * 1_000_000
    batching.oldest.max_candidate_sequences = max_sequences
    for before, after, dtype, shape in states:
        state = batching.state.add(input_name=before, output_name=after, data_type=TYPES[dtype], dims=shape)
        state.initial_state.add(name=f"{before}.zeros", data_type=TYPES[dtype], dims=shape, zero_data=True)
    return _to_text(config)


def graph_config(name: str, graph: GraphSpec, backend: str, *, sha256: str) -> str:
    """Return the config.pbtxt of a graph without states; arguments as of `step_config`."""
    config = _model(name, backend, sha256)
    _add_tensors(config.input, [(item.name, item.dtype, item.shape) for item in graph.inputs])
    _add_tensors(config.output, [(item.name, item.dtype, item.shape) for item in graph.outputs])
    return _to_text(config)


def parse_config(text: str) -> Any:
    """Return the `ModelConfig` of a config.pbtxt.

    Raises:
        ValueError: Triton's protobuf cannot read it.
    """
    protobuf, text_format = load_protobuf()
    try:
        return text_format.Parse(text, protobuf.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"Triton cannot read the config.pbtxt: {error}") from error


def check_config(config: Any, model: onnx.ModelProto) -> None:
    """Check a model's configuration against its graph, as Triton's backend for ONNX Runtime does when it loads it.

    Args:
        config: a `ModelConfig`.
        model: the ONNX graph.

    Raises:
        ValueError: a tensor is missing, is there twice, or has another type or shape; or Triton would take an output
            state for another input state (see `runtime.engines.triton_interface`).
    """
    protobuf, _ = load_protobuf()
    states = list(config.sequence_batching.state)
    given = [(item.name, item.data_type, item.dims) for item in config.input]
    given += [(item.input_name, item.data_type, item.dims) for item in states]
    made = [(item.name, item.data_type, item.dims) for item in config.output]
    made += [(item.output_name, item.data_type, item.dims) for item in states]
    if config.max_batch_size != 0:
        raise ValueError(
            f"{config.name}: max_batch_size is {config.max_batch_size}, expected 0 for graphs of one frame"
        )
    for what, wanted, infos in (("input", given, model.graph.input), ("output", made, model.graph.output)):
        found = {item.name: item.type.tensor_type for item in infos}
        names = [name for name, _, _ in wanted]
        if sorted(names) != sorted(found):
            odd = sorted({*names, *found} - (set(names) & set(found))) or sorted(names)
            raise ValueError(f"{config.name}: the {what}s of config.pbtxt and of the graph differ: {', '.join(odd)}")
        for name, kind, dims in wanted:
            tensor = found[name]
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
            shape = [side.dim_value if side.HasField("dim_value") else -1 for side in tensor.shape.dim]
            if protobuf.DataType.Name(kind) != TYPES.get(dtype) or list(dims) != shape:
                raise ValueError(
                    f"{config.name}: {what} {name} is {protobuf.DataType.Name(kind)} {list(dims)} in config.pbtxt and "
                    f"{dtype} {shape} in the graph"
                )
    befores, afters = ([getattr(item, name) for item in states] for name in ("input_name", "output_name"))
    if [befores.index(name) for name in sorted(befores)] != [afters.index(name) for name in sorted(afters)]:
        raise ValueError(
            f"{config.name}: the names of the output states are not in the order of those of the input states"
        )
    for item in states:
        first = item.initial_state[0] if len(item.initial_state) == 1 else None
        if first is None or not first.name or (first.data_type, first.dims) != (item.data_type, item.dims):
            raise ValueError(
                f"{config.name}: the state {item.input_name} needs one initial_state of its type and shape"
            )


def _model(name: str, backend: str, sha256: str) -> Any:
    protobuf, _ = load_protobuf()
    config = protobuf.ModelConfig(name=name, backend=backend, default_model_filename=BACKENDS[backend])
    for key, value in ((INTERFACE_KEY, INTERFACE), (GRAPH_KEY, sha256)):
        config.parameters[key].string_value = value
    return config


def _add_tensors(field: Any, tensors: Iterable[tuple[str, str, Sequence[int]]]) -> None:
    for name, dtype, shape in tensors:
        field.add(name=name, data_type=TYPES[dtype], dims=shape)


def _to_text(config: Any) -> str:
    """Return a configuration as text, after reading it back."""
    _, text_format = load_protobuf()
    # `max_batch_size: 0` is protobuf's default, which is not printed; it says what these models are.
    lines = text_format.MessageToString(config).split("\n")
    text = _HEADER + "\n".join([lines[0], "max_batch_size: 0", *lines[1:]])
    if parse_config(text) != config:
        raise AssertionError("a config.pbtxt that is not read as it was written")
    return text
