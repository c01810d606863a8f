"""Builds a bundle's graphs with the real builder of TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from runtime.bundle import open_bundle
from runtime.graphs import prune
from runtime.half import to_half


def require_builds(bundle: Path) -> None:
    """Build both graphs of a bundle, the step graph for each kind of pixels; skip where it is not installed."""
    tensorrt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    opened = open_bundle(bundle)
    assert opened.condition is not None
    graphs = {"condition": opened.condition.SerializeToString()}
    for pixels in ("rgb", "i420"):
        frame = next(t.name for t in opened.manifest.step.outputs_of("frame") if t.pixels == pixels)
        states = [t.name for t in opened.manifest.step.outputs_of("state")]
        graphs[pixels] = prune(opened.step, [frame, *states])
    # FP16 as the graph says it: networks are strongly typed.
    graphs["rgb in fp16"] = to_half(onnx.ModelProto.FromString(graphs["rgb"])).SerializeToString()
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    for name, graph in graphs.items():
        builder = tensorrt.Builder(logger)
        network = builder.create_network(0)
        parser = tensorrt.OnnxParser(network, logger)
        assert parser.parse(graph), [parser.get_error(index).desc() for index in range(parser.num_errors)]
        engine = builder.build_serialized_network(network, builder.create_builder_config())
        assert engine is not None, f"{bundle.name}: TensorRT-RTX did not build {name}"
        assert engine.nbytes > 100_000
