"""Training configurations: TOML files read into dataclasses, strictly.

A key that is not known is an error that names the nearest right one, so that a typing mistake never trains for a night.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import math
import tomllib
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.generator import Shape


@dataclasses.dataclass(frozen=True)
class Footage:
    """How clips are cut out of a folder of videos."""

    fps: float = 30.0  # what the bundle plays at; the footage is taken frame by frame, whatever its own rate
    short_side: int = 144  # videos are decoded once, so that their short side has this many pixels
    crop_min: int = 128  # side of the square cut out, in pixels of the decoded video, drawn from this
    crop_max: int = 144  # to this
    horizon_frames: int = 24  # how far ahead of the first frame a clip reaches
    holdout: str = "scene"  # "scene": whole scenes are held out; "time": the end of every video is
    holdout_fraction: float = 0.2
    candidates: int = 2  # so many starts are drawn for a clip; the one that moves most is taken
    flip: bool = False  # mirrored clips teach that motion goes both ways: rarely what is wanted

    def __post_init__(self) -> None:
        if self.holdout not in ("scene", "time"):
            raise ValueError(f'footage.holdout is "{self.holdout}", expected "scene" or "time"')
        if not 0 < self.holdout_fraction < 1:
            raise ValueError(
                f"footage.holdout_fraction is {self.holdout_fraction}, expected a fraction between 0 and 1"
            )
        if not 32 <= self.crop_min <= self.crop_max <= self.short_side:
            raise ValueError(
                f"footage crops are {self.crop_min} to {self.crop_max} of a short side of {self.short_side}, "
                "expected 32 <= crop_min <= crop_max <= short_side"
            )
        if self.fps <= 0 or self.horizon_frames < 4 or self.candidates < 1:
            raise ValueError(
                "footage.fps must be above 0, footage.horizon_frames at least 4 and footage.candidates at least 1"
            )


@dataclasses.dataclass(frozen=True)
class Pretrain:
    """The first stage: video without labels. A clip is four frames at an equal distance, drawn anew every iteration."""

    iterations: int = 1500
    batch: int = 8  # of all processes together
    learning_rate: float = 6e-4
    weight_decay: float = 0.01
    order: float = 0.2  # weight of each task; 0 leaves it out
    position: float = 0.2
    reconstruction: float = 1.0
    alignment: float = 0.0  # needs captions and --words
    stride_min: int = 1  # frames from one frame of a clip to the next, from
    stride_max: int = 2  # to
    flow: float = 0.3  # reconstruction: steady flow against the footage's mean optical flow
    kl: float = 2e-3  # reconstruction: content code against its prior, per value
    perceptual: float = 0.6  # reconstruction: LPIPS of the painted picture; only with --perceptual
    given: float = 0.35  # reconstruction: share of clips whose first frame is given whole
    masked: float = 0.30  # share that is seen in parts; the rest has the content code alone
    mask_min: float = 0.75  # share of the hidden tubes, from
    mask_max: float = 0.9  # to

    def __post_init__(self) -> None:
        if not 0 <= self.mask_min <= self.mask_max < 1:
            raise ValueError(
                f"pretrain masks hide {self.mask_min} to {self.mask_max} of a clip, "
                "expected 0 <= mask_min <= mask_max < 1"
            )
        if self.given + self.masked > 1:
            raise ValueError(f"pretrain.given + pretrain.masked is {self.given + self.masked}, expected 1 at most")
        if not 1 <= self.stride_min <= self.stride_max:
            raise ValueError(
                f"pretrain strides are {self.stride_min} to {self.stride_max}, expected 1 <= stride_min <= stride_max"
            )


@dataclasses.dataclass(frozen=True)
class Finetune:
    """The second stage: one critic that sees the anchor and three frames."""

    iterations: int = 3000
    batch: int = 8
    learning_rate: float = 2e-4
    critic_learning_rate: float = 2e-4
    critic_channels: int = 48
    adversarial: float = 0.1
    reconstruction: float = 0.3  # pooled L1 to the real continuation: held low, it pulls towards standing still
    code_reconstruction: float = 0.5  # pooled L1 of pictures made from their own recognised code
    feature_matching: float = 0.5
    perceptual: float = 0.6  # LPIPS of pictures made from their own recognised code; only with --perceptual
    perceptual_clip: float = 0.3  # LPIPS of the last frame to the real one: forgives a shift, not an artefact
    flow: float = 0.1
    motion: float = 0.1  # log motion energy, fake against real
    penalty: float = 60.0  # finite-difference R1 and R2; times sigma^2 it is R3GAN's gamma / 2
    penalty_sigma: float = 0.05
    given: float = 0.5  # share of clips with their first frame given; the rest has the content code alone
    burn_in_frames: int = 48  # half of the clips start from a state this many frames old at most


@dataclasses.dataclass(frozen=True)
class Run:
    """What holds for all stages."""

    seed: int = 0
    threads: int = 0  # 0: as many as the machine has cores
    bf16: bool = True
    ema: float = 0.998
    workers: int = 0  # processes that read clips; 0: one thread, ahead of the training
    log_every: int = 20
    evaluate_every: int = 250  # held-out measures, pretraining only
    evaluate_clips: int = 64
    sample_every: int = 250
    checkpoint_every: int = 250

    def __post_init__(self) -> None:
        for key in ("log_every", "evaluate_every", "evaluate_clips", "sample_every", "checkpoint_every"):
            if getattr(self, key) < 1:
                raise ValueError(f"run.{key} is {getattr(self, key)}, expected 1 or more")
        if self.ema >= 1:
            raise ValueError(f"run.ema is {self.ema}, expected 0 or more and below 1")


@dataclasses.dataclass(frozen=True)
class Config:
    """A whole configuration file, one attribute per section."""

    name: str = "generator"
    description: str = "A video generator trained with Everframe."
    model: Shape = dataclasses.field(default_factory=Shape)
    footage: Footage = dataclasses.field(default_factory=Footage)
    pretrain: Pretrain = dataclasses.field(default_factory=Pretrain)
    finetune: Finetune = dataclasses.field(default_factory=Finetune)
    run: Run = dataclasses.field(default_factory=Run)
    renewal_every_frames: int = 240
    renewal_dissolve_frames: int = 90
    renewal_correlation: float = 0.6

    def __post_init__(self) -> None:
        for name, stage in (("pretrain", self.pretrain), ("finetune", self.finetune)):
            if stage.iterations < 1 or stage.batch < 1:
                raise ValueError(
                    f"{name}.iterations is {stage.iterations} and {name}.batch {stage.batch}, expected 1 or more"
                )
        strides = 3 * self.pretrain.stride_max
        if strides >= self.footage.horizon_frames:
            raise ValueError(
                f"four frames reach {strides} frames ahead at the longest stride, but footage.horizon_frames is "
                f"{self.footage.horizon_frames}: lower pretrain.stride_max or raise the horizon above them"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data, for checkpoints and digests."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Return the SHA-256 of the configuration's canonical JSON, 64 hexadecimal digits."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: Path, changes: Sequence[str] = ()) -> Config:
    """Read a TOML file.

    Args:
        path: of the file.
        changes: keys set after reading, such as "pretrain.order=0.5"; the value is TOML.

    Raises:
        ValueError: the file is missing or no TOML, a key is unknown or a value is of the wrong type or out of range.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"no configuration at {path}: name a TOML file, for example training/configs/tasks-64.toml"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} cannot be read as TOML: {error}") from None
    for change in changes:
        key, equals, value = change.partition("=")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"] if equals else None
        except tomllib.TOMLDecodeError:
            parsed = None
        *sections, last = key.strip().split(".")
        place = data
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        if parsed is None or not isinstance(place, dict):
            raise ValueError(
                f"--set {change} cannot be read: expected SECTION.KEY=VALUE, for example pretrain.order=0.5"
            )
        place[last] = parsed
    return config_from_dict(data, str(path))


