"""The tasks' pictures of held-out clips, written where the report looks for them."""

from __future__ import annotations

import json
from pathlib import Path

from training.atomic_file import write_text
from training.sampling import write_png
from training.stages.pretrain import Pretrainer
from training.tasks.task import TaskEvaluation


def write_pictures(pretrainer: Pretrainer, held: TaskEvaluation, run: Path) -> None:
    """Write `RUN/report/pictures/*.png` and `captions.json` beside them."""
    folder = run / "report" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    captions = {}
    for task in pretrainer.each_task():
        for name, (picture, sentence) in task.pictures(held).items():
            write_png(folder / f"{name}.png", picture)
            captions[f"{name}.png"] = sentence
    write_text(folder / "captions.json", json.dumps(captions, indent=1))
