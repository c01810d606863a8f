"""What the mark costs in quality: marked beside unmarked frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.marking.attacks import psnr
from benchmarks.marking.changes import Frame
from benchmarks.marking.detection import payload_of
from benchmarks.marking.footage import Case, make_clip
from benchmarks.marking.store import ResultLines
from benchmarks.report import progress_bars

CLIPS = 8  # of each case
_SIDE = 4  # frames of a clip that are compared by LPIPS


def measure_cost(
    cases: Sequence[Case], photos: list[Path], people: list[Path], lpips: Path | None, store: ResultLines
) -> dict[str, Any]:
    """Compare marked with unmarked clips.

    Args:
        lpips: the network as ONNX; None leaves it out.
        cases, photos, people, store: as of `measure_detection`.

    Returns:
        Case -> PSNR of brightness in dB and LPIPS: mean, and the worst clip.
    """
    network = None
    if lpips is not None:
        from benchmarks.quality.networks import Lpips

        network = Lpips(lpips)
    found = {}
    with progress_bars() as bar, bar("quality", CLIPS * len(cases)) as advance:
        for case in cases:
            values = []
            for number in range(CLIPS):
                key = f"cost/{case.name}/{number}"
                if key not in store:
                    marked = make_clip(case, number, payload_of(number), photos, people)
                    plain = make_clip(case, number, None, photos, people)
                    distance = None
                    if network is not None:
                        one, two = (
                            np.stack([_rgb(frame) for frame in clip[:: len(clip) // _SIDE]]) for clip in (marked, plain)
                        )
                        distance = float(network.distance(one, two).mean())
                    store.add(key, [psnr(marked, plain), distance])
                values.append(store.values[key])
                advance(1)
            psnrs = [value[0] for value in values]
            found[case.name] = {"clips": CLIPS, "psnr_db": float(np.mean(psnrs)), "worst_psnr_db": min(psnrs)}
            if network is not None:
                distances = [value[1] for value in values]
                found[case.name] |= {"lpips": float(np.mean(distances)), "worst_lpips": max(distances)}
    return found


def _rgb(frame: Frame) -> Frame:
    import av

    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="yuv420p")
    rgb: Frame = picture.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray()
    return rgb
