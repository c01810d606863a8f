"""Reads and checks a bundle on disk, and writes its manifest for `export`.

All checks are made before an engine loads anything, on the same bytes that the engine gets. Only weights in files of
their own are hashed here and read again by the engine, which maps them into memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from runtime.bundle.external_weights import MAX_WEIGHTS_BYTES, WeightsFile, status_of
from runtime.bundle.graph_checks import parse_graph
from runtime.bundle.manifest import FileSpec, Manifest, manifest_sha256
from runtime.bundle.tensors import GraphSpec
from runtime.errors import BundleError

_MANIFEST = "bundle.json"
_MAX_MANIFEST_BYTES = 4 * 2**20
_MAX_DEPTH = 64  # of nested objects and lists: a manifest has seven, and those of `provenance`
_MAX_GRAPH_BYTES = 2**31 - 1  # protobuf's own limit


@dataclass(frozen=True)
class Bundle:
    """A bundle that passed all checks.

    Args:
        path: its folder.
        manifest: the content of bundle.json.
        step: the checked step graph; in schema 2 that of the first shape.
        condition: the checked condition graph, or None; in schema 2 that of the first shape.
        engines: folder of the bundle's compiled graphs, if the user trusts them; else None.
        paint: the checked graph that makes pictures up, or None (schema 2).
        shapes: the checked step and condition graph of each shape (schema 2).
        work: tensors of the condition graph at its work size, once `with_size` has given the bundle a frame size.
        build_half: returns the step graph with half the detail, likewise.
        areas: another bundle, which says what may move in pictures without a mask; None for none.
        plane: of the mark that frames carry (`runtime.marking`), float32 of a frame's shape; None for no mark.
        weights: the files that graphs name as their weights, by their paths inside the bundle.
        int8: the same bundle with the step graphs in INT8; None if it has none.
    """

    path: Path
    manifest: Manifest
    step: onnx.ModelProto
    condition: onnx.ModelProto | None
    engines: Path | None = None
    paint: onnx.ModelProto | None = None
    shapes: tuple[tuple[onnx.ModelProto, onnx.ModelProto], ...] = ()
    work: GraphSpec | None = None
    build_half: Callable[[], onnx.ModelProto] | None = None
    areas: Bundle | None = None
    plane: npt.NDArray[np.float32] | None = None
    weights: Mapping[str, WeightsFile] = field(default_factory=dict)
    int8: Bundle | None = None

    def in_precision(self, precision: str) -> Bundle:
        """Return the bundle whose step graph runs in a precision: itself, but for "int8".

        Raises:
            BundleError: the bundle has no step graph in INT8.
        """
        if precision != "int8":
            return self
        if self.int8 is None:
            raise BundleError(
                f"{self.path} has no graph in int8: add one with python -m export int8 {self.path} --out OTHER, or "
                "choose another precision"
            )
        return self.int8


def open_bundle(path: str | Path, *, trust_engines: bool = False) -> Bundle:
    """Open a bundle and check its manifest, hashes, sizes, paths and graphs.

    Files that the manifest does not list are never read.

    Args:
        path: the bundle's folder.
        trust_engines: whether the compiled graphs in its `engines/`, which are not checked, may be loaded.

    Returns:
        The checked bundle.

    Raises:
        BundleError: something is missing, damaged, or of an unknown schema.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    graphs = {graph.file for graph in manifest.graphs}
    mapped = {graph.weights for graph in manifest.graphs if graph.weights}
    data: dict[str, bytes] = {}
    weights: dict[str, WeightsFile] = {}
    for name, spec in manifest.files.items():
        if name in mapped:
            weights[name] = _check_weights(folder, name, spec)
        elif name in graphs:
            data[name] = read_file(folder, name, spec)
        else:
            _check_file(folder, name, spec, keep=False)
    parsed = {
        graph.file: parse_graph(
            data[graph.file], graph, manifest.files[graph.weights].size_bytes if graph.weights else 0
        )
        for graph in manifest.graphs
    }
    bundle = Bundle(
        path=folder,
        manifest=manifest,
        step=parsed[manifest.step.file],
        condition=None if manifest.condition is None else parsed[manifest.condition.file],
        engines=folder / "engines" if trust_engines else None,
        paint=None if manifest.paint is None else parsed[manifest.paint.file],
        shapes=tuple((parsed[shape.step.file], parsed[shape.condition.file]) for shape in manifest.shapes),
        weights=weights,
    )
    if not manifest.step.int8:
        return bundle
    shapes = tuple((parsed[shape.step.int8], parsed[shape.condition.file]) for shape in manifest.shapes)
    return replace(bundle, int8=replace(bundle, step=parsed[manifest.step.int8], shapes=shapes))


