"""Quantises a step graph with ONNX Runtime's static quantiser: QuantizeLinear and DequantizeLinear around its layers.

Layers are the nodes that multiply by constant weights: Conv, ConvTranspose, and large Gemm and MatMul. Weights get
signed bytes with a scale per output channel, activations unsigned bytes with one scale and zero point. The elementwise
nodes between two layers (Relu, Clip, Add) join them, so that engines fuse them. All else stays in floating point:
positions, sampling grids, normalisation, small matrices (they may rotate a state) and pixels.

Weights use 7 of their 8 bits unless the graph is for CPUs with VNNI alone: without it, two products are added in 16
bits, which saturate (measured in OpenVINO limited to AVX2: 14 dB in place of 34).
"""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.packed_weights import pack_weights
from runtime.bundle.pruning import needed_nodes, pruned_model
from runtime.engines.fp16 import MIN_GEMM_VALUES, unpack_bytes
from runtime.errors import EngineError

Feeds = Mapping[str, "np.ndarray[Any, Any]"]
_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_MATRICES = ("Gemm", "MatMul")
_FOLLOWING = ("Relu", "Clip", "Add")
_CACHE = "calibration_cache_path"  # an argument of `quantize_static`: not in old versions


class Quantiser:
    """A calibrated step graph, of which any layers can be quantised.

    Args:
        model: the step graph in FP32; not changed.
        feeds: inputs of the graph, by name, to calibrate with; at least one set. They are not kept.
        folder: for temporary files.
        picture: tensor from which frames are computed; what follows it stays in float. "" for none.
        vnni: whether weights use all 8 bits, for CPUs with VNNI alone.

    Attributes:
        model: the graph with plain weights in FP32 and a name for every node.
        work: layer -> how many products it computes, in the order of the graph.

    Raises:
        EngineError: ONNX Runtime is missing or too old.
        ValueError: the graph has no layers, or the quantiser refuses it.
    """

    def __init__(
        self, model: onnx.ModelProto, feeds: Sequence[Feeds], folder: Path, picture: str = "", *, vnni: bool = False
    ) -> None:
        self.model = _plain(model)
        pixels = set()
        if picture:
            outputs = [value.name for value in self.model.graph.output]
            pixels = {node.name for node in needed_nodes(self.model.graph, outputs, stop=picture)}
            pixels -= {node.name for node in needed_nodes(self.model.graph, [picture])}
        self.work = {name: work for name, work in _work(self.model).items() if name not in pixels}
        if not self.work:
            raise ValueError(
                "its step graph has no weights to quantise: no Conv or ConvTranspose, and no Gemm or MatMul with "
                f"{MIN_GEMM_VALUES} constant values or more"
            )
        self._folder, self._vnni = folder, vnni
        self._file = folder / "float.onnx"
        onnx.save(self.model, self._file)
        self._quantise(list(self.work)[:1], feeds)  # finds the ranges of all layers, and stores them in the folder

    def quantise(self, layers: Collection[str]) -> onnx.ModelProto:
        """Return the graph with some layers quantised, its other weights stored as small as they were.

        Args:
            layers: keys of `work`, at least one.

        Raises:
            ValueError: the quantiser refuses the graph.
        """
        result = self.quantise_plainly(layers)
        scales = {name for node in result.graph.node if "Linear" in node.op_type for name in node.input[1:]}
        pack_weights(result, kept=scales)
        return result

    def quantise_plainly(self, layers: Collection[str]) -> onnx.ModelProto:
        """Return the graph with some layers quantised, and its other weights in FP32."""
        return self._quantise(layers, ())

    def _quantise(self, layers: Collection[str], feeds: Sequence[Feeds]) -> onnx.ModelProto:
        quantization, followers = _load_quantization(), self._followers(layers)
        file = self._folder / "int8.onnx"
        with _quiet():
            try:
                quantization.quantize_static(
                    self._file,
                    file,
                    _reader(quantization, feeds),
                    quant_format=quantization.QuantFormat.QDQ,
                    op_types_to_quantize=[*_LAYERS, *_FOLLOWING],
                    nodes_to_quantize=[*layers, *followers],
                    per_channel=True,
                    reduce_range=not self._vnni,  # of weights
                    activation_type=quantization.QuantType.QUInt8,
                    weight_type=quantization.QuantType.QInt8,
                    extra_options={"ActivationSymmetric": False, "WeightSymmetric": True, "QuantizeBias": False},
                    **{_CACHE: self._folder / "ranges.json"},
                )
            except Exception as error:  # its errors share no base class but Exception
                raise ValueError(f"ONNX Runtime cannot quantise it: {' '.join(str(error).split())[:300]}") from error
        result = onnx.load(file)
        del result.metadata_props[:], result.graph.value_info[:]
        _drop_unread_pairs(result, {*layers, *followers})
        return result

    def _followers(self, layers: Collection[str]) -> list[str]:
        """Return the elementwise nodes that join the layers: those between one and the next."""
        nodes, chosen = self.model.graph.node, set(layers)
        constants = {tensor.name for tensor in self.model.graph.initializer}
        made = {name for node in nodes if node.name in chosen for name in node.output}
        behind = []
        for node in nodes:
            read = node.input if node.op_type == "Add" else node.input[:1]
            if node.op_type in _FOLLOWING and made & set(read) and not constants & set(read):
                made.update(node.output)
                behind.append(node)
        wanted = {name for node in nodes if node.name in chosen for name in node.input}
        found = []
        for node in reversed(behind):
            if wanted & set(node.output):
                wanted.update(node.input)
                found.append(node.name)
        return found


