"""The tensors of a step model on a Triton server: what the export writes and the engine `grpc://` sends.

A server keeps three kinds of tensors of a sequence as implicit states: the bundle's own states, and two kinds that
change rarely, so that they are not sent with every frame:

    memories            the outputs of the condition graph, of both scenes
    pictures            two per input of the pixel stage, uint8; `picture_share` blends them
    mark.tile           the mark's tile; zeros for no mark

A tensor NAME of these three has a request input `set.NAME` with one dimension: one value that is ignored, followed by
all values of NAME in C order, or by none: then NAME stays as it was. The first value is there because no input should
be empty: Triton's own tests send empty inputs to ONNX Runtime only.

Every state is `held.NAME` -> `next.NAME`, the bundle's own too: Triton takes the n-th output state in the order of
their names for the n-th input state (`SequenceStates::OutputState` in its sequence_state.cc), whatever its
configuration says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from runtime.bundle.tensors import TensorSpec
from runtime.engines.engine import Array
from runtime.marking.plane import PLANE, frame_size, tile_size

INTERFACE = "1"  # of this file; a server's models say which one they have
# Keys of `parameters` in config.pbtxt.
INTERFACE_KEY, GRAPH_KEY = "everframe_interface", "everframe_graph_sha256"
# NumPy's name of a type -> Triton's in a configuration.
TYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "uint8": "TYPE_UINT8",
    "int8": "TYPE_INT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "bool": "TYPE_BOOL",
}
SHARE, TILE = "picture_share", "mark.tile"
_HELD_ROLES = ("memory_a", "memory_b", "picture", "mark")


@dataclass(frozen=True)
class Held:
    """A tensor that a server keeps until it gets another one.

    Args:
        name: NAME above.
        dtype, shape: of its values.
        source: the input of the step graph that it is, or is a part of.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    source: TensorSpec

    @property
    def count(self) -> int:
        """The number of its values."""
        return prod(self.shape)

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of the request input, the state input and the state output."""
        return f"set.{self.name}", *state_names(self.name)

    def to_input(self, value: Array | None) -> Array:
        """Return what is sent: a value, or None to keep the one that the server has."""
        if value is None:
            return np.zeros(1, self.dtype)
        sent = np.empty(self.count + 1, self.dtype)
        sent[0] = 0
        sent[1:] = np.ravel(value)
        return sent


@dataclass(frozen=True)
class StepInterface:
    """The tensors of a step model.

    Args:
        held: kept by the server.
        fresh: sent with every frame.
        states: the bundle's own.
        frame: the only output that clients get.
    """

    held: tuple[Held, ...]
    fresh: tuple[TensorSpec, ...]
    states: tuple[TensorSpec, ...]
    frame: TensorSpec

    def held_of(self, source: str) -> tuple[Held, ...]:
        """Return what is held of an input of the step graph."""
        return tuple(item for item in self.held if item.source.name == source)


def step_interface(inputs: Sequence[TensorSpec], frame: TensorSpec) -> StepInterface:
    """Return the tensors of a step model.

    Args:
        inputs: of the step graph, as the runtime assembles it for a frame size, with or without a mark.
        frame: its frame output.
    """
    held: list[Held] = []
    for item in inputs:
        if item.role in ("memory_a", "memory_b"):
            held.append(Held(item.name, item.dtype, item.shape, item))
        elif item.role == "picture":
            planes, _, _, rows, columns = item.shape
            padded = (planes, rows + 1, columns + 1)
            held += [Held(f"{item.name}.{side}", "uint8", padded, item) for side in "ab"]
    width, height = frame_size(frame)
    side = tile_size(width, height)
    plane = TensorSpec(PLANE, "float32", frame.shape, "mark")
    held.append(Held(TILE, "float32", (min(side, height), min(side, width)), plane))
    fresh = [item for item in inputs if item.role != "state" and item.role not in _HELD_ROLES]
    if any(item.role == "picture" for item in inputs):
        fresh.append(TensorSpec(SHARE, "float32", (1,), "mix"))
    return StepInterface(tuple(held), tuple(fresh), tuple(item for item in inputs if item.role == "state"), frame)


def state_names(name: str) -> tuple[str, str]:
    """Return the names of the state input and the state output of a tensor."""
    return f"held.{name}", f"next.{name}"


def tile_of(plane: Array, held: Held) -> Array:
    """Return the tile of a mark's plane, float32 of the shape of `held`; see `runtime.marking.plane.make_plane`."""
    rows, columns = held.shape
    tile: Array = plane[0, :rows, :columns]
    return tile[..., 0] if tile.ndim == 3 else tile


def model_name(bundle: str, part: str) -> str:
    """Return the name of a model: of a bundle and a graph, e.g. "landscape-step-rgb"."""
    return f"{bundle}-{part}"
