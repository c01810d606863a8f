"""A bundle on disk: opened, checked file by file, and only then handed on; and written back by `export`.

Everything is checked before an engine loads anything, on the very bytes that the engine will get.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from runtime.bundle.graph_checks import parse_graph
from runtime.bundle.manifest import FileSpec, Manifest, manifest_sha256
from runtime.bundle.tensors import GraphSpec
from runtime.errors import BundleError

MANIFEST = "bundle.json"
_MAX_MANIFEST_BYTES = 4 * 2**20
_MAX_DEPTH = 64  # of objects and lists in each other: a manifest has seven, and what `provenance` holds
_MAX_GRAPH_BYTES = 2**31 - 1  # protobuf's own limit


@dataclass(frozen=True)
class Bundle:
    """A bundle that has passed every check.

    Args:
        path: its folder.
        manifest: what bundle.json says.
        step: the checked step graph.
        condition: the checked condition graph, or None.
        engines: folder of the compiled graphs that came with it, if they are to be trusted; else None.
    """

    path: Path
    manifest: Manifest
    step: onnx.ModelProto
    condition: onnx.ModelProto | None
    engines: Path | None = None


def open_bundle(path: str | Path, *, trust_engines: bool = False) -> Bundle:
    """Open a bundle and check all of it: manifest, hashes, sizes, paths and both graphs.

    Files that the manifest does not list are never read.

    Args:
        path: the bundle's folder.
        trust_engines: whether the compiled graphs in its `engines/`, which no check covers, may be loaded.

    Returns:
        The checked bundle.

    Raises:
        BundleError: something is missing, damaged, or not schema 1.
    """
    folder = Path(path)
    manifest = read_manifest(folder)
    graphs = {graph.file for graph in (manifest.step, manifest.condition) if graph is not None}
    data: dict[str, bytes] = {}
    for name, spec in manifest.files.items():
        content = _check_file(folder, name, spec, keep=name in graphs)
        if content is not None:
            data[name] = content
    condition = None
    if manifest.condition is not None:
        condition = _load(data, manifest.condition)
    engines = folder / "engines" if trust_engines else None
    return Bundle(folder, manifest, _load(data, manifest.step), condition, engines)


def read_manifest(folder: Path) -> Manifest:
    """Read and check bundle.json and nothing else.

    Raises:
        BundleError: there is none, it is not JSON, its hash is wrong, or it is not schema 1.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path raises where a name is too long
        raise BundleError(f"{folder} is no folder; give the folder of a bundle, the one that holds {MANIFEST}")
    file = folder / MANIFEST
    if not file.is_file():
        raise BundleError(f"{folder} is no bundle: it holds no {MANIFEST}")
    try:
        if not (resolved := file.resolve(strict=True)).is_relative_to(folder.resolve()):
            raise BundleError(f"{file} leads out of the bundle (to {resolved}); a bundle is complete in itself")
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
    """Read one file of a bundle that is open, and check it as if it were being opened.

    Args:
        folder: the bundle's.
        name: the file's path inside the bundle.
        spec: what the manifest says of it.

    Returns:
        Its bytes.

    Raises:
        BundleError: it is missing, damaged, or leads out of the bundle.
    """
    content = _check_file(folder, name, spec, keep=True)
    assert content is not None, "a file that was to be kept was not"
    return content


def write_manifest(folder: str | Path, value: Mapping[str, Any]) -> Manifest:
    """Fill in `files` and `sha256` of a manifest and write bundle.json, beside and renamed.

    Args:
        folder: the bundle's folder, with every other file in place.
        value: the manifest; what it says under `files` and `sha256` is replaced.

    Returns:
        The manifest as written.

    Raises:
        BundleError: the manifest breaks the contract; nothing is written then.
    """
    folder = Path(folder)
    files: dict[str, dict[str, Any]] = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder).as_posix()
        if file.is_dir() or name.startswith("engines/") or name == MANIFEST:
            continue
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        files[name] = {"sha256": digest, "size_bytes": file.stat().st_size}
    filled = {**value, "files": files}
    filled["sha256"] = manifest_sha256(filled)
    manifest = Manifest.parse(filled)
    text = json.dumps(filled, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    beside = folder / f".{MANIFEST}.{os.getpid()}"
    beside.write_text(text, encoding="ascii")
    beside.replace(folder / MANIFEST)
    return manifest


def _check_file(folder: Path, name: str, spec: FileSpec, *, keep: bool) -> bytes | None:
    """Check one file's place, size and hash; return its bytes if they are to be kept."""
    file = folder / name
    try:
        resolved = file.resolve(strict=True)
        if not resolved.is_relative_to(folder.resolve()):
            raise BundleError(f"{file} leads out of the bundle (to {resolved}); a bundle is complete in itself")
        if not resolved.is_file():
            raise BundleError(f"{file} is no ordinary file")
        with resolved.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size != spec.size_bytes:
                raise BundleError(
                    f"{file} has {size} bytes, expected {spec.size_bytes}; copy or export the bundle again"
                )
            if keep and size > _MAX_GRAPH_BYTES:
                raise BundleError(f"{file} has {size} bytes; at most {_MAX_GRAPH_BYTES} can be read")
            content = stream.read(size) if keep else None
            digest = hashlib.sha256(content) if content is not None else hashlib.file_digest(stream, "sha256")
    except FileNotFoundError as error:
        raise BundleError(f"{file} is missing; copy or export the bundle again") from error
    except (OSError, RuntimeError) as error:  # Python 3.11 and 3.12 report a loop of links as a RuntimeError
        raise BundleError(f"{file} cannot be read: {error}") from error
    if digest.hexdigest() != spec.sha256:
        raise BundleError(
            f"{file} is damaged or was changed: its SHA-256 does not fit; copy or export the bundle again"
        )
    return content


def _load(data: Mapping[str, bytes], graph: GraphSpec) -> onnx.ModelProto:
    return parse_graph(data[graph.file], graph)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key stands there twice")
    return value


def _to_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _check_json(value: Any) -> None:
    """Raise ValueError where a value is nested too deep, or a string cannot be written as UTF-8."""
    level = [value]
    for _ in range(_MAX_DEPTH):
        for item in level:
            if isinstance(item, str):
                item.encode("utf-8")  # half of a character is a UnicodeEncodeError, which is a ValueError
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
