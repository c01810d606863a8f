"""What the bundles of live networks have in common: their arguments, the import of the graph, and the notice."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from export.commandline import to_size
from export.from_onnx.importer import ImportOptions, import_model
from export.onnx_writer import write_graph
from export.parity.checks import print_checks

NOTICE = """Trained by python -m training {stage} on {clips} clips of {files} videos and photographs.
Their licences: {licences}. The footage itself is not in the bundle.

"""
_LEAST = 32  # pixels of a side


def add_live_arguments(
    parser: argparse.ArgumentParser, stage: str, size: tuple[int, int], what: str, *, is_optional: bool = False
) -> None:
    """Add the arguments of a live network's export.

    Args:
        parser: of the command.
        stage: name of the training's checkpoint, and of the bundle.
        size: (width, height) of the live frames if not given.
        what: these frames in a few words.
        is_optional: whether there is a bundle without a training.
    """
    add = parser.add_argument
    count = "?" if is_optional else None
    add("run", type=Path, nargs=count, metavar="RUN", help=f"folder of the training, or its {stage}.pt")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add("--live", default="x".join(map(str, size)), metavar="WxH", help=f"size of {what} (%(default)s)")
    add("--fps", default="30", metavar="FPS", help="frames per second, e.g. 25 or 30000/1001 (30)")
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")


def live_size(text: str, most: tuple[int, int]) -> tuple[int, int]:
    """Read --live; raises ValueError if a side is too short or too long."""
    width, height = to_size(text, "--live")
    if not (_LEAST <= width <= most[0] and _LEAST <= height <= most[1]):
        raise ValueError(f"--live is {width}x{height}, expected {_LEAST} to {most[0]} by {_LEAST} to {most[1]} pixels")
    return width, height


def licences_of(facts: Mapping[str, Any]) -> str:
    """Return the licences of a training's footage with the number of files of each."""
    licences = Counter(licence for _, licence, _ in facts["footage"])
    return ", ".join(f"{name or 'not stated'} ({count})" for name, count in licences.items())


def write_live_bundle(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    options: ImportOptions,
    arguments: argparse.Namespace,
    stage: str,
    facts: Mapping[str, Any] | None,
) -> Path:
    """Export a graph, import it as a bundle, and write what it was trained on.

    Args:
        graph: takes the inputs in their order.
        inputs: name -> a value of its shape; no object twice, as that would become one input.
        outputs: names in the graph's order.
        options: of the import.
        arguments: as `add_live_arguments` reads them.
        stage: the training's command.
        facts: of the checkpoint; None for a graph without weights.

    Returns:
        The bundle's folder.
    """
    with TemporaryDirectory() as folder:
        model = Path(folder) / "live.onnx"
        write_graph(graph, tuple(inputs.values()), model, list(inputs), list(outputs))
        without_preview = replace(options, preview=False)
        report = import_model(model, arguments.out, options=without_preview, force=arguments.force)
    print_checks(report.checks, "parity with the network in ONNX Runtime")
    out: Path = arguments.out
    if facts is None:
        return out
    text = NOTICE.format(
        stage=stage, clips=sum(facts["clips"].values()), files=len(facts["footage"]), licences=licences_of(facts)
    )
    text += "".join(
        f"{name}: {licence or 'not stated'}; {source or 'not stated'}\n" for name, licence, source in facts["footage"]
    )
    (out / "NOTICE").write_text(text, encoding="utf-8")
    return out
