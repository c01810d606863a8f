"""`python -m export areas RUN/areas.pt --out BUNDLE`: the network that says what may move, as a bundle."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from export.from_onnx.importer import ImportOptions, import_model
from export.onnx_writer import round_module, write_graph
from export.parity.checks import print_checks
from training.model.areas import AreaNetwork, fold
from training.stages.areas import SOURCE, VIEW, load_areas

DESCRIPTION = "Says what may move in a picture: water, sky, leaves, flames; and not rock, ground or buildings."
NOTICE = """The features are those of EfficientNet-Lite0 (Tan and Le, arXiv 1905.11946), trained on ImageNet.
The weights are those of the package {package}, licensed under the Apache License,
Version 2.0: https://www.apache.org/licenses/LICENSE-2.0

Changed for this bundle: the classifier and the last stage are left out; the other weights were trained further,
together with a decoder, on {pictures} pictures whose areas were marked by hand (python -m training areas), rounded to
FP16, and wrapped so that the network reads and makes 8-bit pictures. Licences of these pictures: {licences}.
"""


class _AreaGraph(nn.Module):
    """The network; values near 0 and 1 become exactly these."""

    def __init__(self, network: AreaNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor) -> Tensor:
        free: Tensor = self.network(picture)
        return (1.25 * free - 0.125).clamp(0.0, 1.0)


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    areas = argparse.ArgumentParser(
        prog="python -m export areas",
        description="Write the network of `python -m training areas` as a bundle, which says what may move in a "
        f"picture of {VIEW} x {VIEW}.",
    )
    add = areas.add_argument
    add("checkpoint", type=Path, metavar="areas.pt", help="of the training's folder")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")
    return areas


def run(argv: Sequence[str]) -> Path:
    """Write the bundle and return its folder.

    Raises:
        ValueError: the checkpoint is missing, damaged or another one; or the bundle's frames are not those of the
            network.
    """
    arguments = parser().parse_args(argv)
    network, rows = load_areas(arguments.checkpoint)
    fold(network)  # before the weights are rounded
    round_module(network)
    pictures = [row for row in rows if row != SOURCE]
    licences = ", ".join(
        f"{name or 'not stated'} ({count})" for name, count in Counter(row[1] for row in pictures).items()
    )
    options = ImportOptions(
        roles=("picture=live:rgb,0..1", "free=frame:0..1"),
        name="areas",
        description=DESCRIPTION,
        licence="Apache-2.0",
        block=16,
        halve=True,
        preview=False,
        source=f"{SOURCE[0]} ({SOURCE[2]}), with a decoder trained on {len(pictures)} marked pictures: {licences}",
    )
    with TemporaryDirectory() as folder:
        model = Path(folder) / "areas.onnx"
        write_graph(_AreaGraph(network), (torch.zeros(1, 3, VIEW, VIEW),), model, ["picture"], ["free"])
        report = import_model(model, arguments.out, options=options, force=arguments.force)
    print_checks(report.checks, "parity with the network in ONNX Runtime")
    text = NOTICE.format(package=SOURCE[2], pictures=len(pictures), licences=licences)
    text += "\n" + "".join(
        f"{name}: {licence or 'not stated'}; {source or 'not stated'}\n" for name, licence, source in pictures
    )
    out: Path = arguments.out
    (out / "NOTICE").write_text(text, encoding="utf-8")
    return out
