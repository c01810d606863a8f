"""Reads a trained generator back from the bundle that it was exported to (docs/bundle.md).

The graphs hold the averaged weights under their names in PyTorch; the large ones in FP16, to which the export has
rounded them, so nothing is lost. Two things are not in the graphs as they are:

- The oscillators' rates and damping are stored as their exponentials.
- What the painter sees of a picture's given parts (`SEEING`) is stored as what it sees of nothing. Those layers start
  anew: they give what was stored whatever they see, so pictures from a seed or a text stay as they are.

Shape, pace and other settings of the model are read from the manifest (`provenance.training.model`), and from the
graphs where an older export has not written them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import NodeProto, TensorProto, numpy_helper
from torch import Tensor

from training.checkpoint import is_optional
from training.config import config_from_dict
from training.model.generator import SPREADING, Shape, VideoGenerator
from training.model.trunk import CHANNELS, Trunk
from training.start import Footage, Start, TokenVectors, adapted_name, constant_outputs

MANIFEST = "bundle.json"
SCHEMA = 2
ENLARGER = "enlarger."
# What the painter sees of nothing, as paint.onnx stores it -> the last layer on that way.
SEEING = {"x32": "bottom", "x16": "skip16", "x8": "skip8", "x4": "skip4"}
_EYE = ("stem", "down8", "down16", "down32", *SEEING.values())
DIGITS = 6  # of settings that a graph stores in FP32

Array = npt.NDArray[Any]


def stored_weights(models: Iterable[onnx.ModelProto]) -> dict[str, Tensor]:
    """Return the initialisers of graphs by name, in FP32; `.half` behind the names of those in FP16 is removed.

    The exporter stores equal values once, under one name, and leaves out a bias of zeros. A bias is therefore also
    found by the weight beside it.
    """
    found: dict[str, Tensor] = {}
    for model in models:
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL:
                continue  # in another file: not a graph that Everframe has trained
            value = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
            found[tensor.name.removesuffix(".half")] = value
        for node in model.graph.node:
            if node.op_type not in ("Conv", "Gemm") or not node.input[1].endswith(".weight"):
                continue
            name = f"{node.input[1].removesuffix('.weight')}.bias"
            if len(node.input) == 2:
                found.setdefault(name, torch.zeros(len(found[node.input[1]])))
            elif node.input[2] in found:
                found.setdefault(name, found[node.input[2]])
    return found


def bundle_start(folder: Path) -> Start:
    """Read a start from a bundle of schema 2 that Everframe has trained and exported.

    Raises:
        ValueError: it is another bundle, or damaged.
    """
    manifest = _read_manifest(folder)
    provenance = manifest.get("provenance")
    training = provenance.get("training") if isinstance(provenance, dict) else None
    if manifest.get("schema") != SCHEMA or not isinstance(training, dict) or "stage" not in training:
        raise ValueError(
            f"{folder} is an imported model or a bundle of schema {manifest.get('schema')}, expected one of schema "
            f"{SCHEMA} that Everframe has trained, such as bundles/landscape: name another with --from"
        )
    try:
        graphs = manifest["graphs"]
        first = graphs["shapes"][0]
        files = {
            "condition": first["condition"]["file"],
            "step": first["step"]["file"],
            "paint": graphs["paint"]["file"],
        }
        parts = {part: onnx.load_model_from_string(_read_file(folder, manifest, file)) for part, file in files.items()}
        found = stored_weights(parts.values())
        step, paint = _Graph(parts["step"]), _Graph(parts["paint"])
        shape = _shape(found, step, paint, manifest)
        settings: dict[str, Any] = {"model": dataclasses.asdict(shape), **adapted_name(manifest["name"])}
        settings["footage"] = training.get("footage", {"fps": float(Fraction(manifest["frame"]["fps"]))})
        if renewal := manifest.get("renewal"):
            settings |= {f"renewal_{key}": renewal[key] for key in ("every_frames", "dissolve_frames", "correlation")}
        words = _words(folder, manifest)
        return Start(
            path=folder,
            name=manifest["name"],
            sha256=manifest["sha256"],
            settings=settings,
            weights=_weights(folder, found, step, shape),
            footage=_footage(manifest["provenance"].get("data", []), "clips"),
            words=words,
            vocabulary=_vocabulary(words),
            enlarger=_enlarger(found, _footage(manifest["provenance"].get("pictures", []), "pictures")),
        )
    except (KeyError, IndexError, TypeError, AttributeError, DecodeError) as error:
        raise ValueError(
            f"{folder} cannot be read back ({type(error).__name__}: {error}): copy or export the bundle again"
        ) from None


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{folder / MANIFEST} cannot be read ({type(error).__name__}): name a bundle's folder"
        ) from None
    if not isinstance(value, dict):
        raise ValueError(f"{folder / MANIFEST} is not a manifest: name a bundle's folder")
    return value


def _read_file(folder: Path, manifest: dict[str, Any], name: str) -> bytes:
    """Return the content of a file that the manifest lists, checked by its hash."""
    expected = manifest["files"][name]["sha256"]
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()) or not path.is_file():
        raise ValueError(f"{path} is missing: copy or export the bundle again")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{path} is damaged, its SHA-256 is not the manifest's: copy or export the bundle again")
    return content


class _Graph:
    """A graph whose settings are found by what its nodes do, because the exporter numbers their names."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants: dict[str, Array] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        self._producer = {name: node for node in self.nodes for name in node.output}

    def first(self, kind: str) -> NodeProto:
        """Return the first node of a kind; KeyError if there is none."""
        for node in self.nodes:
            if node.op_type == kind:
                return node
        raise KeyError(f"no {kind} node")

    def source(self, node: NodeProto) -> NodeProto:
        """Return the node that makes a node's first input."""
        return self._producer[node.input[0]]

    def user(self, node: NodeProto) -> NodeProto:
        """Return the first node that reads a node's output."""
        return next(other for other in self.nodes if node.output[0] in other.input)

    def parts(self, node: NodeProto) -> tuple[Array | None, str]:
        """Return the constant among a node's inputs, None if there is none, and its first other input."""
        constant = next((self.constants[name] for name in node.input if name in self.constants), None)
        return constant, next(name for name in node.input if name not in self.constants)

    def factor(self, node: NodeProto, without: float) -> float:
        """Return the constant that a product has; `without` if the node is no product: the exporter drops a 1."""
        constant = self.parts(node)[0] if node.op_type == "Mul" else None
        return without if constant is None or constant.size != 1 else float(constant.item())

    def pace(self, name: str, control: str) -> float:
        """Return by what the motion control is multiplied on its way to a tensor."""
        pace = 1.0
        while name != control:
            node = self._producer[name]
            pace *= self.factor(node, 1.0)
            name = self.parts(node)[1]
        return pace


