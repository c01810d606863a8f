"""One rung of the parity ladder: a comparison with its gate, and the table of all of them. Imports no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from runtime.engines.table import ENGINES, open_engine

GATES_DB = {"fp32": 60.0, "bf16": 40.0, "fp16": 35.0}  # the worst frame of a closed loop, per precision
IDENTICAL_DB = 99.0  # written for frames without any difference, which have no finite PSNR


@dataclass(frozen=True)
class ParityCheck:
    """One comparison: what was run, how it came out, and the gate it had to pass."""

    engine: str
    precision: str
    run: str
    frames: int
    worst: float
    mean: float
    gate: float
    unit: str

    @property
    def passed(self) -> bool:
        """Whether the gate was passed: errors stay under it, PSNR above it."""
        return self.worst <= self.gate if self.unit == "relative error" else self.worst >= self.gate

    def to_json(self) -> dict[str, Any]:
        """Return plain data for the manifest."""
        return {**asdict(self), "passed": self.passed}


def runnable(left_out: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return every (engine, precision) that this machine can run, but for some precisions; ONNX Runtime FP32 first."""
    pairs = []
    for name in ENGINES:
        engine = open_engine(name)
        if engine.available() is None:
            pairs += [(name, precision) for precision in engine.precisions() if precision not in left_out]
    return sorted(pairs, key=lambda pair: pair != ("onnxruntime", "fp32"))


def print_rungs(rungs: Sequence[ParityCheck], title: str) -> None:
    """Print the comparisons as a table."""
    table = Table(title=title)
    for heading in ("engine", "precision", "run", "frames", "worst", "mean", "gate", ""):
        table.add_column(heading)
    for rung in rungs:
        style = "{:.2e}" if rung.unit == "relative error" else "{:.1f} dB"
        cells = (style.format(value) for value in (rung.worst, rung.mean, rung.gate))
        verdict = "passed" if rung.passed else "FAILED"
        table.add_row(rung.engine, rung.precision, rung.run, str(rung.frames), *cells, verdict)
    console = Console()
    if not console.is_terminal:
        console = Console(width=110)  # in a log file rich folds at 80 columns, the table needs more
    console.print(table)
