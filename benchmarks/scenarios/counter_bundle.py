"""A bundle whose frames show their own number, so that a reader of a stream knows which frame it got.

64 x 64 pixels in 16 squares: square k, row by row, is white if bit k of the frame's number is set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.reader import write_manifest

BITS, SIDE, SQUARE = 16, 64, 16
MOST = 2**BITS  # frame numbers begin again there
_BLACK, _WHITE, _GREY = 16, 235, 128


def write_counter(folder: Path, fps: int, name: str = "counter") -> Path:
    """Write the bundle and return its folder.

    Args:
        folder: where; made if missing.
        fps: frames per second.
        name: of the generator.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graph = _Graph()
    across = SIDE // SQUARE
    bits = graph.add("Floor", graph.add("Mul", "count", graph.constant(2.0 ** -np.arange(BITS)[np.newaxis])))
    set_ = graph.add("Mod", bits, graph.constant([[2.0]]), fmod=1)  # (1, BITS)
    squares = graph.add("Reshape", set_, graph.constant([1, across, 1, across, 1], np.int64))
    size = graph.constant([1, across, SQUARE, across, SQUARE], np.int64)
    plane = graph.add("Reshape", graph.add("Expand", squares, size), graph.constant([1, SIDE, SIDE], np.int64))
    one = graph.add("Reshape", plane, graph.constant([1, 1, SIDE, SIDE], np.int64))
    graph.add("Expand", one, graph.constant([1, 3, SIDE, SIDE], np.int64), out="picture")
    white = graph.add("Mul", graph.add("Transpose", "picture", perm=[0, 2, 3, 1]), graph.constant(255))
    graph.add("Cast", white, out="rgb", to=TensorProto.UINT8)
    mean = graph.add("ReduceMean", "picture", graph.constant([1], np.int64), keepdims=0)
    luma = graph.add("Add", graph.add("Mul", mean, graph.constant(_WHITE - _BLACK)), graph.constant(_BLACK))
    chroma = graph.constant(np.full((1, SIDE // 2, SIDE), _GREY))
    graph.add("Cast", graph.add("Concat", luma, chroma, axis=1), out="i420", to=TensorProto.UINT8)
    later = graph.add("Add", "count", graph.constant([[1.0]]))
    graph.add("Mod", later, graph.constant([[float(MOST)]]), out="count_next", fmod=1)
    inputs = [_tensor("count", "float32", (1, 1), "state", next="count_next")]
    outputs = [
        _tensor("rgb", "uint8", (1, SIDE, SIDE, 3), "frame", pixels="rgb"),
        _tensor("i420", "uint8", (1, SIDE * 3 // 2, SIDE), "frame", pixels="i420"),
        _tensor("count_next", "float32", (1, 1), "state"),
    ]
    onnx.save(graph.to_model(inputs, outputs), folder / "step.onnx")
    write_manifest(
        folder,
        {
            "schema": 1,
            "name": name,
            "description": "Frames that show their own number.",
            "frame": {"width": SIDE, "height": SIDE, "fps": str(fps), "colour": "bt709"},
            "graphs": {"step": {"file": "step.onnx", "inputs": inputs, "outputs": outputs, "picture": "picture"}},
            "controls": [],
            "renewal": None,
            "text": None,
            "golden": [],
            "files": {},
            "provenance": {
                "data": [],
                "config_sha256": "",
                "commit": "",
                "software": {},
                "training": {},
                "created": "",
            },
            "verified": {},
            "sha256": "",
        },
    )
    return folder


def number_in(picture: npt.NDArray[np.uint8]) -> int:
    """Return the number that a frame shows.

    Args:
        picture: its luma, uint8 (h, w), of any size.
    """
    height, width = picture.shape
    across = SIDE // SQUARE
    number = 0
    for bit in range(BITS):
        row, column = divmod(bit, across)
        y, x = (2 * row + 1) * height // (2 * across), (2 * column + 1) * width // (2 * across)
        number |= int(picture[y - 2 : y + 2, x - 2 : x + 2].mean() > _GREY) << bit
    return number


class _Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        out = out or f"value_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def to_model(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> Any:
        types = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8}
        sides = [
            [helper.make_tensor_value_info(item["name"], types[item["dtype"]], item["shape"]) for item in side]
            for side in (inputs, outputs)
        ]
        graph = helper.make_graph(self._nodes, "counter", *sides, self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _tensor(name: str, dtype: str, shape: tuple[int, ...], role: str, **extra: Any) -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": list(shape), "role": role, **extra}
