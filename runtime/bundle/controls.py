"""The controls of a manifest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.bundle.strict_json import StrictJson
from runtime.bundle.tensors import GraphSpec
from runtime.errors import BundleError

_TARGETS = ("step", "renewal", "seed")
_KEYS = ("name", "description", "unit", "minimum", "maximum", "default", "index", "target")
_MAX_CONTROLS = 256  # the page and the status list all of them
_MAX_SEED = 2**53  # controls are floats, which hold every whole number up to here


@dataclass(frozen=True)
class ControlSpec:
    """One control.

    Args:
        name: identifier.
        description: what it does, for people.
        unit: of its values, for people.
        minimum: lowest value.
        maximum: highest value.
        default: initial value.
        target: "step": a value of the control tensor; "renewal": a factor on the renewal rate; "seed": the seed of the
            next scene.
        index: in the control tensor; None for the other targets.
    """

    name: str
    description: str
    unit: str
    minimum: float
    maximum: float
    default: float
    target: str
    index: int | None


def parse_controls(items: list[Any], step: GraphSpec) -> dict[str, ControlSpec]:
    """Parse the manifest's list of controls.

    Args:
        items: the JSON list.
        step: the step graph, which has the control tensor.

    Returns:
        Name -> control, in the manifest's order.

    Raises:
        BundleError: an entry breaks a rule of docs/bundle.md.
    """
    if len(items) > _MAX_CONTROLS:
        raise BundleError(f"bundle.json: there are {len(items)} controls, at most {_MAX_CONTROLS} are read")
    tensor = step.only_input("control")
    count = 0 if tensor is None else tensor.shape[1]
    controls: dict[str, ControlSpec] = {}
    indices: set[int] = set()
    targets: dict[str, str] = {}  # target -> name of the control that has it
    for number, item in enumerate(items):
        control = _parse_control(item, f"bundle.json: controls[{number}]", count)
        if control.name in controls or control.index in indices:
            taken = f'the name "{control.name}" or the index {control.index}'
            raise BundleError(f"bundle.json: controls[{number}]: {taken} is taken by another control")
        if control.index is not None:
            indices.add(control.index)
        elif control.target in targets:
            taken = f'the target {control.target} is taken by the control "{targets[control.target]}"'
            raise BundleError(f"bundle.json: controls[{number}]: {taken}")
        else:
            targets[control.target] = control.name
        controls[control.name] = control
    return controls


def _parse_control(item: Any, where: str, count: int) -> ControlSpec:
    fields = StrictJson(item, where, _KEYS)
    name = fields.text("name", r"[a-z][a-z0-9_-]{0,63}")
    target = fields.choice("target", _TARGETS) if fields.has("target") else "step"
    low, high = fields.number("minimum"), fields.number("maximum")
    if not low < high:
        raise BundleError(f'{where}: "minimum" must be below "maximum", got {low} and {high}')
    default = fields.number("default", low, high)
    index = None
    if target == "step":
        if count == 0:
            raise BundleError(f"{where}: step has no input with the role control for it")
        index = fields.integer("index", 0, count - 1)
    elif fields.has("index"):
        raise BundleError(f'{where} with the target {target} must not have the key "index"')
    if target == "renewal" and low < 0:
        raise BundleError(f'{where} with the target renewal must have a "minimum" of at least 0, got {low}')
    if target == "seed" and not (
        low >= 0 and high <= _MAX_SEED and all(float(value).is_integer() for value in (low, high, default))
    ):
        got = f"{low}, {high} and {default}"
        raise BundleError(
            f'{where} with the target seed must have whole numbers from 0 to 2^53 as "minimum", "maximum" and '
            f'"default", got {got}'
        )
    return ControlSpec(name, fields.text("description"), fields.text("unit"), low, high, default, target, index)
