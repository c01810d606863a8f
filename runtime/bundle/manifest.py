"""bundle.json as frozen dataclasses (docs/bundle.md, schemas 1 and 2); unknown keys are errors.

manifest = Manifest.parse(json.loads(text))
manifest.frame.width, manifest.step.inputs, manifest.controls["wind"].maximum
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from runtime.bundle.controls import ControlSpec, parse_controls
from runtime.bundle.manifest_checks import check_files, check_frames, check_path, check_shapes, check_wiring
from runtime.bundle.strict_json import StrictJson, describe
from runtime.bundle.tensors import (
    CONDITION_INPUTS,
    CONDITION_OUTPUTS,
    MOVING_CONDITION_INPUTS,
    MOVING_STEP_INPUTS,
    MOVING_STEP_OUTPUTS,
    PAINT_INPUTS,
    PAINT_OUTPUTS,
    STEP_INPUTS,
    STEP_OUTPUTS,
    GraphSpec,
    TensorSpec,
    parse_tensors,
)
from runtime.bundle.text_spec import TextSpec, TokensSpec, check_text_inputs, parse_text
from runtime.errors import BundleError

_SCHEMAS = (1, 2)
_MAX_SHAPES = 8
_MAX_SCENES = 64
SCENE_NAME = r"[a-z0-9][a-z0-9-]{0,39}"
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
    sharpness: float = 1.0  # gain on the finest detail of a displaced picture (schema 2)
    pace: float = 1.0  # how fast the memory's flow is played, at the default of the controls (schema 2)


@dataclass(frozen=True)
class RenewalSpec:
    """The renewal of scenes made from noise: frames, and correlation in [0, 1]."""

    every_frames: int
    dissolve_frames: int
    correlation: float


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
        mask: whether a part of it is hidden, as `runtime.golden.golden_mask` says.
    """

    file: str
    seed: int
    image: bool
    frames: tuple[int, ...]
    text: str | None = None
    clip: bool = False
    live: bool = False
    mask: bool = False


