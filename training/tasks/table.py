"""The pretraining tasks. To add one: a file with a subclass of `PretrainingTask`, and a line here.

A task's name is its key in the configuration's `[pretrain]` section; the value is its weight.
"""

from __future__ import annotations

from importlib import import_module

from training.tasks.task import PretrainingTask

_CLASSES = (  # module in this folder, and class
    ("order", "OrderTask"),
    ("position", "PositionTask"),
    ("reconstruction", "ReconstructionTask"),
    ("alignment", "AlignmentTask"),
    ("anticipation", "AnticipationTask"),
)


def _load() -> dict[str, type[PretrainingTask]]:
    classes: list[type[PretrainingTask]] = [
        getattr(import_module(f"training.tasks.{module}"), name) for module, name in _CLASSES
    ]
    return {task.name: task for task in classes}


TASKS = _load()  # by name