def _speed(step: _Graph) -> tuple[Array, str]:
    """Return the oscillators' rates (1, K), radians per frame, and the tensor that they are multiplied by."""
    rates, speed = step.parts(step.source(step.first("Cos")))
    if rates is None:
        raise KeyError("no rates")
    return rates, speed


def _shape(found: dict[str, Tensor], step: _Graph, paint: _Graph, manifest: dict[str, Any]) -> Shape:
    """Return the shape, from the manifest or, if it does not have it, from the graphs."""
    known = manifest["provenance"]["training"].get("model")
    if known is not None:
        return config_from_dict({"model": known}, MANIFEST).model
    width, height = manifest["provenance"]["training"]["trained_size"]
    rates, speed = _speed(step)
    periods = [
        float(step.constants[node.input[1]].item())
        for node in step.nodes
        if node.op_type == "Div" and node.input[0] == speed and node.input[1] in step.constants
    ]
    if len(periods) != 2 or max(periods) != SPREADING * min(periods):
        raise KeyError("period_frames")
    # The border between two components: 4 * (1 - mixing) * (1 + |noise|); the detail: (gain - 1) * detail.
    border = paint.factor(paint.user(paint.user(paint.first("Abs"))), 1.0)
    pools = [node for node in paint.nodes if node.op_type == "AveragePool"]
    gain = 1 + paint.factor(paint.user(paint.user(paint.user(pools[0]))), 1.0) if pools else 1.0
    depth = sum(name.startswith("encoder.trunk.blocks.0.") and name.endswith("first.bias") for name in found)
    return Shape(
        height=height,
        width=width,
        num_modes=rates.size,
        period_frames=round(min(periods)),
        text_dimensions=found["prior.texts"].shape[1] if "prior.texts" in found else 0,
        components=len(found["prior.means"]),
        mixing=round(1 - border / 4, DIGITS),
        pace=round(step.pace(speed, "control"), DIGITS),
        sharpness=float(manifest["frame"]["sharpness"]),
        painted_sharpness=round(gain, DIGITS),
        encoder_scale=_encoder_scale(found),
        encoder_depth=depth,
    )


