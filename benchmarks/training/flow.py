"""Optical flow of the sharder beside the exact flow of made footage, for each kind of scene.

python -m benchmarks flow FOOTAGE

FOOTAGE is a folder that `python -m training footage` has made. Every video is
decoded, and its flow computed by the function and with the settings that
`python -m training shard` uses (DIS), between every frame and the next one.
It is compared with the exact flow where this is defined, over blocks of 4 x 4
pixels:

  error      mean end-point error where something moves (exact speed of at
             least 0.25 pixels per frame), pixels per frame
  relative   the sum of these errors, divided by the sum of the exact speeds;
             1 is what a flow of zero has
  cosine     mean cosine of the angle between both, where something moves
  still      mean speed found where nothing moves
  ms         processor time for a pair of frames

--variants also measures other settings of DIS. `checked` leaves out blocks
whose flow and backward flow differ by more than half a pixel or 30 %.

examples:
  python -m training footage --out made && python -m benchmarks flow made
  python -m benchmarks flow made --short-side 144 --variants all --json flow.json
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import BenchmarkReport, progress_bars

if TYPE_CHECKING:
    from training.data.takes import FlowSettings

Plane = npt.NDArray[np.float32]
MOVING = 0.25  # pixels per frame: slower places count as still
SUMS = ("blocks", "valid", "moving", "error", "speed", "cosine", "still", "still_speed", "seconds", "pairs")
VARIANTS: dict[str, dict[str, int]] = {  # other than what shards store
    "preset medium": {"finest_scale": 1},
    "patch 4": {"patch_size": 4, "patch_stride": 2},
    "patch 12": {"patch_size": 12, "patch_stride": 4},
    "stride 2": {"patch_stride": 2},
    "coarse start": {"coarsest_scale": 5},
    "fine start": {"coarsest_scale": 2},
    "no refinement": {"refinements": 0},
    "10 refinements": {"refinements": 10},
    "smoother": {"smoothness": 60},
    "twice as large": {"enlarge": 2, "finest_scale": 1},
    "checked": {},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the benchmark's arguments."""
    add = parser.add_argument
    add("footage", type=Path, metavar="FOOTAGE", help="a folder of made footage")
    add("--short-side", type=int, metavar="N", help="scale frames to it, as the sharder does (unchanged)")
    add("--clips", type=int, default=4, metavar="N", help="of each kind, at most (4)")
    add("--every", type=int, default=3, metavar="N", help="measure every N-th pair of frames (3)")
    add("--variants", default="", metavar="A,B", help=f"other settings: {', '.join(VARIANTS)}; or all")


def run(options: argparse.Namespace) -> BenchmarkReport:
    """Measure.

    Raises:
        ValueError: an argument or a file cannot be used.
    """
    from training.data.shards import read_captions
    from training.data.takes import FlowSettings

    if options.clips < 1 or options.every < 1 or not (options.short_side is None or 48 <= options.short_side <= 4096):
        raise ValueError("--clips and --every must be 1 or more, and --short-side 48 to 4096")
    names = list(VARIANTS) if options.variants == "all" else [name for name in options.variants.split(",") if name]
    if unknown := [name for name in names if name not in VARIANTS]:
        raise ValueError(f'there is no variant "{unknown[0]}": expected all, or some of {", ".join(VARIANTS)}')
    kinds: dict[str, list[Path]] = {}
    for file, row in read_captions(options.footage).items():
        if (options.footage / "flow" / f"{Path(file).stem}.npz").exists():
            kinds.setdefault(row.get("class") or "all", []).append(options.footage / file)
    if not kinds:
        raise ValueError(f"{options.footage} has no exact flow: make footage with `python -m training footage` first")
    settings = {"shards": FlowSettings(), **{name: FlowSettings(**VARIANTS[name]) for name in names}}
    videos = [(kind, path) for kind, paths in kinds.items() for path in sorted(paths)[: options.clips]]
    sums = {name: {kind: dict.fromkeys(SUMS, 0.0) for kind in kinds} for name in settings}
    with progress_bars() as bars, bars("clips", len(videos)) as advance:
        for kind, path in videos:
            frames, exact, valid = _clip(path, options.short_side)
            for name, chosen in settings.items():
                _add(sums[name][kind], frames, exact, valid, chosen, options.every, name == "checked")
            advance(1)
    found = {name: {kind: _figures(total) for kind, total in by_kind.items()} for name, by_kind in sums.items()}
    for name, by_kind in sums.items():
        found[name]["all"] = _mean(list(found[name].values()), by_kind)
    result: dict[str, Any] = {
        "benchmark": "flow", "clips": len(videos), "short_side": options.short_side, "every": options.every,
        "settings": {name: asdict(chosen) for name, chosen in settings.items()}, "flow": found,
    }  # fmt: skip
    return BenchmarkReport(f"DIS beside exact flow, {len(videos)} clips", _rows(found), result)


def to_markdown(result: Mapping[str, Any]) -> str:
    """Return the figures of the sharder's settings and of the variants as Markdown tables."""
    flow = result["flow"]
    lines = ["| kind | speed | error | relative | cosine | still | valid |", "|---|---|---|---|---|---|---|"]
    for kind, f in flow["shards"].items():
        figures = (f[key] for key in ("speed", "error", "relative", "cosine", "still"))
        lines.append(f"| {kind} | {' | '.join(f'{value:.2f}' for value in figures)} | {f['valid']:.0%} |")
    if len(flow) > 1:
        kinds = list(flow["shards"])
        lines += ["", f"| relative error | {' | '.join(kinds)} | ms |", "|---" * (len(kinds) + 2) + "|"]
        for name, by_kind in flow.items():
            cells = " | ".join(f"{by_kind[kind]['relative']:.2f}" for kind in kinds)
            lines.append(f"| {name} | {cells} | {by_kind['all']['ms']:.1f} |")
    return "\n".join(lines) + "\n"


