"""`python -m export enlarge RUN --out BUNDLE`: super-resolution of live video, as a bundle."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from export.commandline import to_fps, to_size
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
    "sharpness": ("how much more of the detail that the small picture cannot have", "share"),
    "memory": ("how much of the last frame's detail is brought along", "share"),
}
NOTICE = """Trained by python -m training super-resolution on {clips} clips of {files} videos and photographs.
Their licences: {licences}. The footage itself is not in the bundle.

"""


class _Graph(nn.Module):
    """A network with memory, its state and controls as separate tensors."""

    def __init__(self, network: SuperResolver) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, picture: Tensor, small: Tensor, large: Tensor, strength: Tensor, sharpness: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        controls = torch.stack([strength, sharpness, memory], dim=1)
        frame, state = self.network(picture, LiveState(small, large), controls)
        return frame, state.small, state.large


class _StillGraph(nn.Module):
    """A network without memory."""

    def __init__(self, network: SuperResolver) -> None:
        super().__init__()
        self.network = network

    def forward(self, picture: Tensor, strength: Tensor, sharpness: Tensor) -> Tensor:
        controls = torch.stack([strength, sharpness, torch.zeros_like(strength)], dim=1)
        frame: Tensor = self.network(picture, self.network.initial_state(1), controls)[0]
        return frame


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
    add("--fps", default="30", metavar="FPS", help="frames per second, e.g. 25 or 30000/1001 (30)")
    add("--name", default="enlarge", metavar="NAME", help="name of the bundle (enlarge)")
    add("--force", action="store_true", help="replace BUNDLE if it exists and is a bundle")
    return enlarge


def run(argv: Sequence[str]) -> Path:
    """Write the bundle and return its folder.

    Raises:
        ValueError: the checkpoint is missing, damaged or another one, or the size cannot be used.
    """
    arguments = parser().parse_args(argv)
    width, height = to_size(arguments.live, "--live")
    if not (32 <= width <= MOST[0] and 32 <= height <= MOST[1]):
        raise ValueError(f"--live is {width}x{height}, expected 32 to {MOST[0]} by 32 to {MOST[1]} pixels")
    path = arguments.run / f"{NAME}.pt" if arguments.run.is_dir() else arguments.run
    network, facts = load_super_resolution(path, width, height)
    round_module(network)
    licences = Counter(licence for _, licence, _ in facts["footage"])
    said = ", ".join(f"{name or 'not stated'} ({count})" for name, count in licences.items())
    defaults = dict(zip(CONTROLS, DEFAULTS, strict=True))
    if not network.remembers:
        del defaults["memory"]
    states = LiveState._fields if network.remembers else ()
    options = ImportOptions(
        roles=(
            "picture=live:rgb,0..1",
            "frame=frame:0..1",
            *(f"{name}=state:{name}_next" for name in states),
            *(
                f"{name}=control:{default:g}@{_LIMITS[name][0]:g}..{_LIMITS[name][1]:g}"
                for name, default in defaults.items()
            ),
        ),
        controls=_WORDS,
        name=arguments.name,
        description=f"Makes live video {FACTOR} times as wide and high, {width} x {height} to "
        f"{FACTOR * width} x {FACTOR * height}{', with detail of the last frame' if network.remembers else ''}.",
        licence="Apache-2.0",
        fps=to_fps(arguments.fps),
        loop_frames=_LOOP,
        block=32,
        halve=True,
        source=f"trained by Everframe on {len(facts['footage'])} videos and photographs: {said}",
    )
    graph = _Graph(network) if network.remembers else _StillGraph(network)
    state = network.initial_state(1) if network.remembers else ()
    # One object that is given twice would become one input.
    inputs = (torch.zeros(1, 3, height, width), *state, *(torch.full((1,), value) for value in defaults.values()))
    with TemporaryDirectory() as folder:
        model = Path(folder) / "enlarge.onnx"
        names, made = ["picture", *states, *defaults], ["frame", *(f"{name}_next" for name in states)]
        write_graph(graph, inputs, model, names, made)
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