def _encoder_scale(found: dict[str, Tensor]) -> float:
    """Return the factor on the encoder's channels; any that gives these channels is the same model."""
    downs = [f"encoder.trunk.downs.{number}.bias" for number in range(len(CHANNELS) - 1)]
    stem, *channels = (len(found[name]) for name in ("encoder.trunk.stem.bias", *downs))
    for width, wanted in zip((stem, *channels), CHANNELS, strict=True):
        trunk = Trunk(width / wanted)
        if trunk.channels == tuple(channels) and trunk.stem.out_channels == stem:
            return width / wanted
    raise KeyError("encoder_scale")


def _weights(folder: Path, found: dict[str, Tensor], step: _Graph, shape: Shape) -> dict[str, Tensor]:
    """Return the state dictionary of the generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of the layers that start anew
        fresh = VideoGenerator(shape).state_dict()
    rates, speed = _speed(step)
    damping, by = step.parts(step.source(step.first("Exp")))
    if damping is None or by != speed:
        raise KeyError("no damping")
    known = {f"condition.{name}": value for name, value in found.items() if not name.startswith("step.")}
    known |= {name: value for name, value in found.items() if name.startswith("step.")}
    known |= {"step.log_rate": _logarithm(rates), "step.log_damping": _logarithm(-damping)}
    eye = {name: fresh[f"condition.painter.{name}"] for layer in _EYE for name in (f"{layer}.weight", f"{layer}.bias")}
    levels = {layer: found[level] for level, layer in SEEING.items()}
    known |= {f"condition.painter.{name}": value for name, value in constant_outputs(eye, levels).items()}
    weights = {}
    for name, expected in fresh.items():
        value = known.get(name, expected if expected.numel() == 0 or is_optional(name) else None)
        if value is None or value.shape != expected.shape:
            got = "missing" if value is None else f"of the shape {tuple(value.shape)}"
            raise ValueError(
                f"{folder} has not the weights of its model: {name} is {got}, expected {tuple(expected.shape)}; "
                "export the bundle again"
            )
        weights[name] = value
    return weights


def _logarithm(values: Array) -> Tensor:
    """Return the logarithm in FP32 whose exponential in FP32 is closest to these values, (K,)."""
    wanted = torch.from_numpy(values.astype(np.float32)).flatten()
    middle = wanted.double().log().float()
    nearby = torch.stack([middle, middle.nextafter(middle + 1), middle.nextafter(middle - 1)])
    best = (nearby.exp() - wanted).abs().argmin(dim=0)
    return nearby.gather(0, best[None])[0]


def _words(folder: Path, manifest: dict[str, Any]) -> TokenVectors | None:
    text = manifest.get("text")
    if text is None:
        return None
    vectors, scales = (
        np.load(io.BytesIO(_read_file(folder, manifest, text[key])), allow_pickle=False).astype(np.float32)
        for key in ("vectors", "scales")
    )
    tokenizer = _read_file(folder, manifest, text["tokenizer"]).decode()
    return TokenVectors(tokenizer, vectors * scales[:, None], {"name": text["source"], "licence": text["licence"]})


def _vocabulary(words: TokenVectors | None) -> list[str]:
    """Return all whole words of a WordPiece tokenizer: the export has reduced it already."""
    model = {} if words is None else json.loads(words.tokenizer)["model"]
    if model.get("type") != "WordPiece":
        return []
    return sorted(token for token in model["vocab"] if not token.startswith("##"))


def _footage(entries: list[dict[str, Any]], unit: str) -> Footage:
    """Return a row for every clip or picture that the provenance counts; it does not name their files."""
    return [
        (f"{entry['name']} {number}", entry["licence"], entry["source"])
        for entry in entries
        for number in range(int(entry[unit]))
    ]


def _enlarger(found: dict[str, Tensor], pictures: Footage) -> dict[str, Any] | None:
    """Return the content of an `enlarge.pt`, None if the paint graph has no enlarger."""
    weights = {name.removeprefix(ENLARGER): value for name, value in found.items() if name.startswith(ENLARGER)}
    if not weights:
        return None
    layers = sum(name.startswith("body.") and name.endswith(".bias") for name in weights)
    settings = {"channels": len(weights["first.bias"]), "layers": layers}
    return {"stage": "enlarge", "iteration": 0, "config": {"enlarge": settings}, "ema": weights, "footage": pictures}
