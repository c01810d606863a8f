"""The controls of a show: the generator's, and those of what else it has, e.g. the composite and the sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from runtime.bundle.controls import ControlSpec


class ControlHolder(Protocol):
    """What has controls. Names are unique within a show: those of a holder begin with its own name and a dot."""

    @property
    def controls(self) -> dict[str, float]:
        """A copy of the controls' values."""
        ...

    @property
    def control_specs(self) -> Sequence[ControlSpec]:
        """The controls, in the order in which people see them."""
        ...

    def check_control(self, name: str, value: float) -> None:
        """Raise ValueError unless there is such a control and the value is in its range."""
        ...

    def set_control(self, name: str, value: float) -> None:
        """Set a control from the next frame on; raises ValueError as `check_control` does."""
        ...


def find_holder(name: str, generator: ControlHolder, others: Iterable[ControlHolder]) -> ControlHolder:
    """Return what has this control, else controls of its family ("matte." of "matte.size"), else the generator."""
    others = tuple(others)
    family = f"{name.partition('.')[0]}."
    for holder in (generator, *others):
        if name in holder.controls:
            return holder
    return next((holder for holder in others if any(one.startswith(family) for one in holder.controls)), generator)


def describe_controls(holders: Iterable[ControlHolder], mapped: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return all controls, their values, and the sources that they follow (`mapped`: by name), ready for JSON."""
    described = []
    for holder in holders:
        values = holder.controls
        described += [
            {
                "name": control.name,
                "description": control.description,
                "unit": control.unit,
                "minimum": control.minimum,
                "maximum": control.maximum,
                "default": control.default,
                "value": values[control.name],
                "is_whole": control.target == "seed",
                "mapped": mapped.get(control.name),
            }
            for control in holder.control_specs
        ]
    return described
