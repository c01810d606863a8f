"""How well a generator's motion follows hints, on footage that it was not trained on.

python -m benchmarks hints RUN --data SHARDS

0 to 8 motion vectors are taken from the true flow of held-out clips, without
noise. The flow of the generator that was given the picture and the vectors is
compared with the clip's own: the mean end-point error as a share of that of
standing still, over all places and over those that move, and the mean cosine
over those that move. Beside it are the vectors interpolated without a
network, the generator without hints, and what the runtime draws over the flow
of a bundle that takes none ("drawn", `runtime/prompts/drawn_motion.py`).

examples:
  python -m benchmarks hints runs/landscape --data SHARDS --clips 256
  python -m benchmarks hints runs/landscape/finetune.pt --data SHARDS
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import BenchmarkReport, progress_bars
from runtime.prompts.drawn_motion import with_drawn_motion
from runtime.prompts.hints import Hints, Vector

if TYPE_CHECKING:
    from torch import Tensor

_BATCH = 8
_CELL = 8  # pixels of a cell of the hints
_RATE = 30.0  # frames per second for which arrows are drawn; it cancels out
_FIRST = 2**23  # number of the first batch; other numbers than those of training and its held-out measures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("source", type=Path, metavar="RUN", help="a run's folder, or a checkpoint")
    add("--data", type=Path, metavar="SHARDS", help="shards or videos; the run's own if not given")
    add("--cache", type=Path, metavar="DIR", help="folder for decoded footage")
    add("--side", choices=("heldout", "train"), default="heldout", help="of the footage's split (%(default)s)")
    add("--clips", type=int, default=128, metavar="N", help="clips (%(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of clips and places (%(default)s)")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError, OSError: an argument or a file cannot be used.
    """
    import torch

    from training.checkpoint import load_generator
    from training.data.footage import ClipSampler, open_footage, split
    from training.tasks.hint_scores import hint_scores

    if options.clips < _BATCH:
        raise ValueError(f"--clips is {options.clips}, expected {_BATCH} or more")
    generator, config, facts = load_generator(options.source)
    data = options.data or Path(facts["data"])
    footage = replace(config.footage, motion_weight=0.0)
    spans = split(open_footage(data, footage, options.cache), footage, options.side)
    if not spans:
        raise ValueError(f"{data} leaves nothing held out: name other footage, or give --side train")
    clips = ClipSampler(spans, footage, config.model.height, config.model.width, options.seed)
    count = options.clips // _BATCH
    speeds: list[float] = []

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        with progress_bars() as bars, bars("clips", count * _BATCH) as advance:
            for number in range(_FIRST, _FIRST + count):
                batch = clips.draw(number, _BATCH, [0])
                speeds.extend(batch.flow.square().sum(dim=1).sqrt().mean(dim=(1, 2)).tolist())
                yield batch.frames[:, 0].float() / 255.0, batch.flow
                advance(_BATCH)

    with torch.no_grad():
        scores = hint_scores(generator.condition.encoder, batches(), options.seed, others={"drawn": drawn})
    result = {
        "benchmark": "hints",
        "checkpoint": {"stage": facts["stage"], "iteration": facts["iteration"]},
        "data": data.name,
        "side": options.side,
        "clips": count * _BATCH,
        "scenes": clips.num_scenes,
        "median_speed": sorted(speeds)[len(speeds) // 2],
        "scores": [score.to_dict() for score in scores],
    }
    rows = [
        (
            f"{score.method}, {score.vectors} vectors",
            f"{score.error:.3f}  {score.error_moving:.3f}  {score.cosine:.3f}",
            "",
        )
        for score in scores
    ]
    rows.insert(0, ("", "error  moving  cosine", "errors as a share of standing still's"))
    return BenchmarkReport("motion with hints", rows, result)


def drawn(pictures: Tensor, flow: Tensor, hints: Tensor) -> Tensor:
    """Return the flow (B, 2, h, w) that the runtime draws over that of the network, which got no hints."""
    import torch

    made = []
    for picture, own, row in zip(pictures, flow.float().numpy(), hints.numpy(), strict=True):
        height, width = row.shape[1:]
        vectors = []
        for y, x in np.argwhere(row[2] > 0):
            motion = row[:2, y, x] * _RATE / (_CELL * np.array([width, height]))
            vectors.append(Vector((x + 0.5) / width, (y + 0.5) / height, float(motion[0]), float(motion[1])))
        seen = (255 * picture.permute(1, 2, 0)).round().to(torch.uint8).numpy()
        everywhere = np.full(seen.shape[:2], 255, np.uint8)
        found = with_drawn_motion(own[np.newaxis], Hints(tuple(vectors)), seen, everywhere, _RATE)
        made.append(torch.from_numpy(found[0, :2] * found[0, 2:]))
    return torch.stack(made)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the scores as a Markdown table."""
    lines = ["| method | vectors | error | error where it moves | cosine |", "|---|---|---|---|---|"]
    lines.append("| standing still | | 1 | 1 | |")
    for score in result["scores"]:
        cells = (f"{score[key]:.3f}" for key in ("error", "error_moving", "cosine"))
        lines.append(f"| {score['method']} | {score['vectors']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
