"""`python -m export fill RUN --out BUNDLE`: the fill of holes in live video, as a bundle."""

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
from training.model.fill import CONTROLS, Filler, FillState
from training.stages.fill import MEMORY, NAME, load_fill
from training.stages.live_network import checkpoint_of

LIVE = (640, 360)
MOST = (4096, 4096)  # pixels of a bundle's frame
_LOOP = 100  # frames that are compared


class _Graph(nn.Module):
    """The network, its state and control as separate tensors."""

    def __init__(self, network: Filler) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, video: Tensor, mask: Tensor, picture: Tensor, trust: Tensor, before: Tensor, memory: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        filled = self.network(video, mask, FillState(picture, trust, before), memory[:, None])
        return filled.frame, *filled.state


class _StillGraph(nn.Module):
    """A network that remembers nothing."""

    def __init__(self, network: Filler) -> None:
        super().__init__()
        self.network = network

    def forward(self, video: Tensor, mask: Tensor) -> Tensor:
        frame: Tensor = self.network(video, mask, self.network.initial_state(1), torch.zeros(1, 1)).frame
        return frame


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    fill = argparse.ArgumentParser(
        prog="python -m export fill",
        description="Write a bundle that fills holes of live video: what was seen behind them is brought back, the "
        "rest is painted by the network of `python -m training fill`, or without RUN filled smoothly.",
    )
    add_live_arguments(fill, NAME, LIVE, "the frames", is_optional=True)
    fill.add_argument("--name", default="fill", metavar="NAME", help="name of the bundle (fill)")
    return fill


def run(argv: Sequence[str]) -> Path:
    """Write the bundle and return its folder.

    Raises:
        ValueError: the checkpoint is missing, damaged or another one, or the size cannot be used.
    """
    arguments = parser().parse_args(argv)
    width, height = live_size(arguments.live, MOST)
    facts, source = None, "Everframe; it has no weights"
    if arguments.run is None:
        network = Filler(height, width, paints=False).eval()
    else:
        network, facts = load_fill(checkpoint_of(arguments.run, NAME), width, height)
        round_module(network, in_bytes=True)
        source = f"trained by Everframe on {len(facts['footage'])} videos and photographs: {licences_of(facts)}"
    rest = "painted" if network.paints else "filled smoothly"
    states = FillState._fields if network.remembers else ()
    controls = CONTROLS if network.remembers else ()
    options = ImportOptions(
        roles=(
            "video=live:rgb,0..1",
            "mask=mask:0..1",
            "frame=frame:0..1",
            *(f"{name}=state:{name}_next" for name in states),
            *(f"{name}=control:{MEMORY:g}@0..1" for name in controls),
        ),
        controls={"memory": ("how far what was seen behind a hole is brought back", "share")},
        name=arguments.name,
        description=f"Fills holes of live video, {width} x {height}: what was seen behind them is brought back, the "
        f"rest is {rest}.",
        licence="Apache-2.0",
        fps=to_fps(arguments.fps),
        loop_frames=_LOOP,
        block=64,
        halve=True,
        in_bytes=True,
        source=source,
    )
    graph = _Graph(network) if network.remembers else _StillGraph(network)
    state = network.initial_state(1)._asdict() if network.remembers else {}
    inputs = {
        "video": torch.zeros(1, 3, height, width),
        "mask": torch.ones(1, 1, height, width),
        **state,
        **{name: torch.full((1,), MEMORY) for name in controls},
    }
    outputs = ["frame", *(f"{name}_next" for name in states)]
    return write_live_bundle(graph, inputs, outputs, options, arguments, NAME, facts)
