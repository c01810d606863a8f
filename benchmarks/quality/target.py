"""What is evaluated: a bundle, or a training run, which is exported into a temporary folder first."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.networks import file_sha256
from runtime.bundle.reader import open_bundle, write_manifest
from runtime.generator import Generator


@dataclass(frozen=True)
class QualityTarget:
    """A bundle on disk and what is known of its training.

    Args:
        bundle: the bundle's folder.
        name: of the results' folder.
        key: SHA-256 of the manifest, or of the run's checkpoint.
        kind: "bundle" or "run".
        footage: the configuration's [footage]; None if the bundle does not have it.
        trained_with_lpips: None if it is not known.
    """

    bundle: Path
    name: str
    key: str
    kind: str
    footage: Mapping[str, Any] | None
    trained_with_lpips: bool | None


@contextmanager
def open_target(path: Path, words: Path | None = None) -> Iterator[QualityTarget]:
    """Open a bundle, or export a run; the export is removed at the end.

    Args:
        path: a bundle or a run.
        words: word vectors for a run that takes text; None for those that it was trained with.

    Raises:
        ValueError: it is neither a bundle nor a run with a checkpoint.
        BundleError: the bundle is damaged.
    """
    if (path / "bundle.json").is_file():
        manifest = open_bundle(path).manifest
        training = manifest.provenance.get("training")
        known: Mapping[str, Any] = training if isinstance(training, Mapping) else {}
        footage = known.get("footage") if isinstance(known.get("footage"), Mapping) else None
        yield QualityTarget(path, manifest.name, manifest.sha256, "bundle", footage, _used_lpips(known))
        return
    if not any((path / f"{stage}.pt").is_file() for stage in ("hints", "polish", "finetune", "pretrain")):
        raise ValueError(
            f"{path} is neither a bundle (it has no bundle.json) nor a training run (it has no finetune.pt or "
            "pretrain.pt): name a folder that export or training has written"
        )
    with tempfile.TemporaryDirectory(prefix="everframe-quality-") as folder:
        yield _export(path, Path(folder), words)


def _export(run: Path, folder: Path, words: Path | None) -> QualityTarget:
    """Write a run's graphs and manifest, without golden frames and parity checks: for measuring only."""
    from export.bundle_writer import load_run
    from export.manifest_writer import build_manifest, provenance
    from export.onnx_writer import write_graphs
    from export.vocabulary import write_vocabulary
    from training.checkpoint import newest_checkpoint

    generator, config, facts = load_run(run)
    size = config.model.width, config.model.height
    write_graphs(generator, folder, [size])
    entry = None
    if config.model.text_dimensions:
        entry, _ = write_vocabulary(words or Path(facts["words"]), folder)
    manifest = build_manifest(config, folder, size, [size], [], entry)
    manifest["provenance"] = provenance(config, facts)
    manifest["verified"] = {}
    write_manifest(folder, manifest)
    footage = dataclasses.asdict(config.footage)
    checkpoint = file_sha256(newest_checkpoint(run))
    if (enlarger := run / "enlarge.pt").is_file():
        checkpoint += f" {file_sha256(enlarger)}"
    return QualityTarget(folder, run.resolve().name, checkpoint, "run", footage, _used_lpips(facts))


def _used_lpips(known: Mapping[str, Any]) -> bool | None:
    """Return whether LPIPS was used in training; None if nothing says so."""
    found = [bool(known[key]) for key in ("perceptual", "lpips") if key in known]
    return found[0] if found else None


def state_norm(generator: Generator) -> Callable[[], float]:
    """Return a function that returns the largest absolute value of a generator's states after its latest frame.

    It is nan or infinite if one value is; 0 for graphs without states.
    """
    names = [tensor.name for tensor in generator.manifest.step.outputs if tensor.role == "state"]
    session = generator._step

    def norm() -> float:
        return max((float(np.abs(session.read(name).astype(np.float64)).max()) for name in names), default=0.0)

    return norm
