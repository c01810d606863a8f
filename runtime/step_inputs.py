"""The controls and the live input of the step graph."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runtime.bundle.controls import ControlSpec
from runtime.bundle.manifest import Manifest
from runtime.bundle.strict_json import nearest
from runtime.engines.engine import Session
from runtime.hole import Hole
from runtime.prompts.images import load_image
from runtime.similar_frames import SimilarFrames


class StepInputs:
    """The latest control values and live frame: set by any thread, written to the step graph by the frame thread.

    Args:
        manifest: of the bundle.
        others: controls that the manifest does not have; the step graph does not get them.

    Attributes:
        hole: what of live frames is to be filled, if they are fed without a mask; None for nothing.
        similar: leaves out live frames that are like the last one used; None to use all.
    """

    def __init__(self, manifest: Manifest, others: Sequence[ControlSpec] = ()) -> None:
        self._manifest = manifest
        self.hole: Hole | None = None
        self.similar: SimilarFrames | None = None
        self._specs: dict[str, ControlSpec] = {**{spec.name: spec for spec in others}, **manifest.controls}
        self._lock = threading.Lock()
        rates = (name for name, control in manifest.controls.items() if control.target == "renewal")
        self._rate_name = next(rates, None)
        self._control = manifest.step.only_input("control")
        self._values = {name: control.default for name, control in self._specs.items()}
        self._fresh: dict[str, npt.NDArray[np.uint8]] = {}  # live inputs to write before the next frame
        self._is_changed = True
        self._is_unmasked = False  # the mask that the step graph has shows all of the live frame

    @property
    def specs(self) -> tuple[ControlSpec, ...]:
        """The controls: those of the manifest in its order, then the others."""
        own = self._manifest.controls
        return (*own.values(), *(spec for name, spec in self._specs.items() if name not in own))

    @property
    def values(self) -> dict[str, float]:
        """A copy of the controls' values."""
        with self._lock:
            return dict(self._values)

    @property
    def renewal_rate(self) -> float:
        """The value of the control for the renewal rate, or 1 without one."""
        return 1.0 if self._rate_name is None else self._values[self._rate_name]  # atomic

    def check_control(self, name: str, value: float) -> tuple[ControlSpec, float]:
        """Return a control and its value as a number; see `GeneratorInputs.check_control`."""
        control = self._specs.get(name)
        if control is None:
            raise ValueError(f'there is no control "{name}" {nearest(name, self._specs)}')
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name} must be a number, got {value!r}") from error
        if not control.minimum <= number <= control.maximum:
            raise ValueError(f"{name} must be from {control.minimum} to {control.maximum}, got {value}")
        if control.target == "seed" and not number.is_integer():
            raise ValueError(f"{name} is a seed and must be a whole number, got {value}")
        return control, number

    def set_control(self, name: str, value: float) -> tuple[ControlSpec, float]:
        """Set a control and return both; see `GeneratorInputs.set_control`."""
        control, number = self.check_control(name, value)
        with self._lock:
            self._values[name] = number
            self._is_changed = True
        return control, number

    def feed_live(self, frame: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8] | None) -> None:
        """Store a live frame; see `GeneratorInputs.feed_live`."""
        graph, name = self._manifest.step, self._manifest.name
        live, hidden = graph.only_input("live"), graph.only_input("mask")
        if live is None:
            raise ValueError(f"{name} has no live input")
        if mask is not None and hidden is None:
            raise ValueError(f"{name} takes no mask for its live input")
        fitted = load_image(frame, live.shape[2], live.shape[1])
        fresh = {live.name: fitted[np.newaxis]}
        if hidden is not None:
            size = hidden.shape[1:3]
            if mask is None and (hole := self.hole) is not None:
                mask = hole(fitted)
            value = np.full(hidden.shape, 255, np.uint8) if mask is None else np.array(mask)
            if value.dtype != np.uint8 or value.shape not in (size, (*size, 1), hidden.shape):
                raise ValueError(f"a mask must be uint8 {size}, got {value.dtype} {value.shape}")
            fresh[hidden.name] = value.reshape(hidden.shape)
        with self._lock:
            self._fresh, self._is_unmasked = fresh, False

    def feed_view(self, frame: npt.NDArray[np.uint8]) -> None:
        """Store a live frame that is not copied; see `GeneratorInputs.feed_view`."""
        graph = self._manifest.step
        live, hidden = graph.only_input("live"), graph.only_input("mask")
        if live is None:
            raise ValueError(f"{self._manifest.name} has no live input")
        if frame.dtype != np.uint8 or frame.shape != live.shape[1:]:
            raise ValueError(f"a live frame must be uint8 {live.shape[1:]}, got {frame.dtype} {frame.shape}")
        hole = None if hidden is None else self.hole
        mask = None if hole is None else hole(frame)
        with self._lock:
            fresh = {live.name: frame[np.newaxis]}
            if hidden is not None and mask is not None:
                fresh[hidden.name] = mask.reshape(hidden.shape)
            elif hidden is not None and not self._is_unmasked:
                fresh[hidden.name] = np.full(hidden.shape, 255, np.uint8)
            self._fresh = {**self._fresh, **fresh}  # a mask that still waits is written, too
            self._is_unmasked = mask is None

    def forget_live(self) -> None:
        """Make the next frame whatever the live frame is like (`similar`)."""
        if self.similar is not None:
            self.similar.forget()

    def write(self, session: Session, *, is_moving: bool = False) -> bool:
        """Write changes since the last call to the step graph's session.

        Args:
            session: of the step graph.
            is_moving: whether something else changes, so that a new frame has to be made.

        Returns:
            Whether a new frame has to be made for them; always true without `similar`.
        """
        similar = self.similar
        if is_moving:
            self.forget_live()
        if not self._is_changed and not self._fresh:  # a concurrent change is for the next frame
            return similar is None or not similar.may_skip(None)
        with self._lock:
            fresh, self._fresh = self._fresh, {}
            is_changed, self._is_changed = self._is_changed, False
            values = dict(self._values)
        if is_changed and self._control is not None:
            row = np.zeros(self._control.shape, np.float32)
            for name, number in values.items():
                index = self._specs[name].index
                if index is not None:
                    row[0, index] = number
            session.write(self._control.name, row)
        if similar is not None:
            if is_changed:
                similar.forget()
            frame = next((value[0] for value in fresh.values()), None)
            if similar.may_skip(frame):
                return False
        for name, value in fresh.items():
            session.write(name, value)
        return True
