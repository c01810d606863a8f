"""Writes a bundle as a model repository of Triton: one model for each graph that a server runs."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from export.folder_writer import atomic_folder
from export.triton.config import BACKENDS, check_config, graph_config, parse_config, step_config
from export.triton.step_graph import server_step
from runtime.bundle.manifest import graph_sha256
from runtime.bundle.pruning import pruned_model
from runtime.bundle.reader import Bundle
from runtime.engines.opening import weights_of
from runtime.engines.triton_interface import StepInterface, model_name
from runtime.prepared_bundle import prepare_bundle

PLANS = "build-plans.sh"  # builds the plans of TensorRT


@dataclass(frozen=True)
class ServerModel:
    """A model of a repository.

    Args:
        name: of its folder.
        graph: what it computes.
        config: its config.pbtxt.
        interface: of a step model, else None.
        weights: the file that the graph's external data name, or None.
    """

    name: str
    graph: onnx.ModelProto
    config: str
    interface: StepInterface | None = None
    weights: Path | None = None


@dataclass(frozen=True)
class RepositoryOptions:
    """What a repository holds.

    Args:
        size: (width, height) of the frames; None for the bundle's own.
        pixels: formats of the frames, "rgb", "i420" or both: a step model each.
        backend: a key of `export.triton.config.BACKENDS`.
        max_sequences: sequences that an instance of a step model has at a time.
        name: what the models' names begin with; empty for the bundle's name.
    """

    size: tuple[int, int] | None = None
    pixels: Sequence[str] = ("rgb", "i420")
    backend: str = "onnxruntime"
    max_sequences: int = 8
    name: str = ""


def write_repository(path: Path, out: Path, options: RepositoryOptions) -> tuple[ServerModel, ...]:
    """Write a model repository, completely or not at all, and return its models.

    Args:
        path: folder of a bundle.
        out: the repository's folder, which must not exist.
        options: what it holds.

    Raises:
        ValueError: `out` exists, or an option does not fit the bundle.
        BundleError: the bundle is damaged.
        EngineError: tritonclient is not installed.
    """
    if out.exists() or out.is_symlink():
        raise ValueError(f"{out} already exists: choose another --out, or remove it first")
    models = server_models(path, options)
    file = BACKENDS[options.backend]
    with atomic_folder(out, force=False) as folder:
        for model in models:
            version = folder / model.name / "1"
            version.mkdir(parents=True)
            (version / "model.onnx").write_bytes(model.graph.SerializeToString())
            if model.weights is not None:
                shutil.copyfile(model.weights, version / model.weights.name)
            (version.parent / "config.pbtxt").write_text(model.config, encoding="utf-8")
        if file != "model.onnx":
            script = folder / PLANS
            script.write_text(_plans(models, file), encoding="utf-8")
            script.chmod(0o755)
    return models


def server_models(path: Path, options: RepositoryOptions) -> tuple[ServerModel, ...]:
    """Return the models of a repository, checked; arguments and errors as of `write_repository`."""
    models: list[ServerModel] = []
    for pixels in options.pixels:
        # The payload of the mark is a show's own: the server gets it with the first frame.
        bundle, _ = prepare_bundle(path, pixels, options.size, areas=None, mark=0, trust_engines=False)
        if not models:
            models += _scene_models(bundle, options)
        graph, interface = server_step(bundle, pixels, holds_floats=options.backend == "tensorrt")
        name = model_name(options.name or bundle.manifest.name, f"step-{pixels}")
        sha256 = graph_sha256(bundle.manifest, bundle.manifest.step)
        config = step_config(name, interface, options.backend, sha256=sha256, max_sequences=options.max_sequences)
        models.append(ServerModel(name, graph, config, interface, weights_of(bundle, bundle.manifest.step)))
    for model in models:
        check_config(parse_config(model.config), model.graph)
    return tuple(models)


def _scene_models(bundle: Bundle, options: RepositoryOptions) -> list[ServerModel]:
    """Return the models that make scenes."""
    models, manifest = [], bundle.manifest
    for part, graph, spec in (
        ("condition", bundle.condition, bundle.work or manifest.condition),
        ("paint", bundle.paint, manifest.paint),
    ):
        if graph is not None and spec is not None:
            name = model_name(options.name or manifest.name, part)
            config = graph_config(name, spec, options.backend, sha256=graph_sha256(manifest, spec))
            pruned = pruned_model(graph, [item.name for item in spec.outputs])
            models.append(ServerModel(name, pruned, config, weights=weights_of(bundle, spec)))
    return models


def _plans(models: Sequence[ServerModel], file: str) -> str:
    """Return a script that builds a plan for each model with trtexec."""
    lines = [
        "#!/bin/sh",
        "# Builds the TensorRT plans of this repository. Run it on the server's GPU, with the trtexec of the same",
        "# TensorRT as Triton's: best in Triton's own container. It has not yet been run.",
        "set -e",
        'cd "$(dirname "$0")"',
    ]
    for model in models:
        folder = f"{model.name}/1"
        command = [
            "trtexec",
            f"--onnx={folder}/model.onnx",
            f"--saveEngine={folder}/{file}",
            "--stronglyTyped",
            "--noTF32",
        ]
        if model.interface is not None:
            shortest = ",".join(f"{item.names[0]}:1" for item in model.interface.held)
            longest = ",".join(f"{item.names[0]}:{item.count + 1}" for item in model.interface.held)
            command += [f"--minShapes={shortest}", f"--optShapes={shortest}", f"--maxShapes={longest}"]
        lines.append(shlex.join(command))
    return "\n".join(lines) + "\n"
