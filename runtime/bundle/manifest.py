"""bundle.json as frozen dataclasses (docs/bundle.md, schema 1); unknown keys are errors.

manifest = Manifest.parse(json.loads(text))
manifest.frame.width, manifest.step.inputs, manifest.controls["wind"].maximum
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from runtime.bundle.controls import ControlSpec, parse_controls
from runtime.bundle.manifest_checks import check_path, check_wiring
from runtime.bundle.strict_json import StrictJson, describe
from runtime.bundle.tensors import (
    CONDITION_INPUTS,
    CONDITION_OUTPUTS,
    STEP_INPUTS,
    STEP_OUTPUTS,
    GraphSpec,
    parse_tensors,
)
from runtime.errors import BundleError

_SCHEMA = 1
# All are required.
_KEYS = ["schema", "name", "description", "frame", "graphs", "controls", "renewal", "text"]
_KEYS += ["golden", "files", "provenance", "verified", "sha256"]
_HASH = r"[0-9a-f]{64}"


@dataclass(frozen=True)
class FrameSpec:
    """The format of the frames: width and height in pixels (even), fps, colour ("bt709")."""

    width: int
    height: int
    fps: Fraction
    colour: str
    fps_text: str  # as written: "30000/1001"


@dataclass(frozen=True)
class RenewalSpec:
    """The renewal of scenes made from noise: frames, and correlation in [0, 1]."""

    every_frames: int
    dissolve_frames: int
    correlation: float


@dataclass(frozen=True)
class TextSpec:
    """The files of the text encoder (paths inside the bundle), and the licence and source of its token vectors."""

    tokenizer: str
    vectors: str
    scales: str
    licence: str
    source: str


@dataclass(frozen=True)
class GoldenSpec:
    """One golden file.

    Args:
        file: its path inside the bundle.
        seed: of the run.
        image: whether the prompt has an image, which is in the file.
        frames: 1-based numbers of the frames in the file.
        text: of the prompt, or None.
        clip: whether the prompt has a clip, which is in the file.
        live: whether there is a live input, whose frames are in the file.
    """

    file: str
    seed: int
    image: bool
    frames: tuple[int, ...]
    text: str | None = None
    clip: bool = False
    live: bool = False


@dataclass(frozen=True)
class FileSpec:
    """The expected hash and size of a file."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """A bundle.json; `provenance` and `verified` are not checked."""

    name: str
    description: str
    frame: FrameSpec
    step: GraphSpec
    condition: GraphSpec | None
    controls: Mapping[str, ControlSpec]
    renewal: RenewalSpec | None
    text: TextSpec | None
    golden: tuple[GoldenSpec, ...]
    files: Mapping[str, FileSpec]
    provenance: Mapping[str, Any]
    verified: Mapping[str, Any]
    sha256: str
    _source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, value: Any) -> Manifest:
        """Parse the result of `json.loads`, without checking any file or the manifest's own hash.

        Raises:
            BundleError: a key, role or value breaks schema 1; the message names it.
        """
        if isinstance(value, Mapping) and value.get("schema", _SCHEMA) != _SCHEMA:
            raise BundleError(
                f"bundle.json: this everframe reads schema {_SCHEMA}, got {describe(value['schema'])}; "
                "install a newer everframe"
            )
        fields = StrictJson(value, "bundle.json", _KEYS)
        fields.integer("schema", _SCHEMA, _SCHEMA)
        frame = _parse_frame(fields)
        size = (frame.width, frame.height)
        graphs = StrictJson(fields.get("graphs"), "bundle.json: graphs", ("step", "condition"))
        step = _parse_graph(graphs, "step", STEP_INPUTS, STEP_OUTPUTS, size)
        condition = (
            _parse_graph(graphs, "condition", CONDITION_INPUTS, CONDITION_OUTPUTS, size)
            if graphs.has("condition")
            else None
        )
        manifest = cls(
            name=fields.text("name", r"[a-z0-9][a-z0-9._-]{0,63}"),
            description=fields.text("description"),
            frame=frame,
            step=step,
            condition=condition,
            controls=parse_controls(fields.items("controls"), step),
            renewal=_parse_renewal(fields.get("renewal")),
            text=_parse_text(fields.get("text")),
            golden=tuple(
                _parse_golden(item, f"bundle.json: golden[{index}]")
                for index, item in enumerate(fields.items("golden"))
            ),
            files=_parse_files(fields.mapping("files")),
            provenance=fields.mapping("provenance"),
            verified=fields.mapping("verified"),
            sha256=fields.text("sha256", _HASH),
            _source=copy.deepcopy(dict(value)),
        )
        _check_whole(manifest)
        return manifest

    @property
    def default_seed(self) -> int:
        """The default seed: that of the first golden file, so that frames can be compared, or 0."""
        return self.golden[0].seed if self.golden else 0

    def to_json(self) -> dict[str, Any]:
        """Return a copy of the JSON object that this manifest was parsed from."""
        return copy.deepcopy(dict(self._source))


def manifest_sha256(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's JSON: sorted keys, no spaces, ASCII only, without the key `sha256`."""
    bare = {key: item for key, item in value.items() if key != "sha256"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _parse_frame(fields: StrictJson) -> FrameSpec:
    frame = StrictJson(fields.get("frame"), "bundle.json: frame", ("width", "height", "fps", "colour"))
    width, height = (frame.integer(key, 16, 4096) for key in ("width", "height"))
    if width % 2 or height % 2:
        raise BundleError(f"bundle.json: frame: width and height must be even, got {width} x {height}")
    text = frame.text("fps", r"[1-9][0-9]{0,8}(/[1-9][0-9]{0,8})?")
    return FrameSpec(width, height, Fraction(text), frame.choice("colour", ("bt709",)), text)


def _parse_graph(graphs: StrictJson, name: str, inputs: Any, outputs: Any, size: tuple[int, int]) -> GraphSpec:
    where = f"bundle.json: {name}"
    is_step = name == "step"
    fields = StrictJson(graphs.get(name), where, ("file", "inputs", "outputs", *(("picture",) if is_step else ())))
    return GraphSpec(
        file=check_path(fields.text("file")),
        inputs=parse_tensors(fields.items("inputs"), f"{where} inputs", inputs, size),
        outputs=parse_tensors(fields.items("outputs"), f"{where} outputs", outputs, size),
        picture=fields.text("picture") if is_step else "",
    )


def _parse_renewal(value: Any) -> RenewalSpec | None:
    if value is None:
        return None
    fields = StrictJson(value, "bundle.json: renewal", ("every_frames", "dissolve_frames", "correlation"))
    every = fields.integer("every_frames", 1, 10**9)
    return RenewalSpec(every, fields.integer("dissolve_frames", 0, every), fields.number("correlation", 0, 1))


def _parse_text(value: Any) -> TextSpec | None:
    if value is None:
        return None
    fields = StrictJson(value, "bundle.json: text", ("tokenizer", "vectors", "scales", "licence", "source"))
    tokenizer, vectors, scales = (check_path(fields.text(key)) for key in ("tokenizer", "vectors", "scales"))
    return TextSpec(tokenizer, vectors, scales, fields.text("licence"), fields.text("source"))


def _parse_golden(value: Any, where: str) -> GoldenSpec:
    fields = StrictJson(value, where, ("file", "seed", "image", "frames", "text", "clip", "live"))
    frames = fields.items("frames")
    if not frames or any(not isinstance(item, int) or isinstance(item, bool) or item < 1 for item in frames):
        raise BundleError(f'{where}: "frames" must be a list of frame numbers from 1, got {describe(frames)}')
    if frames != sorted(set(frames)):
        raise BundleError(f'{where}: "frames" must increase, got {describe(frames)}')
    if frames[-1] >= 2**31:
        raise BundleError(f'{where}: "frames" are int32, got {describe(frames[-1])}; the last one may be 2147483647')
    return GoldenSpec(
        file=check_path(fields.text("file")),
        seed=fields.integer("seed", 0, 2**64 - 1),
        image=fields.boolean("image"),
        frames=tuple(frames),
        text=fields.text("text", r"(?s).{1,2000}") if fields.has("text") else None,
        clip=fields.boolean("clip") if fields.has("clip") else False,
        live=fields.boolean("live") if fields.has("live") else False,
    )


def _parse_files(value: dict[str, Any]) -> dict[str, FileSpec]:
    files: dict[str, FileSpec] = {}
    for path, item in value.items():
        fields = StrictJson(item, f'bundle.json: files "{path}"', ("sha256", "size_bytes"))
        files[check_path(path)] = FileSpec(fields.text("sha256", _HASH), fields.integer("size_bytes", 0, 2**40))
    return files


def _check_whole(manifest: Manifest) -> None:
    """Check the parts of a manifest against each other."""
    needs = [("renewal", "noise")] if manifest.renewal is not None else []
    used = [item.file for item in manifest.golden]
    if manifest.text is not None:
        needs.append(("text", "text"))
        used += [manifest.text.tokenizer, manifest.text.vectors, manifest.text.scales]
    elif manifest.condition is not None and manifest.condition.only_input("text") is not None:
        raise BundleError('bundle.json: condition has a text input, so "text" must name the files for it, got null')
    for control in manifest.controls.values():
        if control.target == "seed":
            needs.append((f'the control "{control.name}"', "noise"))
        elif control.target == "renewal" and manifest.renewal is None:
            raise BundleError(f'bundle.json: the control "{control.name}" is for the renewal, but "renewal" is null')
    for index, golden in enumerate(manifest.golden):
        needs += [(f"golden[{index}]", "text")] if golden.text is not None else []
        needs += [(f"golden[{index}]", "clip")] if golden.clip else []
        if golden.live and manifest.step.only_input("live") is None:
            raise BundleError(f"bundle.json: golden[{index}] needs a step graph with an input of the role live")
    check_wiring(manifest.step, manifest.condition, needs=needs, used=used, files=manifest.files)
