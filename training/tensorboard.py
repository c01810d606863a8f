"""The TensorBoard log of a run: curves, held-out measures and pictures. Show it with `tensorboard --logdir RUN`.

A stage has up to four series, which TensorBoard lists as runs: `RUN/tensorboard/STAGE/` `training`, `heldout`, `chance`
and `baseline`. Values of the same name share a chart. `metrics.jsonl` and `heldout.jsonl` hold the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from training.tasks.task import TaskMeasure

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoardLog:
    """Writes the events of one stage; close it, or use it in a `with` statement.

    Args:
        run: the run's folder.
        stage: its name.
        start: iterations that are done. TensorBoard drops what was written earlier for later iterations.
    """

    def __init__(self, run: Path, stage: str, start: int = 0) -> None:
        self._folder, self._start = run / "tensorboard" / stage, start
        self._writers: dict[str, SummaryWriter] = {}

    def __enter__(self) -> TensorBoardLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _writer(self, series: str) -> SummaryWriter:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and only a run needs it

        if series not in self._writers:
            self._writers[series] = SummaryWriter(str(self._folder / series), purge_step=self._start + 1)
        return self._writers[series]

    def add_scalars(self, iteration: int, values: Mapping[str, float], series: str = "training") -> None:
        """Write one point of each curve, and flush."""
        writer = self._writer(series)
        for name, value in values.items():
            writer.add_scalar(name, value, iteration)
        writer.flush()

    def add_measures(self, iteration: int, measures: Iterable[TaskMeasure]) -> None:
        """Write held-out measures as TASK/NAME, beside chance and the trivial baseline."""
        for measure in measures:
            name = f"{measure.task}/{measure.name}"
            points = {"heldout": measure.value, "chance": measure.chance, "baseline": measure.baseline}
            for series, value in points.items():
                if value is not None:
                    self._writer(series).add_scalar(name, value, iteration)
            notes = [measure.unit, f"{measure.better} is better"]
            notes.append(f"baseline: {measure.baseline_name}" if measure.baseline_name else "")
            self._writer("heldout").add_text(name, ", ".join(note for note in notes if note), iteration)
        self.flush()

    def add_pictures(self, iteration: int, pictures: Mapping[str, tuple[np.ndarray, str]]) -> None:
        """Write pictures of held-out clips.

        Args:
            iteration: iterations done.
            pictures: name -> (uint8 RGB (h, w, 3), caption).
        """
        writer = self._writer("heldout")
        for name, (picture, caption) in pictures.items():
            writer.add_image(name, picture, iteration, dataformats="HWC")
            writer.add_text(name, caption, iteration)
        writer.flush()

    def flush(self) -> None:
        """Write to disk what is in memory."""
        for writer in self._writers.values():
            writer.flush()

    def close(self) -> None:
        """Flush and close the files."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}