@dataclass(frozen=True)
class FileSpec:
    """The expected hash and size of a file."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class SceneSpec:
    """A picture that comes with the bundle.

    Args:
        name: for users: `[a-z0-9-]`.
        title: a few words.
        picture: its file.
        moving: file of the mask of what may move, or "".
        hints: file of what was drawn over it, or "".
        credit, licence: of the picture.
    """

    name: str
    title: str
    picture: str
    moving: str
    credit: str
    licence: str
    hints: str = ""


@dataclass(frozen=True)
class WorkShape:
    """The two graphs of schema 2 for one work size: the width and height in pixels of the picture that they read."""

    width: int
    height: int
    step: GraphSpec
    condition: GraphSpec


@dataclass(frozen=True)
class Manifest:
    """A bundle.json; `provenance` and `verified` are not checked.

    In schema 1 the step graph makes frames of the size of `frame`. In schema 2 it makes moves, and `frame` is the
    default size: `step` and `condition` are those of the first of the `shapes`, and `paint` makes pictures.
    At most one of `text` and `tokens` is there: both stand for the key `text`.
    """

    name: str
    description: str
    frame: FrameSpec
    step: GraphSpec
    condition: GraphSpec | None
    controls: Mapping[str, ControlSpec]
    renewal: RenewalSpec | None
    text: TextSpec | None
    tokens: TokensSpec | None
    golden: tuple[GoldenSpec, ...]
    files: Mapping[str, FileSpec]
    provenance: Mapping[str, Any]
    verified: Mapping[str, Any]
    sha256: str
    paint: GraphSpec | None = None
    shapes: tuple[WorkShape, ...] = ()
    scenes: tuple[SceneSpec, ...] = ()
    _source: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def parse(cls, value: Any) -> Manifest:
        """Parse the result of `json.loads`, without checking any file or the manifest's own hash.

        Raises:
            BundleError: a key, role or value breaks a rule of docs/bundle.md; the message names it.
        """
        if isinstance(value, Mapping) and value.get("schema", 1) not in _SCHEMAS:
            raise BundleError(
                f"bundle.json: this everframe reads the schemas 1 and 2, got {describe(value['schema'])}; "
                "install a newer everframe"
            )
        is_new = isinstance(value, Mapping) and value.get("schema") == _SCHEMAS[1]
        fields = StrictJson(value, "bundle.json", [*_KEYS, "scenes"] if is_new else _KEYS)
        schema = fields.integer("schema", *_SCHEMAS)
        frame = _parse_frame(fields, schema)
        shapes: tuple[WorkShape, ...] = ()
        paint = condition = None
        if schema == 1:
            size = (frame.width, frame.height)
            graphs = StrictJson(fields.get("graphs"), "bundle.json: graphs", ("step", "condition"))
            step = _parse_graph(graphs, "step", STEP_INPUTS, STEP_OUTPUTS, size, has_weights=True)
            if graphs.has("condition"):
                condition = _parse_graph(
                    graphs, "condition", CONDITION_INPUTS, CONDITION_OUTPUTS, size, has_weights=True
                )
        else:
            graphs = StrictJson(fields.get("graphs"), "bundle.json: graphs", ("shapes", "paint"))
            shapes = _parse_shapes(graphs)
            step, condition = shapes[0].step, shapes[0].condition
            if graphs.has("paint"):
                paint = _parse_graph(graphs, "paint", PAINT_INPUTS, PAINT_OUTPUTS, (0, 0))
        text = parse_text(fields.get("text"))
        manifest = cls(
            name=fields.text("name", r"[a-z0-9][a-z0-9._-]{0,63}"),
            description=fields.text("description"),
            frame=frame,
            step=step,
            condition=condition,
            controls=parse_controls(fields.items("controls"), step),
            renewal=_parse_renewal(fields.get("renewal")),
            text=text if isinstance(text, TextSpec) else None,
            tokens=text if isinstance(text, TokensSpec) else None,
            golden=tuple(
                _parse_golden(item, f"bundle.json: golden[{index}]")
                for index, item in enumerate(fields.items("golden"))
            ),
            files=_parse_files(fields.mapping("files")),
            provenance=fields.mapping("provenance"),
            verified=fields.mapping("verified"),
            sha256=fields.text("sha256", _HASH),
            paint=paint,
            shapes=shapes,
            scenes=_parse_scenes(fields.items("scenes")) if schema > 1 and fields.has("scenes") else (),
            _source=copy.deepcopy(dict(value)),
        )
        _check_whole(manifest)
        return manifest

    @property
    def default_seed(self) -> int:
        """The default seed: that of the first golden file, so that frames can be compared, or 0."""
        return self.golden[0].seed if self.golden else 0

    @property
    def graphs(self) -> tuple[GraphSpec, ...]:
        """All graphs of the bundle; those in INT8 come last, with their own file."""
        pairs = [graph for shape in self.shapes for graph in (shape.step, shape.condition)]
        graphs: tuple[GraphSpec | None, ...] = (*pairs, self.paint) if pairs else (self.step, self.condition)
        found = [graph for graph in graphs if graph is not None]
        return (*found, *(replace(graph, file=graph.int8) for graph in found if graph.int8))

    def prompt_input(self, role: str) -> TensorSpec | None:
        """Return the input with this role of the graphs that take prompts, or None."""
        for graph in (self.condition, self.paint):
            if graph is not None and (tensor := graph.only_input(role)) is not None:
                return tensor
        return None

    def to_json(self) -> dict[str, Any]:
        """Return a copy of the JSON object that this manifest was parsed from."""
        return copy.deepcopy(dict(self._source))


def manifest_sha256(value: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's JSON: sorted keys, no spaces, ASCII only, without the key `sha256`."""
    bare = {key: item for key, item in value.items() if key != "sha256"}
    text = json.dumps(bare, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def graph_sha256(manifest: Manifest, graph: GraphSpec) -> str:
    """Return the SHA-256 of a graph's file; with a weights file, that of both hashes in hexadecimal digits."""
    sha256 = manifest.files[graph.file].sha256
    if not graph.weights:
        return sha256
    return hashlib.sha256(f"{sha256} {manifest.files[graph.weights].sha256}".encode()).hexdigest()


def _parse_frame(fields: StrictJson, schema: int) -> FrameSpec:
    keys = ("width", "height", "fps", "colour", *(("sharpness", "pace") if schema > 1 else ()))
    frame = StrictJson(fields.get("frame"), "bundle.json: frame", keys)
    width, height = (frame.integer(key, 16, 4096) for key in ("width", "height"))
    if width % 2 or height % 2:
        raise BundleError(f"bundle.json: frame: width and height must be even, got {width} x {height}")
    text = frame.text("fps", r"[1-9][0-9]{0,8}(/[1-9][0-9]{0,8})?")
    sharpness = float(frame.number("sharpness", 0.5, 2)) if frame.has("sharpness") else 1.0
    pace = float(frame.number("pace", 0.1, 10)) if frame.has("pace") else 1.0
    return FrameSpec(width, height, Fraction(text), frame.choice("colour", ("bt709",)), text, sharpness, pace)


def _parse_shapes(graphs: StrictJson) -> tuple[WorkShape, ...]:
    items = graphs.items("shapes")
    if not 1 <= len(items) <= _MAX_SHAPES:
        raise BundleError(f'bundle.json: graphs: "shapes" must hold 1 to {_MAX_SHAPES} entries, got {len(items)}')
    shapes = []
    for index, item in enumerate(items):
        fields = StrictJson(item, f"bundle.json: shapes[{index}]", ("width", "height", "step", "condition"))
        width, height = (fields.integer(key, 16, 4096) for key in ("width", "height"))
        step = _parse_graph(fields, "step", MOVING_STEP_INPUTS, MOVING_STEP_OUTPUTS, (width, height), is_moving=True)
        condition = _parse_graph(fields, "condition", MOVING_CONDITION_INPUTS, CONDITION_OUTPUTS, (width, height))
        shapes.append(WorkShape(width, height, step, condition))
    if len({bool(shape.step.int8) for shape in shapes}) > 1:
        raise BundleError('bundle.json: shapes: "int8" must be in the step graph of every shape, or of none')
    return tuple(shapes)


def _parse_graph(
    graphs: StrictJson,
    name: str,
    inputs: Any,
    outputs: Any,
    size: tuple[int, int],
    *,
    is_moving: bool = False,
    has_weights: bool = False,
) -> GraphSpec:
    where = f"bundle.json: {name}"
    is_step, has_picture = name == "step", name == "step" and not is_moving
    keys = ["file", "inputs", "outputs", *(["picture"] if has_picture else []), *(["int8"] if is_step else [])]
    keys += ["weights"] if has_weights else []
    fields = StrictJson(graphs.get(name), where, keys)
    file = check_path(fields.text("file"))
    weights = check_path(fields.text("weights")) if fields.has("weights") else ""
    if weights and (weights == file or weights.rpartition("/")[0] != file.rpartition("/")[0]):
        raise BundleError(f'{where}: "weights" must be another file, beside "{file}", got "{weights}"')
    if weights and is_step and fields.has("int8"):
        raise BundleError(f'{where}: a graph with "weights" in a file has no "int8"; leave one of the two out')
    return GraphSpec(
        file=file,
        inputs=parse_tensors(fields.items("inputs"), f"{where} inputs", inputs, size),
        outputs=parse_tensors(fields.items("outputs"), f"{where} outputs", outputs, size),
        picture=fields.text("picture") if has_picture else "",
        weights=weights,
        int8=check_path(fields.text("int8")) if is_step and fields.has("int8") else "",
    )


def _parse_scenes(items: list[Any]) -> tuple[SceneSpec, ...]:
    if len(items) > _MAX_SCENES:
        raise BundleError(f'bundle.json: "scenes" must hold at most {_MAX_SCENES} entries, got {len(items)}')
    scenes: list[SceneSpec] = []
    for index, item in enumerate(items):
        where = f"bundle.json: scenes[{index}]"
        fields = StrictJson(item, where, ("name", "title", "picture", "moving", "hints", "credit", "licence"))
        scene = SceneSpec(
            name=fields.text("name", SCENE_NAME),
            title=fields.text("title", r".{1,100}"),
            picture=check_path(fields.text("picture")),
            moving=check_path(fields.text("moving")) if fields.has("moving") else "",
            credit=fields.text("credit", r".{1,300}"),
            licence=fields.text("licence", r".{1,100}"),
            hints=check_path(fields.text("hints")) if fields.has("hints") else "",
        )
        if scene.name == "all" or any(scene.name == other.name for other in scenes):
            raise BundleError(f'{where}: the name "{scene.name}" is taken; every scene needs its own, other than "all"')
        scenes.append(scene)
    return tuple(scenes)


def _parse_renewal(value: Any) -> RenewalSpec | None:
    if value is None:
        return None
    fields = StrictJson(value, "bundle.json: renewal", ("every_frames", "dissolve_frames", "correlation"))
    every = fields.integer("every_frames", 1, 10**9)
    return RenewalSpec(every, fields.integer("dissolve_frames", 0, every), fields.number("correlation", 0, 1))


def _parse_golden(value: Any, where: str) -> GoldenSpec:
    fields = StrictJson(value, where, ("file", "seed", "image", "frames", "text", "clip", "live", "mask"))
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
        mask=fields.boolean("mask") if fields.has("mask") else False,
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
    used += [file for scene in manifest.scenes for file in (scene.picture, scene.moving, scene.hints) if file]
    text = manifest.text or manifest.tokens
    used += [] if text is None else text.files
    for control in manifest.controls.values():
        if control.target == "seed":
            needs.append((f'the control "{control.name}"', "noise"))
        elif control.target == "renewal" and manifest.renewal is None:
            raise BundleError(f'bundle.json: the control "{control.name}" is for the renewal, but "renewal" is null')
    for index, golden in enumerate(manifest.golden):
        if golden.text is not None and text is None:
            raise BundleError(f"bundle.json: golden[{index}] needs a condition graph with an input of the role text")
        needs += [(f"golden[{index}]", "clip")] if golden.clip else []
        if golden.live and manifest.step.only_input("live") is None:
            raise BundleError(f"bundle.json: golden[{index}] needs a step graph with an input of the role live")
    if manifest.shapes:
        check_shapes([(shape.step, shape.condition) for shape in manifest.shapes], manifest.paint)
    else:
        check_frames(manifest.step)
        check_wiring(manifest.step, manifest.condition)
    check_text_inputs(manifest.condition, text, takes_vector=manifest.prompt_input("text") is not None)
    for part, role in needs:
        if manifest.prompt_input(role) is None:
            raise BundleError(f"bundle.json: {part} needs a condition graph with an input of the role {role}")
    graphs = [graph.file for graph in manifest.graphs]
    weights = [graph.weights for graph in manifest.graphs if graph.weights]
    check_files([*graphs, *weights, *used], manifest.files)
    if taken := {*weights} & {*graphs}:
        raise BundleError(f'bundle.json: "{min(taken)}" is both a graph and the weights of one; name two files')
