"""Training configurations: TOML files read strictly into dataclasses.

An unknown key is an error that names the nearest known one.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import hashlib
import json
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.model.generator import Shape

PRECISIONS = ("auto", "bf16", "fp32")
BARE_WORD = re.compile("[A-Za-z][A-Za-z0-9_-]*")  # a string that --set accepts without quotes


@dataclasses.dataclass(frozen=True)
class FootageConfig:
    """How clips are cut from videos."""

    fps: float = 30.0  # frame rate of the bundle; footage is read frame by frame, whatever its own rate
    short_side: int = 144  # pixels of the short side of decoded videos
    crop_min: int = 128  # side of the square crop in pixels of the decoded video, from
    crop_max: int = 144  # to
    horizon_frames: int = 24  # length of a clip after its first frame
    holdout: str = "scene"  # "scene" holds out whole scenes, "time" the end of every video
    holdout_fraction: float = 0.2
    candidates: int = 2  # starts drawn per clip; the one with most motion is used
    either_way: bool = (
        True  # the direction of motion cannot be seen in a picture; false if it can (storms turn one way)
    )
    flip: bool = False  # mirrors half of the clips; teaches that motion goes both ways
    motion_weight: float = 0.0  # takes are drawn in proportion to this power of their speed; 0: every scene in turn

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
        if self.motion_weight > 4:
            raise ValueError(
                f"footage.motion_weight is {self.motion_weight}, expected 0 to 4: a power of the takes' speed"
            )


def task_weights() -> dict[str, float]:
    """Return the default weight of every pretraining task; 0 leaves a task out."""
    from training.tasks.table import TASKS  # here, because the tasks import this module

    return {name: task.weight for name, task in TASKS.items()}


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
    """The first stage: video without labels. A clip is four frames at an equal distance that varies per iteration."""

    iterations: int = 1500
    batch: int = 8  # of all processes together
    crop: int = 0  # side of the crop that is trained on, at the frame's scale; 0: the whole frame
    still: bool = False  # repeat the first frame of each clip, as a baseline without motion
    learning_rate: float = 6e-4
    weight_decay: float = 0.01
    weights: dict[str, float] = dataclasses.field(default_factory=task_weights)  # in TOML a key each: order = 0.2
    stride_min: int = 1  # frames from one frame of a clip to the next, from
    stride_max: int = 2  # to
    flow: float = 0.3  # reconstruction: steady flow against the footage's mean optical flow
    sway: float = 0.1  # reconstruction: how far places swing, against the footage's
    kl: float = 1e-3  # reconstruction: content code against its prior, per value
    perceptual: float = 0.6  # reconstruction: LPIPS of the painted picture; only with --perceptual
    given: float = 0.35  # reconstruction: share of clips whose first frame is given whole
    masked: float = 0.30  # share whose first frame is given in parts; the rest has the content code alone
    mask_min: float = 0.75  # share of the hidden tubes, from
    mask_max: float = 0.9  # to
    hints: bool = False  # anticipation: motion hints are sampled from the true flow of most clips

    def __post_init__(self) -> None:
        if not 0 <= self.mask_min <= self.mask_max < 1:
            raise ValueError(
                f"pretrain masks hide {self.mask_min} to {self.mask_max} of a clip, "
                "expected 0 <= mask_min <= mask_max < 1"
            )
        if self.given + self.masked > 1:
            raise ValueError(f"pretrain.given + pretrain.masked is {self.given + self.masked}, expected 1 at most")
        if self.hints and not self.weights["anticipation"] > 0:
            raise ValueError(
                "pretrain.hints is true and pretrain.anticipation, the task that learns from hints, is 0: raise it"
            )
        if not 1 <= self.stride_min <= self.stride_max:
            raise ValueError(
                f"pretrain strides are {self.stride_min} to {self.stride_max}, expected 1 <= stride_min <= stride_max"
            )


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """The second stage: a generator against two discriminators, one of pictures and one of clips."""

    iterations: int = 3000
    batch: int = 8
    crop: int = 0  # side of the crop that is trained on, at the frame's scale; 0: the whole frame
    learning_rate: float = 5e-4
    critic_learning_rate: float = 6e-4
    hints: bool = False  # motion hints are sampled from the true flow of most clips
    encoder_rate: float = 1.0  # learning rate of the generator's encoder as a share; 0 freezes it
    pretrained: str = "all"  # "all", "encoder" (the generator's and the discriminators' encoders alone) or "none"
    painter: bool = True  # false: motion alone is trained, from given pictures; the painter and its mixture stay
    played: bool = True  # false: no frames are made; flow and sway alone are compared, in a fifth of the time
    given: float = 0.375  # share of clips whose first frame is given,
    parts: float = 0.125  # share of which parts are given,
    mixed: float = 0.125  # share put together from the codes of two clips; the rest has the code of its own first frame
    past: float = 0.5  # share of iterations in which most of the given clips come with the frames before
    adversarial: float = 0.1  # weight of the clip discriminator
    adversarial_picture: float = 0.1  # weight of the picture discriminator
    unreal: float = 0.25  # weight of real clips that are frozen, reversed or wrongly captioned, as further fakes
    feature_matching: float = 0.5
    reconstruction: float = 0.2  # pooled L1 to the real continuation; keep it low, it favours still clips
    code_reconstruction: float = 1.0  # pooled L1 of pictures made from their own code
    kl: float = 2e-4  # content code against N(0, 1), per value
    perceptual: float = 0.8  # LPIPS of pictures made from their own code; only with --perceptual
    perceptual_clip: float = 0.2  # LPIPS of the last frame to the real one: forgives a shift, not an artefact
    flow: float = 0.2  # steady flow against the footage's mean optical flow
    sway: float = 0.1  # how far places swing against the footage's
    motion: float = 0.1  # log motion energy, fake against real
    correspondence: float = 0.2  # where cells move within a clip, by the pretrained position task
    alignment: float = 0.1  # clips against their captions, by the pretrained alignment task
    penalty: float = 2.0  # finite-difference R1 and R2
    penalty_sigma: float = 0.02  # larger values hide texture
    penalty_every: int = 2  # iterations; the weight is scaled to match
    burn_in_frames: int = 48  # how far states are advanced before frames are judged, at most
    replay: int = 64  # rollouts in the replay buffer; 0: none
    replay_share: float = 0.25  # of the given clips
    max_age_frames: int = 10000
    stop_gap: float = 1.0  # training stops when the clip discriminator's train/held-out gap is more than this share of
    # its real/fake gap; 0: never
    gap_every: int = 20
    rewinds: int = 3  # returns to the last checkpoint after divergence, each at half the learning rate

    def __post_init__(self) -> None:
        if self.given + self.parts + self.mixed > 1:
            raise ValueError(
                f"finetune.given + parts + mixed is {self.given + self.parts + self.mixed:g}, expected 1 at most"
            )
        if not self.played and (self.painter or max(self.adversarial, self.adversarial_picture, self.feature_matching)):
            raise ValueError(
                "finetune.played is false, so that no frames are made to be judged: set painter to false, and "
                "adversarial, adversarial_picture and feature_matching to 0"
            )
        for key in ("past", "replay_share"):
            if getattr(self, key) > 1:
                raise ValueError(f"finetune.{key} is {getattr(self, key)}, expected a share from 0 to 1")
        if self.batch < 4:
            raise ValueError(
                f"finetune.batch is {self.batch}, expected 4 or more: a batch mixes pictures, parts and codes"
            )
        if self.pretrained not in ("all", "encoder", "none"):
            raise ValueError(f'finetune.pretrained is "{self.pretrained}", expected "all", "encoder" or "none"')
        if self.penalty_every < 1 or self.gap_every < 1 or self.burn_in_frames < 1:
            raise ValueError(
                "finetune.penalty_every, gap_every and burn_in_frames must be 1 or more, got "
                f"{self.penalty_every}, {self.gap_every} and {self.burn_in_frames}"
            )


@dataclasses.dataclass(frozen=True)
class PolishConfig:
    """The third stage: trains the painter and the mixture's codes on whole frames."""

    iterations: int = 1500
    batch: int = 4  # pictures made from their codes; a quarter as many more are completed from parts
    learning_rate: float = 5e-4
    code_learning_rate: float = 4e-2
    perceptual: float = 0.8  # LPIPS; only with --perceptual
    jitter: float = 0.25  # noise added to codes, in standard deviations of their posterior
    replaced: float = 0.25  # share of the mixture that frames of the footage replace, if fine-tuning left the painter

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch < 1:
            raise ValueError(
                f"polish.iterations is {self.iterations} and polish.batch {self.batch}, expected 1 or more"
            )
        if self.replaced > 1:
            raise ValueError(f"polish.replaced is {self.replaced}, expected a share from 0 to 1")


