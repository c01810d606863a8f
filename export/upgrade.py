"""`python -m export upgrade OLD CONFIG --out BUNDLE`: our generator's bundle of schema 1 becomes one of schema 2.

The weights are read from its ONNX graphs by name, put into a checkpoint, and exported like any other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from export.bundle_writer import ExportOptions, export_run
from export.commandline import add_sizes, sizes_of
from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import Bundle, open_bundle
from training.bundle import stored_weights
from training.checkpoint import HINTS, save_checkpoint
from training.config import Config, load_config
from training.data.words import write_words
from training.model.generator import VideoGenerator
from training.stages.enlarge import load_enlarger

# Constants that the exporter has computed from a parameter: name -> (parameter, sign of its exponential).
_COMPUTED = {"unsqueeze": ("log_rate", 1.0), "neg": ("log_damping", -1.0)}


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    upgrade = argparse.ArgumentParser(
        prog="python -m export upgrade",
        description="Write a bundle of schema 2 with the weights of a bundle of schema 1 that Everframe exported.",
    )
    add = upgrade.add_argument
    add("bundle", type=Path, metavar="OLD", help="folder of the bundle of schema 1")
    add("config", type=Path, metavar="CONFIG", help="configuration that it was trained with; it may have a new name")
    add(
        "--enlarger", type=Path, metavar="FILE", help="enlarge.pt of `python -m training enlarge`, for painted pictures"
    )
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add_sizes(upgrade)
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")
    return upgrade


def run(argv: Sequence[str]) -> Path:
    """Upgrade a bundle and return the new folder.

    Raises:
        ValueError: the weights are not those of the configuration's generator.
        BundleError: the bundle is damaged.
        ExportError: the new bundle's frames differ from PyTorch's.
    """
    arguments = parser().parse_args(argv)
    frame, sizes = sizes_of(arguments)
    bundle, config = open_bundle(arguments.bundle), load_config(arguments.config)
    manifest = bundle.manifest
    if manifest.shapes or bundle.condition is None or "stage" not in manifest.provenance.get("training", {}):
        raise ValueError(
            f"{arguments.bundle} is not a bundle of schema 1 that Everframe trained: give one, or export the run again"
        )
    out: Path = arguments.out
    with tempfile.TemporaryDirectory(prefix="everframe-upgrade-") as folder:
        words = _write_words(bundle, Path(folder) / "words")
        _write_checkpoint(bundle, config, Path(folder) / "polish.pt", words)
        if arguments.enlarger is not None:
            load_enlarger(arguments.enlarger)
            shutil.copyfile(arguments.enlarger, Path(folder) / "enlarge.pt")
        export_run(Path(folder), out, force=arguments.force, options=ExportOptions(frame=frame, sizes=sizes))
    return out


def read_weights(bundle: Bundle, config: Config) -> dict[str, Tensor]:
    """Return the state dictionary of the generator whose graphs a bundle holds.

    Raises:
        ValueError: a weight is missing or has another shape.
    """
    assert bundle.condition is not None, "a generator of ours has a condition graph"
    found = stored_weights((bundle.condition, bundle.step))
    for name, (parameter, sign) in _COMPUTED.items():
        if name in found:
            found[f"step.{parameter}"] = (sign * found[name]).log().flatten()
    weights = {}
    has_hints = any(HINTS in name for name in found)
    for name, expected in VideoGenerator(config.model).state_dict().items():
        if HINTS in name and not has_hints:  # a bundle from before motion hints
            continue
        value = found.get(name, expected if expected.numel() == 0 else None)
        if value is None or value.shape != expected.shape:
            got = "missing" if value is None else f"of the shape {tuple(value.shape)}"
            raise ValueError(
                f"{bundle.path} has not the weights of that configuration: {name} is {got}, expected "
                f"{tuple(expected.shape)}; name the configuration that it was trained with"
            )
        weights[name] = value
    return weights


def _write_checkpoint(bundle: Bundle, config: Config, path: Path, words: Path | None) -> None:
    provenance = bundle.manifest.provenance
    training = provenance["training"]
    clips = [
        (f"{entry['name']} {number}", entry["licence"], entry["source"])
        for entry in provenance["data"]
        for number in range(entry["clips"])
    ]
    content = {
        "stage": training["stage"],
        "iteration": training["iterations"],
        "config": config.to_dict(),
        "ema": {f"generator.{name}": value for name, value in read_weights(bundle, config).items()},
        "footage": clips,
        "data": "",
        "words": "" if words is None else str(words),
        "vocabulary": [],
    }
    save_checkpoint(path, content)


def _write_words(bundle: Bundle, folder: Path) -> Path | None:
    """Write the text encoder of a bundle as word vectors; returns the folder."""
    manifest: Manifest = bundle.manifest
    if manifest.text is None:
        return None
    vectors = np.load(bundle.path / manifest.text.vectors, allow_pickle=False).astype(np.float32)
    scales = np.load(bundle.path / manifest.text.scales, allow_pickle=False)
    tokenizer = (bundle.path / manifest.text.tokenizer).read_text(encoding="utf-8")
    json.loads(tokenizer)
    source = {"name": manifest.text.source, "licence": manifest.text.licence}
    write_words(folder, tokenizer, vectors * scales[:, None], {"source": source})
    return folder
