"""`python -m export enlarge RUN --out BUNDLE`: super-resolution of live video, as a bundle."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from export.commandline import to_size
from export.from_onnx.importer import ImportOptions, import_model
from export.onnx_writer import round_module, write_graph
from export.parity.checks import print_checks
from training.model.super_resolution import CONTROLS, FACTOR, LiveState, SuperResolver
from training.stages.super_resolution import CONTROLS as DEFAULTS
from training.stages.super_resolution import NAME, load_super_resolution

LIVE = (640, 360)
MOST = (2048, 2048)  # pixels of the small frame: a bundle's frames have at most 4096
_LOOP = 100  # frames that are compared
_LIMITS = {"strength": (0.0, 1.0), "sharpness": (0.0, 2.0), "memory": (0.0, 1.0)}
_WORDS = {
    "strength": ("how much the network adds to the smoothly enlarged picture", "share"),
    "sharpness": ("how much more of the detail that the small picture cannot have", "factor less 1"),
    "memory": ("how much of the last frame's detail is brought along", "share"),
}
NOTICE = """Trained by python -m training super-resolution on {clips} clips of {files} videos and photographs.
Their licences: {licences}. The footage itself is not in the bundle.

"""


class _Graph(nn.Module):
    """The network with its state and controls as separate tensors."""

    def __init__(self, network: SuperResolver) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, picture: Tensor, small: Tensor, large: Tensor, strength: Tensor, sharpness: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        controls = torch.stack([strength, sharpness, memory], dim=1)
        frame, state = self.network(picture, LiveState(small, large), controls)
        return frame, state.small, state.large


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    enlarge = argparse.ArgumentParser(
        prog="python -m export enlarge",
        description="Write the network of `python -m training super-resolution` as a bundle that makes live video "
        "twice as wide and high.",
    )
    add = enlarge.add_argument
    add("run", type=Path, metavar="RUN", help=f"folder of the training, or its {NAME}.pt")
    add("--out", type=Path, required=True, metavar="BUNDLE", help="folder to write")
    add("--live", default="x".join(map(str, LIVE)), metavar="WxH", help="size of the small frames (%(default)s)")
    add("--fps", type=Fraction, default=Fraction(30), metavar="FPS", help="frames per second (30)")
    add("--name", default="enlarge", metavar="NAME", help="name of the bundle (enlarge)")
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")
    return enlarge


def run(argv: Sequence[str]) -> Path:
    """Write the bundle and return its folder.

    Raises:
        ValueError: the checkpoint is missing, damaged or another one, or the size cannot be used.
    """
    arguments = parser().parse_args(argv)
    width, height = to_size(arguments.live)
    if not (32 <= width <= MOST[0] and 32 <= height <= MOST[1]):
        raise ValueError(f"--live is {width}x{height}, expected 32 to {MOST[0]} by 32 to {MOST[1]} pixels")
    path = arguments.run / f"{NAME}.pt" if arguments.run.is_dir() else arguments.run
    network, facts = load_super_resolution(path, width, height)
    round_module(network)
    licences = Counter(licence for _, licence, _ in facts["footage"])
    said = ", ".join(f"{name or 'not stated'} ({count})" for name, count in licences.items())
    options = ImportOptions(
        roles=(
            "picture=live:rgb,0..1",
            "frame=frame:0..1",
            "small=state:small_next",
            "large=state:large_next",
            *(
                f"{name}=control:{default:g}@{_LIMITS[name][0]:g}..{_LIMITS[name][1]:g}"
                for name, default in zip(CONTROLS, DEFAULTS, strict=True)
            ),
        ),
        controls=_WORDS,
        name=arguments.name,
        description=f"Makes live video {FACTOR} times as wide and high, {width} x {height} to "
        f"{FACTOR * width} x {FACTOR * height}, with detail that is carried from frame to frame.",
        licence="CC0-1.0",
        fps=arguments.fps,
        loop_frames=_LOOP,
        block=8,
        halve=True,
        source=f"trained by Everframe on {len(facts['footage'])} videos and photographs: {said}",
    )
    state = network.initial_state(1)
    controls = (torch.full((1,), default) for default in DEFAULTS)  # one object given twice would become one input
    inputs = (torch.zeros(1, 3, height, width), *state, *controls)
    with TemporaryDirectory() as folder:
        model = Path(folder) / "enlarge.onnx"
        names = ["picture", "small", "large", *CONTROLS]
        write_graph(_Graph(network), inputs, model, names, ["frame", "small_next", "large_next"])
        report = import_model(model, arguments.out, options=options, force=arguments.force)
    print_checks(report.checks, "parity with the network in ONNX Runtime")
    out: Path = arguments.out
    clips = sum(facts["clips"].values())
    text = NOTICE.format(clips=clips, files=len(facts["footage"]), licences=said)
    text += "".join(
        f"{name}: {licence or 'not stated'}; {source or 'not stated'}\n" for name, licence, source in facts["footage"]
    )
    (out / "NOTICE").write_text(text, encoding="utf-8")
    return out
