"""Contenders compared: each in a process of its own, in alternating blocks of frames, on the same machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.json_child import JsonChild
from benchmarks.latency.contenders import CONTENDERS
from benchmarks.latency.distribution import percentiles

BLOCK = 30  # frames that a contender makes in one turn
SETTLE = 5  # of them that do not count: the caches still hold the others' frames
_BASE = {  # what each contender is compared with
    **dict.fromkeys(("engine", "openvino", "torch", "torch-compile"), "everframe"),
    **dict.fromkeys(("onnxruntime", "torch-fp32", "torch-compile-fp32"), "everframe-fp32"),
}
_TITLES = {
    "everframe": "Everframe",
    "engine": "its engine's bare loop",
    "openvino": "OpenVINO, as documented",
    "torch": "PyTorch eager",
    "torch-compile": "torch.compile",
    "everframe-fp32": "Everframe, FP32",
    "onnxruntime": "ONNX Runtime, arrays in and out",
    "torch-fp32": "PyTorch eager",
    "torch-compile-fp32": "torch.compile",
}


class ContenderProcess(JsonChild):
    """A contender in a process of its own.

    Args:
        name: of `CONTENDERS`.
        arguments: what follows on its command line.

    Attributes:
        ready: {"what": engine and precision, "first_frame_ms": from the start of its work to its first frame}.

    Raises:
        ValueError: it cannot run here, for the reason given.
    """

    def __init__(self, name: str, arguments: Sequence[str]) -> None:
        super().__init__("benchmarks.latency.contenders", name, *arguments, quiet=True)
        self.ready: Mapping[str, Any] = self.read()
        if "error" in self.ready:
            self.close()
            raise ValueError(str(self.ready["error"]))

    def make(self, frames: int) -> dict[str, Any]:
        """Make frames; return {"ms": durations, "resident_mb": memory}."""
        made: dict[str, Any] = self.ask(str(frames))
        return made


def check_names(text: str) -> list[str]:
    """Return the contenders that an option names: "all", or names separated by commas.

    Raises:
        ValueError: one is unknown.
    """
    names = list(CONTENDERS) if text == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in CONTENDERS:
            raise ValueError(f'--compare got "{name}", expected all, or some of {", ".join(CONTENDERS)}')
    return names


def compare(
    names: Sequence[str],
    arguments: Sequence[str],
    *,
    frames: int,
    open_worker: Callable[[str, Sequence[str]], Any] = ContenderProcess,
    on_progress: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Have contenders make frames in turns.

    Args:
        names: of `CONTENDERS`.
        arguments: bundle, threads, pixels, and a run if there is one.
        frames: that count, of each contender, at least; rounded up to whole blocks.
        open_worker: starts one; a `ContenderProcess` but for tests.
        on_progress: called with a text before each step.

    Returns:
        Contender -> {"what", "first_frame_ms", "resident_mb", "ms": percentiles, "fps", "against", "ratio",
        "ratio_low", "ratio_high"}; or {"missing": why it cannot run here}. A ratio is a contender's median time of a
        block over that of its base in the same round: the median over rounds, and their 5th and 95th percentile.
    """
    workers: dict[str, Any] = {}
    results: dict[str, Any] = {}
    blocks: dict[str, list[list[float]]] = {}
    try:
        for name in names:
            on_progress(f"{name}: opening")
            try:
                workers[name] = open_worker(name, arguments)
            except ValueError as error:
                results[name] = {"missing": str(error)}
                continue
            workers[name].make(BLOCK)
            blocks[name] = []
            results[name] = dict(workers[name].ready)
        rounds = -(-frames // (BLOCK - SETTLE))
        for turn in range(rounds):
            on_progress(f"round {turn + 1} of {rounds}")
            for name, worker in workers.items():
                made = worker.make(BLOCK)
                blocks[name].append(made["ms"][SETTLE:])
                results[name]["resident_mb"] = made["resident_mb"]
    finally:
        for worker in workers.values():
            worker.close()
    for name, parts in blocks.items():
        ms = percentiles([value for part in parts for value in part])
        results[name] |= {"ms": ms, "fps": round(1000 / ms["p50"], 1)}
        base = _BASE.get(name)
        if base in blocks:
            ratios = [np.median(part) / np.median(other) for part, other in zip(parts, blocks[base], strict=True)]
            low, middle, high = np.percentile(ratios, [5, 50, 95]).tolist()
            results[name] |= {"against": base, "ratio": round(middle, 3)}
            results[name] |= {"ratio_low": round(low, 3), "ratio_high": round(high, 3)}
            results[name]["ratio_p99"] = round(ms["p99"] / results[base]["ms"]["p99"], 3)
    return results


def rows(results: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the table for people, ratios first."""
    table = []
    for name, result in results.items():
        title = _TITLES.get(name, name)
        if "missing" in result:
            table.append((title, "-", f"not measured: {result['missing']}"))
            continue
        ratio = f"{result['ratio']:.2f} x" if "ratio" in result else ""
        what = f"{result['ms']['p50']:.2f} ms, p99 {result['ms']['p99']:.2f}, {result['fps']} fps; {result['what']}"
        table.append((title, ratio, what))
    return table


def to_markdown(results: Mapping[str, Any]) -> str:
    """Return a Markdown table of the contenders, ratios first."""
    lines = [
        "| who | with | times as long as Everframe | middle nine tenths | p50 ms | p99 ms | fps | first frame s | MB |",
        "|" + "---|" * 9,
    ]
    for name, result in results.items():
        title = _TITLES.get(name, name)
        if "missing" in result:
            lines.append(f"| {title} | | not measured: {result['missing']} | | | | | | |")
            continue
        ratio = span = ""
        if "ratio" in result:
            ratio = f"{result['ratio']:.2f}"
            span = f"{result['ratio_low']:.2f} to {result['ratio_high']:.2f}"
        ms = result["ms"]
        start, memory = result["first_frame_ms"] / 1000, result["resident_mb"] or 0
        lines.append(
            f"| {title} | {result['what']} | {ratio} | {span} | {ms['p50']:.1f} | {ms['p99']:.1f} | "
            f"{result['fps']:.0f} | {start:.1f} | {memory:.0f} |"
        )
    return "\n".join(lines) + "\n"
