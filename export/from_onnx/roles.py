"""Roles that nobody gave: guessed where the shapes are unambiguous; and the format of pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from export.from_onnx.model import GraphPort, Shape
from export.from_onnx.old_operators import StatedFormat
from export.from_onnx.pixels import PictureSpec
from export.from_onnx.role_parser import TensorRole
from runtime.bundle.strict_json import nearest

EVIDENT = {"uint8": "0..255", "int8": "-128..127"}  # types that give a picture's range
BOUNDED = ("Sigmoid", "Tanh")  # operators that give a picture's range
MIN_SIDE = 8  # pixels; smaller tensors are not taken for pictures


def picture_layouts(shape: Shape, channel: int | None = None) -> list[str]:
    """Return the layouts in which a shape is a picture; free axes may have any size.

    Args:
        shape: of the tensor.
        channel: None for a picture of 1 or 3 channels; else the picture has this channel, from 0.
    """
    if len(shape) != 4:
        return []
    axes = {"nchw": (1, (2, 3)), "nhwc": (3, (1, 2))}
    return [
        layout
        for layout, (channels, sides) in axes.items()
        if (shape[channels] in (1, 3) if channel is None else _has_channel(shape[channels], channel))
        and all(isinstance(size, str) or size >= MIN_SIDE for size in (shape[side] for side in sides))
    ]


def _has_channel(count: int | str, channel: int) -> bool:
    return isinstance(count, int) and channel < count


def guess_inputs(
    ports: Sequence[GraphPort], given: Mapping[str, TensorRole], memories: Collection[str]
) -> dict[str, TensorRole]:
    """Add roles to the inputs whose shapes are unambiguous; other inputs get none.

    Args:
        ports: the inputs of the step model that may need a role.
        given: roles given by the user.
        memories: names of the first model's outputs.

    Returns:
        Input name -> role.

    Raises:
        ValueError: several inputs can be the live picture.
    """
    roles = {port.name: given[port.name] for port in ports if port.name in given}
    roles |= {port.name: TensorRole("memory") for port in ports if port.name in memories and port.name not in given}
    unknown = [port for port in ports if port.name not in roles]
    pictures = [port for port in unknown if picture_layouts(port.shape)]
    has_live = any(role.kind == "live" for role in roles.values())
    if len(pictures) == 1 and not has_live:
        roles[pictures[0].name] = TensorRole("live")
    elif pictures and not has_live:
        names = " and ".join(str(port) for port in pictures)
        raise ValueError(
            f"{names} can each be the live picture: pass --role NAME=live for one, and a role for the other"
        )
    elif len(unknown) == 1 and not has_live and _is_latent(unknown[0]):
        roles[unknown[0].name] = TensorRole("latent")
    return roles


def guess_states(
    roles: Mapping[str, TensorRole],
    inputs: Mapping[str, tuple[str, tuple[int, ...]]],
    outputs: Mapping[str, tuple[str, tuple[int, ...]]],
) -> dict[str, TensorRole]:
    """Find the outputs of states, and make inputs states that match exactly one output in type and shape.

    Args:
        roles: the known roles of the inputs.
        inputs: (dtype, shape) of every input.
        outputs: (dtype, shape) of every output, without the frame unless a state names it.

    Returns:
        The roles; every state has its output.

    Raises:
        ValueError: a state's output does not exist, is used twice, or differs in type or shape.
    """
    paired = dict(roles)
    taken = {role.output for role in roles.values() if role.kind == "state" and role.output}
    open_inputs = [
        name for name in inputs if name not in roles or (roles[name].kind == "state" and not roles[name].output)
    ]
    unclear: list[str] = []
    for name in open_inputs:
        like = [other for other, kind in outputs.items() if kind == inputs[name] and other not in taken]
        rivals = [other for other in open_inputs if inputs[other] == inputs[name]]
        if len(like) == 1 and len(rivals) == 1:
            values = roles[name].values if name in roles else ()
            paired[name] = TensorRole("state", output=like[0], values=values, is_given=name in roles)
        elif name in roles:
            unclear.append(f'the state "{name}" matches {len(like)} outputs')
    if unclear:
        names = [name for name in open_inputs if name in roles]
        flags = ", ".join(
            f"--role {name}=state:OUTPUT" for name in names if name not in paired or not paired[name].output
        )
        raise ValueError(f"{', '.join(unclear)}: choose one with {flags}")
    states = {name: role for name, role in paired.items() if role.kind == "state"}
    for name, role in states.items():
        if role.output not in outputs:
            raise ValueError(f'the state "{name}" names the output "{role.output}" {nearest(role.output, outputs)}')
        if outputs[role.output] != inputs[name]:
            (dtype, shape), (other, size) = inputs[name], outputs[role.output]
            raise ValueError(
                f'the state "{name}" is {dtype} {shape} and its output "{role.output}" {other} {size}: they must '
                "match; give the input's shape with --shape, or name another output"
            )
        if sum(other.output == role.output for other in states.values()) > 1:
            raise ValueError(
                f'the output "{role.output}" is the next value of several states: give each another output'
            )
    return paired


def guess_frame(
    outputs: Mapping[str, tuple[int, ...]], given: Mapping[str, TensorRole], states: Collection[str]
) -> str:
    """Return the name of the output that is the frame.

    Args:
        outputs: shape of every output.
        given: roles given by the user.
        states: outputs of states; one of them is the frame only if no other output can be.

    Raises:
        ValueError: there is no picture among the outputs, or more than one.
    """
    named = [name for name, role in given.items() if role.kind == "frame"]
    if len(named) > 1:
        raise ValueError(f"only one output can be the frame, got {' and '.join(named)}: give the role frame once")
    if named:
        return named[0]
    pictures = [name for name, shape in outputs.items() if picture_layouts(shape)]
    candidates = [name for name in pictures if name not in states] or pictures
    if not candidates:
        shapes = ", ".join(f'"{name}" {list(shape)}' for name, shape in outputs.items())
        many = [name for name, shape in outputs.items() if picture_layouts(shape, 0)]
        hint = f"; one channel of a picture is shown in grey with --role {many[0]}=frame:channel=0" if many else ""
        raise ValueError(f"no output is a picture of 1 or 3 channels: {shapes}; the model makes no frames{hint}")
    if len(candidates) > 1:
        names = ", ".join(f'"{name}" {list(outputs[name])}' for name in candidates)
        raise ValueError(f"several outputs are pictures: {names}; choose the frame with --role NAME=frame")
    return candidates[0]


def to_picture_spec(
    name: str, dtype: str, shape: tuple[int, ...], role: TensorRole, stated: StatedFormat, last: str = ""
) -> PictureSpec:
    """Return the format of a picture.

    Args:
        name: the tensor's.
        dtype: NumPy's name of its type.
        shape: its fixed shape.
        role: its role, with the given details.
        stated: format according to the file's metadata, used for what the role does not give.
        last: the operator that computes an output, from which its range is guessed.

    Raises:
        ValueError: it is not a picture, or its layout is ambiguous.
    """
    layouts = [layout for layout in picture_layouts(shape, role.channel) if role.layout in ("", layout)]
    if not layouts:
        channels = "1 or 3 channels (or one of them, e.g. frame:channel=0)"
        if role.channel is not None:
            channels = f"more than {role.channel} channels, counted from 0"
        raise ValueError(
            f'"{name}" {list(shape)} is not a picture{f" in {role.layout}" if role.layout else ""}: expected four '
            f"dimensions, {channels}, and sides of at least {MIN_SIDE}"
        )
    if len(layouts) > 1:
        raise ValueError(f'"{name}" {list(shape)} can be nchw or nhwc: pass --role {name}={role.kind}:nchw or :nhwc')
    if shape[0] != 1:
        raise ValueError(
            f'"{name}" {list(shape)} is a batch of {shape[0]}: export the model for a batch of 1, or with a free batch'
        )
    is_evident = dtype in EVIDENT or last in BOUNDED
    range_ = role.range or ("" if is_evident else stated.range) or guess_range(dtype, last)
    if role.mean or role.deviation:
        range_ = role.range or "0..1"
    order = role.order or stated.order or "rgb"
    return PictureSpec(shape, dtype, layouts[0], order, range_, role.mean, role.deviation, role.channel)


def guess_range(dtype: str, last: str = "") -> str:
    """Return the default range of a picture, by its type, else by the operator that computes it."""
    return EVIDENT.get(dtype) or ("-1..1" if last == "Tanh" else "0..1")


def _is_latent(port: GraphPort) -> bool:
    """Return whether an input is a row of numbers: (1, N) or (1, N, 1, 1)."""
    is_row = len(port.shape) >= 2 and isinstance(port.shape[1], int) and all(size == 1 for size in port.shape[2:])
    return port.dtype.startswith("float") and is_row and (port.shape[0] == 1 or isinstance(port.shape[0], str))
