"""Roles as the user writes them, one text per tensor or pattern of tensors.

`TENSOR=ROLE[:DETAILS]`, e.g. input=live:-1..1,bgr   h_*=state:h_*_out   z=latent   strength=control:0.5@0..2
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from export.from_onnx.pixels import LAYOUTS, ORDERS, RANGES
from export.from_onnx.role_patterns import MARK, match_pattern
from runtime.bundle.strict_json import nearest

PICTURES = ("live", "mask", "image")  # roles of inputs that are pictures
VECTORS = ("noise", "latent", "control")  # roles of inputs that are slices of one row of numbers
TEXTS = ("tokens", "token_mask")  # roles of inputs of the first model that a text fills
INPUT_ROLES = (*PICTURES, *VECTORS, *TEXTS, "state", "fixed")
KINDS = (*INPUT_ROLES, "frame", "memory")


@dataclass(frozen=True)
class TensorRole:
    """The role of a tensor, with its details.

    Args:
        kind: one of `KINDS`.
        layout, order, range: of a picture; "" to guess it.
        mean, deviation: of a picture, as in `PictureSpec`; () for none.
        channel: of a frame, the one channel to show, from 0; None for all.
        output: of a state, the output that is its next value; of a memory, the first model's output; of a token mask,
            the input of its tokens; "" to guess it.
        values: a control's defaults, the fixed values, or what a state starts with.
        limits: a control's lowest and highest value.
        is_given: whether the user gave the role.
    """

    kind: str
    layout: str = ""
    order: str = ""
    range: str = ""
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    channel: int | None = None
    output: str = ""
    values: tuple[float, ...] = ()
    limits: tuple[float, float] = (0.0, 1.0)
    is_given: bool = False


def parse_roles(texts: Iterable[str], inputs: Collection[str], outputs: Collection[str]) -> dict[str, TensorRole]:
    """Parse the roles given by the user.

    Args:
        texts: `TENSOR=ROLE` or `TENSOR=ROLE:DETAILS` each. A `*` in a name that is no tensor's stands for one or more
            characters, and in the details for the same ones; a role of one tensor wins over such a pattern.
        inputs: names of the models' inputs.
        outputs: names of their outputs.

    Returns:
        Tensor name -> role.

    Raises:
        ValueError: a role is malformed, unknown or given twice, or a pattern fits no tensor.
    """
    roles: dict[str, TensorRole] = {}
    matched: dict[str, TensorRole] = {}
    for text in texts:
        if (parts := _ROLE.fullmatch(text)) is None:
            raise ValueError(f"a role must be TENSOR=ROLE or TENSOR=ROLE:DETAILS, got {text!r}")
        name, kind, details = parts["name"], parts["kind"], parts["details"] or ""
        if kind not in KINDS:
            raise ValueError(f'{text}: there is no role "{kind}" {nearest(kind, KINDS)}')
        known = outputs if kind == "frame" else inputs
        if MARK in name and name not in known:
            if name.count(MARK) > 1:
                raise ValueError(f'{text}: a pattern has one "{MARK}", got {name.count(MARK)}')
            stems = match_pattern(name, known)
            if not stems:
                raise ValueError(f'{text}: no tensor fits "{name}" {nearest(name, known)}')
            found = {match: _parse_details(kind, details.replace(MARK, stem), text) for match, stem in stems.items()}
        else:
            found = {name: _parse_details(kind, details, text)}
        target = matched if MARK in name and name not in known else roles
        if twice := sorted(set(found) & set(target)):
            raise ValueError(f'the role of "{twice[0]}" is given twice')
        target |= found
    return matched | roles


def _parse_details(kind: str, details: str, text: str) -> TensorRole:
    if kind in (*PICTURES, "frame"):
        return _parse_picture(kind, details, text)
    if kind == "state":
        output, at, initial = details.rpartition("@")
        if at and _INITIAL.fullmatch(initial):
            return TensorRole(kind, output=output, values=_numbers(initial, text), is_given=True)
    if kind in ("state", "memory", "token_mask"):
        return TensorRole(kind, output=details, is_given=True)
    if kind == "control":
        numbers, at, limits = details.partition("@")
        values = _numbers(numbers, text) if numbers else ()
        low, high = min(0.0, *values, 0.0), max(1.0, *values, 1.0)
        if at:
            ends = limits.split("..")
            if len(ends) != 2:
                raise ValueError(f"{text}: a control's limits must be LOW..HIGH, got {limits!r}")
            (low,), (high,) = _numbers(ends[0], text), _numbers(ends[1], text)
            if not low < high or any(not low <= value <= high for value in values):
                raise ValueError(f"{text}: the limits must be LOW..HIGH with every default between them, got {limits}")
        return TensorRole(kind, values=values, limits=(low, high), is_given=True)
    if kind == "fixed":
        if not details:
            raise ValueError(f"{text}: give the fixed value, e.g. fixed:0.5")
        return TensorRole(kind, values=_numbers(details, text), is_given=True)
    if details:
        raise ValueError(f"{text}: the role {kind} has no details, got {details!r}")
    return TensorRole(kind, is_given=True)


def _parse_picture(kind: str, details: str, text: str) -> TensorRole:
    found = {"layout": "", "order": "", "range": ""}
    statistics: dict[str, tuple[float, ...]] = {"mean": (), "std": ()}
    channel = None
    for word in filter(None, details.split(",")):
        key, equals, value = word.partition("=")
        if equals and key in statistics:
            statistics[key] = _numbers(value.replace("/", ","), text)
            if len(statistics[key]) not in (1, 3):
                raise ValueError(f"{text}: {key} is one number or three, R/G/B, got {value!r}")
        elif equals and key == "channel" and kind == "frame":
            if not value.isdecimal():
                raise ValueError(f"{text}: a channel is a number from 0, got {value!r}")
            channel = int(value)
        else:
            what = next((what for what, words in _PICTURE_WORDS.items() if word.lower() in words), None)
            if what is None:
                known = [known for words in _PICTURE_WORDS.values() for known in words]
                known += ["mean=R/G/B", "std=R/G/B", *(["channel=N"] if kind == "frame" else [])]
                raise ValueError(f'{text}: unknown detail "{word}" of a picture {nearest(word, known)}')
            found[what] = word.lower()
    mean, deviation = statistics["mean"], statistics["std"]
    if any(value <= 0 for value in deviation):
        raise ValueError(f"{text}: every std has to be above 0")
    if mean or deviation:
        if found["range"] == "imagenet":
            raise ValueError(f"{text}: imagenet has a mean and a deviation of its own: leave out one of the two")
        if not found["range"] and any(abs(value) > 1 for value in (*mean, *deviation)):
            raise ValueError(f"{text}: mean or std is above 1: add the range of their values, e.g. 0..255")
    order, range_ = found["order"], found["range"]
    return TensorRole(kind, found["layout"], order, range_, mean, deviation, channel, is_given=True)


def _numbers(text: str, where: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ValueError(f"{where}: numbers must be separated by commas, got {text!r}") from error


# A name may contain "=", and so may the details: the role is the first word between "=" and ":" or the end.
_ROLE = re.compile(r"(?P<name>.+?)=(?P<kind>[^=:]*)(:(?P<details>.*))?", re.DOTALL)
_INITIAL = re.compile(r"[-+0-9.,eE]+")  # after the last "@" of a state's details; the output's name may contain it
_PICTURE_WORDS = {"layout": LAYOUTS, "order": ORDERS, "range": tuple(RANGES)}
