"""A trained generator that another training starts from: of a checkpoint here, of a bundle in `training/bundle.py`."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.checkpoint import load_checkpoint, part_of
from training.data.words import write_words

Footage = list[tuple[str, str, str]]  # (video, licence, source)


class TokenVectors(NamedTuple):
    """The token vectors of a generator that takes text, as `training.data.words.write_words` takes them."""

    tokenizer: str
    vectors: npt.NDArray[np.float32]  # (V, D)
    source: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write them as a folder of word vectors."""
        write_words(folder, self.tokenizer, self.vectors, {"source": self.source})


@dataclass(frozen=True)
class Start:
    """A trained generator and what belongs to it.

    Args:
        path: of the bundle or the checkpoint.
        name: of the generator.
        sha256: of the bundle's manifest or of the checkpoint's file.
        settings: keys of a configuration that hold unless the user's configuration names others: `model`, `footage`,
            `name`, `description` and `renewal_*`.
        weights: state dictionary of the `VideoGenerator`.
        recogniser: state dictionary of the recogniser of codes; empty if it is not there.
        footage: that it was trained on.
        words: token vectors, or the folder that holds them; None if the generator takes no text.
        vocabulary: words that an export must keep.
        enlarger: content of an `enlarge.pt`; None if there is no enlarger.
    """

    path: Path
    name: str
    sha256: str
    settings: dict[str, Any]
    weights: dict[str, Tensor]
    recogniser: dict[str, Tensor] = field(default_factory=dict)
    footage: Footage = field(default_factory=list)
    words: TokenVectors | Path | None = None
    vocabulary: list[str] = field(default_factory=list)
    enlarger: dict[str, Any] | None = None

    def note(self) -> dict[str, Any]:
        """Return what checkpoints and the manifest say about the start."""
        return {"name": self.name, "sha256": self.sha256, "footage": self.footage}


def joined_footage(own: Iterable[Sequence[str]], before: Iterable[Sequence[str]]) -> Footage:
    """Return the footage that a generator and the one it started from were trained on.

    A bundle counts clips by licence and source and does not name them. So clips of one source count once: as many as
    the larger of both numbers.

    Args:
        own, before: rows of (name, licence, source).
    """
    rows: Footage = sorted({(row[0], row[1], row[2]) for row in own})
    known = {name for name, _, _ in rows}
    left = Counter(row[1:] for row in rows)
    for name, licence, source in sorted({(row[0], row[1], row[2]) for row in before}):
        if name in known:
            continue
        if left[licence, source] > 0:
            left[licence, source] -= 1
        else:
            rows.append((name, licence, source))
    return rows


def adapted_name(name: str) -> dict[str, str]:
    """Return name and description of a generator that starts from the one of this name."""
    return {"name": f"{name[:55]}-adapted", "description": f"{name}, adapted to other footage."}


def checkpoint_start(path: Path) -> Start:
    """Read a start from `finetune.pt`, `polish.pt` or `hints.pt` of a run, and from the `enlarge.pt` beside it.

    Raises:
        ValueError: it is missing, damaged, or of another stage.
    """
    content = load_checkpoint(path)
    weights = part_of(content["ema"], "generator.")
    if content["stage"] not in ("finetune", "polish", "hints") or not weights:
        raise ValueError(
            f"{path} is of the stage {content['stage']}, --from takes finetune.pt, polish.pt or hints.pt; "
            "name pretrain.pt with --pretrained"
        )
    config = content["config"]
    settings = {key: config[key] for key in ("model", "footage") if key in config}
    settings |= {key: value for key, value in config.items() if key.startswith("renewal_")}
    beside = path.parent / "enlarge.pt"
    before = content.get("start") or {"footage": []}
    return Start(
        path=path,
        name=config["name"],
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        settings=settings | adapted_name(config["name"]),
        weights=weights,
        recogniser=part_of(content["ema"], "recogniser."),
        footage=joined_footage(content.get("footage", ()), before["footage"]),
        words=Path(content["words"]) if content.get("words") else None,
        vocabulary=list(content.get("vocabulary", ())),
        enlarger=load_checkpoint(beside) if beside.is_file() else None,
    )


def constant_outputs(weights: dict[str, Tensor], levels: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return layers whose output is the same everywhere, whatever they see.

    Args:
        weights: state dictionary of the layers; left as it is.
        levels: name of a layer -> its output (C,).
    """
    made = dict(weights)
    for layer, level in levels.items():
        made[f"{layer}.weight"] = torch.zeros_like(weights[f"{layer}.weight"])
        made[f"{layer}.bias"] = level.flatten().clone()
    return made
