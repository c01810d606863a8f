"""`python -m export enlarge RUN --out BUNDLE`: super-resolution of live video, as a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from export.commandline import to_fps
from export.from_onnx.importer import ImportOptions
from export.live_network import add_live_arguments, licences_of, live_size, write_live_bundle
from export.onnx_writer import round_module
from training.model.super_resolution import CONTROLS, FACTOR, LiveState, SuperResolver
from training.stages.live_network import checkpoint_of
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
    add_live_arguments(enlarge, NAME, LIVE, "the small frames")
    enlarge.add_argument("--name", default="enlarge", metavar="NAME", help="name of the bundle (enlarge)")
    return enlarge


def run(argv: Sequence[str]) -> Path:
    """Write the bundle and return its folder.

    Raises:
        ValueError: the checkpoint is missing, damaged or another one, or the size cannot be used.
    """
    arguments = parser().parse_args(argv)
    width, height = live_size(arguments.live, MOST)
    network, facts = load_super_resolution(checkpoint_of(arguments.run, NAME), width, height)
    round_module(network)
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
        block=64,
        halve=True,
        source=f"trained by Everframe on {len(facts['footage'])} videos and photographs: {licences_of(facts)}",
    )
    graph = _Graph(network) if network.remembers else _StillGraph(network)
    state = network.initial_state(1)._asdict() if network.remembers else {}
    controls = {name: torch.full((1,), value) for name, value in defaults.items()}
    inputs = {"picture": torch.zeros(1, 3, height, width), **state, **controls}
    outputs = ["frame", *(f"{name}_next" for name in states)]
    return write_live_bundle(graph, inputs, outputs, options, arguments, "super-resolution", facts)