def read_manifest(folder: Path) -> Manifest:
    """Read and check bundle.json only.

    Raises:
        BundleError: it is missing, not JSON, of an unknown schema, or its hash is wrong.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path raises if a name is too long
        raise BundleError(f"{folder} is no folder; give the folder of a bundle, the one that holds {_MANIFEST}")
    file = folder / _MANIFEST
    if not file.is_file():
        raise BundleError(f"{folder} is no bundle: it holds no {_MANIFEST}")
    try:
        if not (resolved := file.resolve(strict=True)).is_relative_to(folder.resolve()):
            raise BundleError(f"{file} leads out of the bundle (to {resolved}); a bundle must contain all its files")
        with resolved.open("rb") as stream:
            data = stream.read(_MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{file} cannot be read: {error.strerror}") from error
    if len(data) > _MAX_MANIFEST_BYTES:
        raise BundleError(f"{file} is larger than {_MAX_MANIFEST_BYTES} bytes; a manifest is a few thousand")
    try:
        value = json.loads(
            data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_to_float
        )
        _check_json(value)
    except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors are ValueErrors
        raise BundleError(f"{file} is not JSON: {error}") from error
    manifest = Manifest.parse(value)
    if manifest_sha256(value) != manifest.sha256:
        raise BundleError(f'{file} was changed: its "sha256" does not fit its content; export the bundle again')
    return manifest


def read_file(folder: Path, name: str, spec: FileSpec) -> bytes:
    """Read and check one file of a bundle.

    Args:
        folder: of the bundle.
        name: the file's path inside the bundle.
        spec: the manifest's entry for it.

    Returns:
        Its content.

    Raises:
        BundleError: it is missing, damaged, or leads out of the bundle.
    """
    content, _ = _check_file(folder, name, spec, keep=True)
    return content


def write_manifest(folder: str | Path, value: Mapping[str, Any]) -> Manifest:
    """Fill in `files` and `sha256` of a manifest and write bundle.json (a temporary file, then renamed).

    Args:
        folder: of the bundle, with all other files.
        value: the manifest; its `files` and `sha256` are replaced.

    Returns:
        The manifest as written.

    Raises:
        BundleError: the manifest breaks a rule; nothing is written.
    """
    folder = Path(folder)
    files: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_dir() or name.startswith("engines/") or name == _MANIFEST:
            continue
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files[name] = {"sha256": digest, "size_bytes": file.stat().st_size}
    filled = {**value, "files": files}
    filled["sha256"] = manifest_sha256(filled)
    manifest = Manifest.parse(filled)
    text = json.dumps(filled, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    temporary = folder / f".{_MANIFEST}.{os.getpid()}"
    temporary.write_text(text, encoding="ascii")
    temporary.replace(folder / _MANIFEST)
    return manifest


def _check_weights(folder: Path, name: str, spec: FileSpec) -> WeightsFile:
    """Check a weights file, which is not kept in memory."""
    if spec.size_bytes > MAX_WEIGHTS_BYTES:
        raise BundleError(
            f"{folder / name} has {spec.size_bytes} bytes; weights of at most {MAX_WEIGHTS_BYTES} are read"
        )
    _, status = _check_file(folder, name, spec, keep=False)
    file = folder / name
    return WeightsFile(file.parent.resolve() / file.name, spec.sha256, status)


def _check_file(folder: Path, name: str, spec: FileSpec, *, keep: bool) -> tuple[bytes, tuple[int, int, int]]:
    """Check the path, size and hash of a file; return its content if `keep`, else b"", and its status."""
    file = folder / name
    try:
        resolved = file.resolve(strict=True)
        if not resolved.is_relative_to(folder.resolve()):
            raise BundleError(f"{file} leads out of the bundle (to {resolved}); a bundle must contain all its files")
        if not resolved.is_file():
            raise BundleError(f"{file} is not a regular file")
        with resolved.open("rb") as stream:
            status = os.fstat(stream.fileno())
            size = status.st_size
            if size != spec.size_bytes:
                raise BundleError(
                    f"{file} has {size} bytes, expected {spec.size_bytes}; copy or export the bundle again"
                )
            if keep and size > _MAX_GRAPH_BYTES:
                raise BundleError(f"{file} has {size} bytes; at most {_MAX_GRAPH_BYTES} can be read")
            content = stream.read(size) if keep else b""
            digest = hashlib.sha256(content) if keep else hashlib.file_digest(stream, "sha256")
    except FileNotFoundError as error:
        raise BundleError(f"{file} is missing; copy or export the bundle again") from error
    except (OSError, RuntimeError) as error:  # Python 3.11 and 3.12 report a loop of links as a RuntimeError
        raise BundleError(f"{file} cannot be read: {error}") from error
    if digest.hexdigest() != spec.sha256:
        raise BundleError(
            f"{file} is damaged or was changed: its SHA-256 does not fit; copy or export the bundle again"
        )
    return content, status_of(status)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key appears twice")
    return value


def _to_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _check_json(value: Any) -> None:
    """Raise ValueError if a value is nested too deep, or a string cannot be encoded as UTF-8."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        for item in level:
            if isinstance(item, str):
                item.encode("utf-8")  # UnicodeEncodeError is a ValueError
        level = [
            part
            for item in level
            if isinstance(item, (dict, list))
            for part in ([*item, *item.values()] if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
