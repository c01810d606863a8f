"""The pretraining tasks. To add one: a file with a subclass of `PretrainingTask`, and a line here.

A task's name is its key in the configuration's `[pretrain]` section; the value is its weight.
"""

from __future__ import annotations

from training.tasks.alignment import AlignmentTask
from training.tasks.anticipation import AnticipationTask
from training.tasks.order import OrderTask
from training.tasks.position import PositionTask
from training.tasks.reconstruction import ReconstructionTask
from training.tasks.task import PretrainingTask

_TASKS: tuple[type[PretrainingTask], ...] = (
    OrderTask,
    PositionTask,
    ReconstructionTask,
    AlignmentTask,
    AnticipationTask,
)
TASKS = {task.name: task for task in _TASKS}