def _clip(path: Path, short_side: int | None) -> tuple[list[npt.NDArray[np.uint8]], Plane, npt.NDArray[np.bool_]]:
    """Return frames, exact flow (T - 1, h / 4, w / 4, 2) in pixels of the frames, and where it is defined."""
    from training.data.takes import small_frames
    from training.made.flow import BLOCK, read_flow

    flow, valid = read_flow(path.parent / "flow" / f"{path.stem}.npz")
    side = BLOCK * min(flow.shape[2:])
    frames = [frame for frame, _ in small_frames(path, short_side or side, [])]
    if len(frames) != len(flow) + 1:
        raise ValueError(f"{path} has {len(frames)} frames and its flow {len(flow)}, expected one less: make it again")
    exact = flow.transpose(0, 2, 3, 1)
    if short_side and short_side != side:
        rows, columns = (
            np.minimum((np.arange(new // 4) + 0.5) * old / (new // 4), old - 1).astype(int)
            for new, old in zip(frames[0].shape[:2], exact.shape[1:3], strict=True)
        )  # the nearest block
        exact = exact[:, rows][:, :, columns] * np.float32(short_side / side)
        valid = valid[:, rows][:, :, columns]
    return frames, exact, valid


def _add(
    total: dict[str, float],
    frames: list[npt.NDArray[np.uint8]],
    exact: Plane,
    valid: npt.NDArray[np.bool_],
    settings: FlowSettings,
    every: int,
    is_checked: bool,
) -> None:
    """Add the sums of one clip."""
    from training.data.takes import optical_flow

    for index in range(0, len(exact), every):
        began = time.process_time()
        found = optical_flow(frames[index : index + 2], settings)[0].astype(np.float32)
        use = valid[index]
        if is_checked:
            use = use & _agree(found, optical_flow(frames[index : index + 2][::-1], settings)[0].astype(np.float32))
        total["seconds"] += time.process_time() - began
        speed = np.linalg.norm(exact[index], axis=-1)
        moving, still = use & (speed >= MOVING), use & (speed < MOVING)
        error = np.linalg.norm(found - exact[index], axis=-1)
        product = np.maximum(speed * np.linalg.norm(found, axis=-1), 1e-6)
        cosine = (found * exact[index]).sum(axis=-1) / product
        for key, value in (
            ("blocks", use.size), ("valid", use.sum()), ("moving", moving.sum()), ("error", error[moving].sum()),
            ("speed", speed[moving].sum()), ("cosine", cosine[moving].sum()), ("still", still.sum()),
            ("still_speed", np.linalg.norm(found, axis=-1)[still].sum()), ("pairs", 1),
        ):  # fmt: skip
            total[key] += float(value)


def _agree(forward: Plane, backward: Plane) -> npt.NDArray[np.bool_]:
    """Return where the way forward and back ends near its start; both flows are (h, w, 2) on blocks of 4 pixels."""
    rows, columns = np.indices(forward.shape[:2])
    row = np.clip(np.rint(rows + forward[..., 1] / 4), 0, forward.shape[0] - 1).astype(int)
    column = np.clip(np.rint(columns + forward[..., 0] / 4), 0, forward.shape[1] - 1).astype(int)
    gap = np.linalg.norm(forward + backward[row, column], axis=-1)
    return np.asarray(gap < 0.5 + 0.3 * np.linalg.norm(forward, axis=-1), bool)


def _figures(total: Mapping[str, float]) -> dict[str, float]:
    moving, still = max(total["moving"], 1), max(total["still"], 1)
    return {
        "speed": total["speed"] / moving,
        "error": total["error"] / moving,
        "relative": total["error"] / max(total["speed"], 1e-6),
        "cosine": total["cosine"] / moving,
        "still": total["still_speed"] / still,
        "valid": total["valid"] / max(total["blocks"], 1),
        "moving": total["moving"] / max(total["blocks"], 1),
        "ms": 1000 * total["seconds"] / max(total["pairs"], 1),
    }


def _mean(figures: list[dict[str, float]], sums: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the mean over kinds; milliseconds are the mean over pairs of frames."""
    mean = {key: float(np.mean([found[key] for found in figures])) for key in figures[0]}
    pairs = sum(total["pairs"] for total in sums.values())
    mean["ms"] = 1000 * sum(total["seconds"] for total in sums.values()) / max(pairs, 1)
    return mean


def _rows(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[tuple[str, str, str]]:
    rows = []
    for kind, f in found["shards"].items():
        words = (
            f"error {f['error']:.2f} of {f['speed']:.2f} px/frame, cosine {f['cosine']:.2f}, still {f['still']:.2f}, "
        )
        rows.append((kind, f"{f['relative']:.2f}", f"{words}valid {f['valid']:.0%}"))
    for name, by_kind in found.items():
        if name != "shards":
            words = " ".join(f"{kind} {f['relative']:.2f}" for kind, f in by_kind.items() if kind != "all")
            rows.append((name, f"{by_kind['all']['relative']:.2f}", f"{by_kind['all']['ms']:.1f} ms; {words}"))
    return rows
