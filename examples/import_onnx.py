"""A foreign ONNX model becomes a bundle that plays like any other. Here: a model that inverts the live picture.

pip install 'everframe[cpu]'
python examples/import_onnx.py model.onnx bundles/inverted
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.from_onnx.importer import import_model
from runtime import Generator

model, bundle = Path(sys.argv[1]), Path(sys.argv[2])

# Any model that reads a picture and writes one. This one computes 1 - x for a picture in [0, 1].
picture = [1, 3, 64, 96]
one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
graph = helper.make_graph(
    [helper.make_node("Sub", ["one", "x"], ["y"])],
    "invert",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, picture)],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, picture)],
    [one],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), model)

import_model(model, bundle)  # the command line: python -m export import model.onnx --out bundles/inverted
with Generator.open(bundle) as generator:
    generator.feed_live(np.full((64, 96, 3), 200, np.uint8))
    print(f"a picture of brightness 200 became one of {next(generator).mean():.0f}")
