"""The tensors of a bundle's two graphs and their roles (docs/bundle.md, "Tensors")."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from typing import Any

from runtime.bundle.strict_json import StrictJson, describe
from runtime.errors import BundleError

# The names of the manifest and of NumPy. NumPy has no bfloat16.
DTYPES = ("float32", "float16", "uint8", "int8", "int32", "int64", "bool")

# The rules of each role: dtype ("a or b": one of both; None: any), shape (None: any; "H", "W" are the frame's, others
# free), extra keys.
_Rule = tuple[str | None, tuple[int | str, ...] | None, tuple[str, ...]]
STEP_INPUTS: dict[str, _Rule] = {
    "memory_a": (None, None, ("slot",)),
    "memory_b": (None, None, ("slot",)),
    "mix": ("float32", (1,), ()),
    "state": (None, None, ("next",)),
    "noise": ("float32", (1, "n"), ()),
    "control": ("float32", (1, "n"), ()),
    "live": ("uint8", (1, "h", "w", 3), ()),
    "mask": ("uint8", (1, "h", "w", 1), ()),
    "watermark": ("float32", (1, "n"), ()),
}
STEP_OUTPUTS: dict[str, _Rule] = {"frame": ("uint8", None, ("pixels",)), "state": (None, None, ())}
CONDITION_INPUTS: dict[str, _Rule] = {
    "image": ("uint8", (1, "H", "W", 3), ()),
    "clip": ("uint8", (1, "t", "H", "W", 3), ()),
    "low_res": ("uint8", (1, "h", "w", 3), ()),
    "text": ("float32", (1, "n"), ()),
    "mask": ("uint8", (1, "H", "W", 1), ("of",)),
    "given": ("float32", (1, "n"), ("of",)),
    "noise": ("float32", (1, "n"), ()),
    "tokens": ("int64 or int32", (1, "l"), ("tokenizer",)),
    "token_mask": ("int64 or int32", (1, "l"), ("of",)),
}
CONDITION_OUTPUTS: dict[str, _Rule] = {"memory": (None, None, ())}
MOVES = 5  # channels of `moves`: x and y of the first phase, x and y of the second, share of the first
HINTS = 5  # channels of `hints`: motion x and y, where an arrow begins, where the still and the moving brush were
# Schema 2. "H" and "W" are the work size.
MOVING_STEP_INPUTS = {role: STEP_INPUTS[role] for role in ("memory_a", "memory_b", "mix", "state", "noise", "control")}
MOVING_STEP_OUTPUTS: dict[str, _Rule] = {"moves": ("float32", (1, MOVES, "h", "w"), ()), "state": (None, None, ())}
MOVING_CONDITION_INPUTS: dict[str, _Rule] = {
    "image": ("uint8", (1, "H", "W", 3), ()),
    "moving": ("uint8", (1, "H", "W", 1), ()),
    "clip": ("uint8", (1, "t", "H", "W", 3), ()),
    "given": ("float32", (1, "n"), ("of",)),
    "hints": ("float32", (1, HINTS, "h", "w"), ()),
}
PAINT_INPUTS = {role: CONDITION_INPUTS[role] for role in ("text", "noise")}
PAINT_OUTPUTS: dict[str, _Rule] = {"picture": ("uint8", (1, "h", "w", 3), ())}
_REPEATABLE = {
    "step inputs": {"memory_a", "memory_b", "state"},
    "step outputs": {"frame", "state"},
    "condition inputs": {"mask", "tokens", "token_mask"},
    "condition outputs": {"memory"},
    "paint inputs": set[str](),
    "paint outputs": set[str](),
}
_MAX_ELEMENTS = 2**31  # elements of one tensor
MAX_TOKENS = 512  # of one text


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph.

    Args:
        name: the tensor's name in the ONNX file.
        dtype: NumPy's name of its type, one of `DTYPES`.
        shape: fixed sizes, outermost first.
        role: its purpose.
        slot: memory_a, memory_b: the output of `condition` that fills it.
        next: state inputs: the output that holds the next frame's value.
        pixels: frame outputs: "rgb" or "i420".
        of: mask, given, token_mask: names of the inputs that it describes.
        tokenizer: tokens: name of the tokenizer that makes them.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: str
    slot: str = ""
    next: str = ""
    pixels: str = ""
    of: tuple[str, ...] = ()
    tokenizer: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's form, with the keys of the role."""
        value: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape), "role": self.role}
        if self.role in ("memory_a", "memory_b"):
            value["slot"] = self.slot
        elif self.role == "state" and self.next:
            value["next"] = self.next
        elif self.role == "frame":
            value["pixels"] = self.pixels
        elif self.role == "tokens":
            value["tokenizer"] = self.tokenizer
        elif self.role in ("mask", "token_mask") and self.of:
            value["of"] = self.of[0]
        elif self.role == "given":
            value["of"] = list(self.of)
        return value


