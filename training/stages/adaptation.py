"""`finetune --from START`: what to start from, its configuration, and files of the run besides checkpoints."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.bundle import MANIFEST, bundle_start
from training.checkpoint import PLAYED, newest_checkpoint, save_checkpoint
from training.config import Config, load_config
from training.start import Start, TokenVectors, checkpoint_start

ADAPT = Path(__file__).parents[1] / "configs" / "adapt.toml"
CROP = 128  # pixels: what the shipped generators were trained on
FREE = (*PLAYED, "painted_sharpness")  # keys of [model] that may differ from the start's: no weight depends on them


def open_start(path: Path, option: str = "--from") -> Start:
    """Read a bundle, a checkpoint or the newest checkpoint of a run's folder.

    Args:
        path: of the folder or the file.
        option: that named it, for messages.

    Raises:
        ValueError: it is none of these, damaged, or not a generator that Everframe has trained.
    """
    if (path / MANIFEST).is_file():
        return bundle_start(path)
    if path.is_dir():
        if not any(path.glob("*.pt")):
            raise ValueError(
                f"{option} {path} is neither a bundle nor the folder of a run: it has no {MANIFEST} and no checkpoint; "
                "name a bundle, for example bundles/landscape"
            )
        return checkpoint_start(newest_checkpoint(path))
    if not path.exists():
        raise ValueError(
            f"{option} {path} does not exist: name a bundle or a checkpoint, for example bundles/landscape"
        )
    return checkpoint_start(path)


def adapted_config(start: Start, path: Path | None, changes: Sequence[str] = ()) -> Config:
    """Return the configuration of a run that begins with a start.

    Args:
        start: its settings hold unless the file or `changes` name others.
        path: of a TOML file; None for `configs/adapt.toml`.
        changes: as for `load_config`.

    Raises:
        ValueError: the file is wrong, or describes another model than the start's.
    """
    defaults: dict[str, Any] = dict(start.settings)
    model = defaults["model"]
    if path is None and min(model["height"], model["width"]) > CROP:
        defaults["finetune"] = {"crop": CROP}
    config = load_config(ADAPT if path is None else path, changes, defaults)
    for key, value in dataclasses.asdict(config.model).items():
        if key not in FREE and value != model.get(key, value):
            raise ValueError(
                f"{start.path} has model.{key} = {model[key]}, the configuration says {value}: leave the key out, or "
                "name another start"
            )
    return config


def write_parts(start: Start, run: Path) -> Path | None:
    """Write the start's enlarger to `RUN/enlarge.pt` and its token vectors to `RUN/words`, unless they are there.

    Returns:
        The folder of token vectors, None if the generator takes no text.
    """
    if start.enlarger is not None and not (run / "enlarge.pt").exists():
        run.mkdir(parents=True, exist_ok=True)
        save_checkpoint(run / "enlarge.pt", start.enlarger)
    if isinstance(start.words, TokenVectors):
        folder = run / "words"
        if not folder.exists():
            start.words.write(folder)
        return folder
    return start.words