def _drop_unread_pairs(model: onnx.ModelProto, active: Collection[str]) -> None:
    """Remove roundings of activations that no quantised node reads; changes the model in place.

    Args:
        model: of the quantiser.
        active: names of the quantised nodes.
    """
    graph = model.graph
    made_by = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    dropped = []
    for node in graph.node:
        before = made_by.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if before is None or before.op_type != "QuantizeLinear" or node.output[0] in outputs:
            continue
        if any(reader.name in active for reader in readers.get(node.output[0], [])):
            continue
        for reader in readers.get(node.output[0], []):
            reader.input[:] = [before.input[0] if name == node.output[0] else name for name in reader.input]
        dropped += [node.output[0], before.output[0]]
    kept = [node for node in graph.node if node.output[0] not in dropped]
    read = {name for node in kept for name in node.input} | outputs
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(tensors)


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose packed weights are plain FP32 constants, without unused ones, and whose nodes have names."""
    result = pruned_model(model, [value.name for value in model.graph.output])
    graph = result.graph
    unpack_bytes(graph)
    halves = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    nodes = []
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in halves and node.attribute[0].i == TensorProto.FLOAT:
            values = numpy_helper.to_array(halves[node.input[0]]).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        else:
            nodes.append(node)
    names = {node.name for node in nodes}
    for index, node in enumerate(nodes):
        node.name = node.name or next(name for name in _free_names(index) if name not in names)
    read = {name for node in nodes for name in node.input} | {value.name for value in graph.output}
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
    # The quantiser warns of graphs that its own optimiser has not seen; that one would rename the picture.
    helper.set_model_props(result, {"onnx.quant.pre_process": "onnxruntime.quant"})
    return result


def _free_names(index: int) -> Iterator[str]:
    name = f"node_{index}"
    while True:
        yield name
        name += "_"


def _work(model: onnx.ModelProto) -> dict[str, int]:
    """Return how many products each layer computes."""
    typed = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*typed.graph.input, *typed.graph.value_info, *typed.graph.output)
    }
    weights = {
        tensor.name: math.prod(tensor.dims)
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    found = {}
    for node in model.graph.node:
        if node.op_type not in _LAYERS or node.input[1] not in weights or node.domain not in ("", "ai.onnx"):
            continue
        values = weights[node.input[1]]
        if node.op_type in _MATRICES:
            if values >= MIN_GEMM_VALUES:
                found[node.name] = values * max(1, math.prod(shapes.get(node.input[0], [])[:-1]))
            continue
        places = shapes.get(node.output[0] if node.op_type == "Conv" else node.input[0], [])[2:]
        found[node.name] = values * max(1, math.prod(places))
    return found


def _load_quantization() -> Any:
    try:
        from onnxruntime import __version__, quantization
    except ImportError as error:
        raise EngineError("quantising needs ONNX Runtime: pip install everframe[cpu]") from error
    if _CACHE not in inspect.signature(quantization.quantize_static).parameters:
        raise EngineError(f"quantising needs a newer ONNX Runtime than {__version__}: pip install -U onnxruntime")
    return quantization


def _reader(quantization: Any, feeds: Sequence[Feeds]) -> Any:
    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # the module has no types
        """Gives the quantiser one set of inputs after the other."""

        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> Any:
            """Return the next set of inputs, or None."""
            return next(self._feeds, None)

    return Reader()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the quantiser's notes on the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