@dataclass(frozen=True)
class GraphSpec:
    """One ONNX file and its tensors.

    Args:
        file: its path inside the bundle.
        inputs, outputs: its tensors.
        picture: the step graph's float tensor before the frames; "" for other graphs.
        weights: path inside the bundle of the file that holds its external data; "" if all weights are in the graph.
        int8: file of the same graph in INT8 (`python -m export int8`), or "".
    """

    file: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    picture: str = ""
    weights: str = ""
    int8: str = ""

    def inputs_of(self, role: str) -> tuple[TensorSpec, ...]:
        """Return the inputs with this role, in order."""
        return tuple(tensor for tensor in self.inputs if tensor.role == role)

    def outputs_of(self, role: str) -> tuple[TensorSpec, ...]:
        """Return the outputs with this role, in order."""
        return tuple(tensor for tensor in self.outputs if tensor.role == role)

    def only_input(self, role: str) -> TensorSpec | None:
        """Return the first input with this role, or None."""
        return next(iter(self.inputs_of(role)), None)


def parse_tensors(
    value: list[Any], where: str, rules: dict[str, _Rule], size: tuple[int, int]
) -> tuple[TensorSpec, ...]:
    """Parse the inputs or outputs of a graph.

    Args:
        value: the JSON list.
        where: path for messages; ends with, e.g., `step inputs`.
        rules: the allowed roles.
        size: (width, height) of the frame, or in schema 2 of the picture that the network works on.

    Returns:
        The tensors, in the manifest's order.

    Raises:
        BundleError: a tensor breaks a rule of docs/bundle.md.
    """
    tensors = tuple(_parse_tensor(item, f"{where}[{index}]", rules, size) for index, item in enumerate(value))
    for name, count in Counter(tensor.name for tensor in tensors).items():
        if count > 1:
            raise BundleError(f'{where} names the tensor "{name}" {count} times; names must differ')
    side = " ".join(where.split()[-2:])
    for role, count in Counter(tensor.role for tensor in tensors).items():
        if count > 1 and role not in _REPEATABLE[side]:
            raise BundleError(f'{where} has {count} tensors with the role "{role}"; one is allowed')
    return tensors


def _parse_tensor(value: Any, where: str, rules: dict[str, _Rule], size: tuple[int, int]) -> TensorSpec:
    optional = {key for rule in rules.values() for key in rule[2]}
    fields = StrictJson(value, where, {"name", "dtype", "shape", "role"} | optional)
    name = fields.text("name", r"[^\x00-\x1f]{1,256}")
    where = f'{where} "{name}"'
    role = fields.choice("role", rules)
    dtype = fields.choice("dtype", DTYPES)
    shape = _parse_shape(fields.items("shape"), where)
    wanted_dtype, wanted_shape, extra = rules[role]
    if wanted_dtype is not None and dtype not in wanted_dtype.split(" or "):
        raise BundleError(f"{where} with the role {role} must be {wanted_dtype}, got {dtype}")
    for key in sorted(optional - set(extra)):
        if fields.has(key):
            raise BundleError(f'{where} with the role {role} must not have the key "{key}"')
    pixels = fields.choice("pixels", ("rgb", "i420")) if "pixels" in extra else ""
    width, height = size
    if role == "frame":
        wanted_shape = (1, height, width, 3) if pixels == "rgb" else (1, height * 3 // 2, width)
    if wanted_shape is not None and not _fits(shape, wanted_shape, size):
        sizes = {"H": height, "W": width}
        wanted = ", ".join(str(sizes.get(str(item), item)) for item in wanted_shape)
        raise BundleError(f"{where} with the role {role} must have the shape ({wanted}), got {shape}")
    tensor = TensorSpec(
        name=name,
        dtype=dtype,
        shape=shape,
        role=role,
        slot=fields.text("slot") if "slot" in extra else "",
        next=fields.text("next") if "next" in extra else "",
        pixels=pixels,
        of=_parse_of(fields, role) if "of" in extra else (),
        tokenizer=fields.text("tokenizer") if "tokenizer" in extra else "",
    )
    if role == "given" and shape != (1, len(tensor.of)):
        raise BundleError(
            f'{where} must have the shape (1, {len(tensor.of)}), as "of" names {len(tensor.of)}: got {shape}'
        )
    return tensor


def _parse_shape(value: list[Any], where: str) -> tuple[int, ...]:
    for item in value:
        if not isinstance(item, int) or isinstance(item, bool) or not 1 <= item <= _MAX_ELEMENTS:
            raise BundleError(
                f'{where}: "shape" must hold whole numbers of at least 1 (shapes are fixed), got {describe(value)}'
            )
    shape = tuple(value)
    if len(shape) > 8 or prod(shape) > _MAX_ELEMENTS:
        raise BundleError(
            f"{where}: the shape {describe(shape)} is too large (at most 8 dimensions and {_MAX_ELEMENTS} elements)"
        )
    return shape


def _parse_of(fields: StrictJson, role: str) -> tuple[str, ...]:
    if role != "given":
        return (fields.text("of"),)
    names = fields.items("of")
    if not names or not all(isinstance(name, str) for name in names):
        raise BundleError(f'{fields.where}: "of" must be a list of input names, got {describe(names)}')
    return tuple(names)


def _fits(shape: tuple[int, ...], wanted: tuple[int | str, ...], size: tuple[int, int]) -> bool:
    sizes = {"W": size[0], "H": size[1]}
    if len(shape) != len(wanted):
        return False
    return all(
        got == (sizes.get(want, got) if isinstance(want, str) else want)
        for got, want in zip(shape, wanted, strict=True)
    )