@dataclasses.dataclass(frozen=True)
class HintsConfig:
    """The stage that trains the layers that read motion hints, and nothing else."""

    iterations: int = 2000
    batch: int = 16
    crop: int = 0  # side of the crop that is trained on, at the frame's scale; 0: the whole frame
    learning_rate: float = 1e-3
    past: float = 0.25  # share of iterations in which clips come with the frames before

    def __post_init__(self) -> None:
        if self.past > 1:
            raise ValueError(f"hints.past is {self.past}, expected a share from 0 to 1")


@dataclasses.dataclass(frozen=True)
class EnlargeConfig:
    """The enlarger of painted pictures, trained on photographs; it depends on no other stage."""

    iterations: int = 2400
    batch: int = 8
    side: int = 192  # of the large crops in pixels
    channels: int = 32
    layers: int = 10
    learning_rate: float = 1e-3
    critic_learning_rate: float = 5e-4
    critic_scale: float = 0.5  # of the encoder's channels
    warm_up: int = 200  # iterations before the discriminator joins
    l1: float = 1.0
    perceptual: float = 0.5  # LPIPS; only with --perceptual
    adversarial: float = 0.02
    penalty: float = 2.0  # finite-difference R1 and R2
    penalty_sigma: float = 0.02
    penalty_every: int = 4  # iterations; the weight is scaled to match

    def __post_init__(self) -> None:
        if self.iterations < 1 or self.batch < 1 or self.penalty_every < 1 or self.channels < 1 or self.layers < 1:
            raise ValueError("enlarge.iterations, batch, penalty_every, channels and layers must be 1 or more")
        if self.side % 32 or self.side < 64:
            raise ValueError(f"enlarge.side is {self.side}, expected a multiple of 32 of at least 64")


