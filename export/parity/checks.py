"""One comparison with PyTorch or with an original model, its gate, and a table of all of them. Imports no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from export.commandline import print_table
from runtime.engines.table import ENGINES, open_engine

GATES_DB = {"fp32": 60.0, "bf16": 40.0, "fp16": 35.0, "int8": 30.0}  # of a loop's worst frame, per precision
IDENTICAL_DB = 99.0  # stored for identical frames, whose PSNR is infinite


@dataclass(frozen=True)
class ParityCheck:
    """One comparison: what ran, the result, and the gate that it has to pass."""

    engine: str
    precision: str
    run: str
    frames: int
    worst: float
    mean: float
    gate: float
    unit: str

    @classmethod
    def of_psnr(cls, engine: str, precision: str, run: str, psnr_db: Sequence[float]) -> Self:
        """Return the check of a loop's frames, given the PSNR of each; infinity counts as `IDENTICAL_DB`."""
        values = [min(value, IDENTICAL_DB) for value in psnr_db]
        mean = sum(values) / len(values)
        return cls(engine, precision, run, len(values), min(values), mean, GATES_DB[precision], "dB")

    @property
    def passed(self) -> bool:
        """Whether the gate was passed: an error has to be below it, a PSNR above it."""
        return self.worst <= self.gate if self.unit == "relative error" else self.worst >= self.gate

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the manifest."""
        return {**asdict(self), "passed": self.passed}


def available_engines(without: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return every (engine, precision) of this machine, except the precisions `without`; ONNX Runtime FP32 first."""
    pairs = []
    for name in ENGINES:
        engine = open_engine(name)
        if engine.available() is None:
            pairs += [(name, precision) for precision in engine.precisions() if precision not in without]
    return sorted(pairs, key=lambda pair: pair != ("onnxruntime", "fp32"))


def print_checks(checks: Sequence[ParityCheck], title: str) -> None:
    """Print the comparisons as a table."""
    rows = []
    for check in checks:
        style = "{:.2e}" if check.unit == "relative error" else "{:.1f} dB"
        cells = (style.format(value) for value in (check.worst, check.mean, check.gate))
        verdict = "passed" if check.passed else "FAILED"
        rows.append((check.engine, check.precision, check.run, str(check.frames), *cells, verdict))
    print_table(title, ("engine", "precision", "run", "frames", "worst", "mean", "gate", ""), rows)
