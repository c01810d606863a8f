"""What a run's TensorBoard log holds, read as TensorBoard reads it."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def read_events(run: Path, stage: str, series: str = "training") -> EventAccumulator:
    """Return the events of one series of a stage."""
    events = EventAccumulator(str(run / "tensorboard" / stage / series))
    events.Reload()
    return events


def points_of(events: EventAccumulator, name: str) -> dict[int, float]:
    """Return a curve: iteration -> value; no iteration is there twice."""
    points = [(event.step, event.value) for event in events.Scalars(name)]
    assert len(dict(points)) == len(points)
    return dict(points)