@dataclasses.dataclass(frozen=True)
class LiveConfig:
    """What networks for live video have in common; their stages depend on no other one."""

    iterations: int = 2400
    batch: int = 8
    side: int = 192  # of the frames made, in pixels
    frames: int = 6  # of a clip
    clips: int = 12  # cut out of each video
    remembers: bool = True  # frames before are used; false for a comparison
    learning_rate: float = 1e-3
    critic_learning_rate: float = 4e-4
    critic_scale: float = 1.0  # of the encoder's channels
    judged: int = 4  # clips of a batch that the critic sees
    warm_up: int = 1800  # iterations before the critic joins, if adversarial is above 0
    change: float = 0.5  # L1 between the changes from frame to frame, against flicker
    look: float = 0.0  # L1 between features of the encoder of --start
    adversarial: float = 0.003
    feature_matching: float = 0.03
    penalty: float = 2.0  # finite-difference R1 and R2
    penalty_sigma: float = 0.02
    penalty_every: int = 2  # iterations; the weight is scaled to match

    def check(self, name: str) -> None:
        """Raise ValueError if a value cannot be used; `name` is the section's."""
        if min(self.iterations, self.batch, self.clips, self.penalty_every) < 1:
            raise ValueError(f"{name}.iterations, batch, clips and penalty_every must be 1 or more")
        if self.side % 32 or self.side < 64:
            raise ValueError(f"{name}.side is {self.side}, expected a multiple of 32 of at least 64")
        if self.frames < 3 or not 1 <= self.judged <= self.batch:
            raise ValueError(
                f"{name}.frames is {self.frames} and judged {self.judged}, expected 3 or more frames, and 1 to batch "
                "clips"
            )


@dataclasses.dataclass(frozen=True)
class SuperResolutionConfig(LiveConfig):
    """Super-resolution of live video, trained on full-size footage."""

    channels: int = 32
    layers: int = 4

    def __post_init__(self) -> None:
        self.check("super_resolution")
        if min(self.channels, self.layers) < 1:
            raise ValueError("super_resolution.channels and layers must be 1 or more")