def config_from_dict(data: dict[str, Any], where: str = "configuration") -> Config:
    """Build a `Config` from plain data, strictly; `where` names the source in errors."""
    return typing.cast(Config, _build(Config, data, where, ""))


def _build(kind: type, data: Any, where: str, prefix: str) -> object:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: [{prefix.rstrip('.')}] is {type(data).__name__}, expected a table of keys")
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in hints:
            nearest = difflib.get_close_matches(key, hints, n=1, cutoff=0.0)
            raise ValueError(f'{where}: unknown key "{prefix}{key}"; the nearest known one is "{prefix}{nearest[0]}"')
    values = {}
    for key, value in data.items():
        expected = hints[key]
        if dataclasses.is_dataclass(expected):
            values[key] = _build(typing.cast(type, expected), value, where, f"{prefix}{key}.")
        else:
            values[key] = _checked(value, expected, f"{where}: {prefix}{key}")
    return kind(**values)


def _checked(value: Any, expected: type | types.UnionType, where: str) -> Any:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not expected:
        raise ValueError(f"{where} is {value!r}, expected {getattr(expected, '__name__', expected)}")
    if isinstance(value, int | float) and not isinstance(value, bool) and not (0 <= value < math.inf):
        raise ValueError(f"{where} is {value}, expected 0 or more")
    return value