@dataclasses.dataclass(frozen=True)
class FillConfig(LiveConfig):
    """The fill of holes in live video."""

    short: int = 288  # pixels of the short side to which larger videos are reduced
    learning_rate: float = 4e-4
    painted: float = 0.5  # the same losses for what the network paints where it need not
    look: float = 0.2

    def __post_init__(self) -> None:
        self.check("fill")
        if self.side > 256:  # what the network sees; larger frames are reduced
            raise ValueError(f"fill.side is {self.side}, expected at most 256")
        if self.short < self.side:
            raise ValueError(f"fill.short is {self.short}, expected at least fill.side, {self.side}")


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Settings of all stages."""

    seed: int = 0
    threads: int = 0  # 0: as many as the machine has cores
    precision: str = "auto"  # "bf16", "fp32", or "auto": bf16 if the machine computes in it, else fp32
    ema: float = 0.998
    workers: int = 0  # processes that load clips; 0: one thread
    log_every: int = 10
    evaluate_every: int = 250  # held-out measures
    evaluate_clips: int = 64
    sample_every: int = 250
    checkpoint_every: int = 250
    keep_every: int = 0  # iterations between copies of the averaged weights in RUN/kept/; 0: never

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f'run.precision is "{self.precision}", expected "auto", "bf16" or "fp32"')
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
    footage: FootageConfig = dataclasses.field(default_factory=FootageConfig)
    pretrain: PretrainConfig = dataclasses.field(default_factory=PretrainConfig)
    finetune: FinetuneConfig = dataclasses.field(default_factory=FinetuneConfig)
    polish: PolishConfig = dataclasses.field(default_factory=PolishConfig)
    hints: HintsConfig = dataclasses.field(default_factory=HintsConfig)
    enlarge: EnlargeConfig = dataclasses.field(default_factory=EnlargeConfig)
    super_resolution: SuperResolutionConfig = dataclasses.field(default_factory=SuperResolutionConfig)
    fill: FillConfig = dataclasses.field(default_factory=FillConfig)
    run: RunConfig = dataclasses.field(default_factory=RunConfig)
    renewal_every_frames: int = 240
    renewal_dissolve_frames: int = 90
    renewal_correlation: float = 0.6

    def __post_init__(self) -> None:
        for name, stage in (("pretrain", self.pretrain), ("finetune", self.finetune), ("hints", self.hints)):
            if stage.iterations < 1 or stage.batch < 1:
                raise ValueError(
                    f"{name}.iterations is {stage.iterations} and {name}.batch {stage.batch}, expected 1 or more"
                )
        for name, stage in (("pretrain", self.pretrain), ("finetune", self.finetune), ("hints", self.hints)):
            sides = min(self.model.height, self.model.width)
            if stage.crop and (stage.crop % 32 or not 64 <= stage.crop <= sides):
                raise ValueError(
                    f"{name}.crop is {stage.crop}, expected 0 or a multiple of 32 from 64 to the frame's {sides}"
                )
        strides = 3 * self.pretrain.stride_max
        if strides >= self.footage.horizon_frames:
            raise ValueError(
                f"four frames reach {strides} frames ahead at the longest stride, but footage.horizon_frames is "
                f"{self.footage.horizon_frames}: lower pretrain.stride_max or raise the horizon above them"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain data with the keys of the TOML file, for checkpoints and digests."""
        data = dataclasses.asdict(self)
        data["pretrain"] |= data["pretrain"].pop("weights")
        return data

    def cropped(self, crop: int) -> Config:
        """Return the configuration for frames of crop x crop pixels; 0: this configuration."""
        return (
            self
            if not crop
            else dataclasses.replace(
                self,
                model=dataclasses.replace(self.model, height=crop, width=crop),
                pretrain=dataclasses.replace(self.pretrain, crop=0),
                finetune=dataclasses.replace(self.finetune, crop=0),
                hints=dataclasses.replace(self.hints, crop=0),
            )
        )

    def digest(self) -> str:
        """Return the SHA-256 of the configuration's canonical JSON, 64 hexadecimal digits."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def load_config(path: Path, changes: Sequence[str] = (), defaults: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML file.

    Args:
        path: of the file.
        changes: keys to set, such as "pretrain.order=0.5"; the value is TOML or an unquoted word.
        defaults: keys that hold where the file names no others, a mapping for each section.

    Raises:
        ValueError: the file is missing or not TOML, a key is unknown, or a value has the wrong type or range.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"no configuration at {path}: name a TOML file, for example training/configs/tasks-64.toml"
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path} cannot be read as TOML: {error}") from None
    for section, value in (defaults or {}).items():
        given = data.get(section, value)
        data[section] = {**value, **given} if isinstance(value, Mapping) and isinstance(given, dict) else given
    return changed_config(data, changes, str(path))


def changed_config(data: dict[str, Any], changes: Sequence[str] = (), where: str = "configuration") -> Config:
    """Build a `Config` strictly from plain data and the changes of `--set`; `where` names the source in errors.

    Raises:
        ValueError: a key is unknown, a change cannot be read, or a value has the wrong type or range.
    """
    data = copy.deepcopy(data)
    for change in changes:
        key, equals, value = change.partition("=")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"] if equals else None
        except tomllib.TOMLDecodeError:
            parsed = value.strip() if BARE_WORD.fullmatch(value.strip()) else None
        *sections, last = key.strip().split(".")
        place = data
        for section in sections:
            place = place.setdefault(section, {}) if isinstance(place, dict) else None
        if parsed is None or not isinstance(place, dict):
            raise ValueError(
                f"--set {change} cannot be read: expected SECTION.KEY=VALUE, for example pretrain.order=0.5"
            )
        place[last] = parsed
    if isinstance(data.get("run"), dict) and "bf16" in data["run"]:
        print('run.bf16 has been replaced: write run.precision = "bf16" for true, "fp32" for false, or leave it out')
    return config_from_dict(data, where)


def config_from_dict(data: dict[str, Any], where: str = "configuration") -> Config:
    """Build a `Config` strictly from plain data; `where` names the source in errors.

    The former `run.bf16` is read as `run.precision`: "bf16" or "fp32".
    """
    section = data.get("run")
    if isinstance(section, dict) and "bf16" in section:
        section = dict(section)
        is_bf16 = _checked(section.pop("bf16"), bool, f"{where}: run.bf16")
        if "precision" in section:
            raise ValueError(f"{where}: run.bf16 and run.precision say the same thing: leave run.bf16 out")
        data = data | {"run": section | {"precision": "bf16" if is_bf16 else "fp32"}}
    return typing.cast(Config, _build(Config, data, where, ""))


def _build(kind: type, data: Any, where: str, prefix: str) -> object:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: [{prefix.rstrip('.')}] is {type(data).__name__}, expected a table of keys")
    hints = typing.get_type_hints(kind)
    weights = task_weights() if kind is PretrainConfig else {}
    if weights:  # every task's weight is a key of [pretrain]
        del hints["weights"]
        if taken := sorted(weights.keys() & hints.keys()):
            raise ValueError(f"the pretraining task {taken[0]} has the name of another key of [pretrain]: rename it")
        hints |= dict.fromkeys(weights, float)
    for key in data:
        if key not in hints:
            nearest = difflib.get_close_matches(key, hints, n=1, cutoff=0.0)
            raise ValueError(f'{where}: unknown key "{prefix}{key}"; the nearest known one is "{prefix}{nearest[0]}"')
    values: dict[str, Any] = {}
    for key, value in data.items():
        expected = hints[key]
        if dataclasses.is_dataclass(expected):
            values[key] = _build(typing.cast(type, expected), value, where, f"{prefix}{key}.")
        else:
            values[key] = _checked(value, expected, f"{where}: {prefix}{key}")
    if weights:
        values["weights"] = {name: values.pop(name, weight) for name, weight in weights.items()}
    return kind(**values)


def _checked(value: Any, expected: type | types.UnionType, where: str) -> Any:
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not expected:
        raise ValueError(f"{where} is {value!r}, expected {getattr(expected, '__name__', expected)}")
    if isinstance(value, int | float) and not isinstance(value, bool) and not (0 <= value < math.inf):
        raise ValueError(f"{where} is {value}, expected 0 or more")
    return value
