"""Whether an imported bundle is written: its frames in ONNX Runtime have to be those of the original.

Models in int8 may differ although the conversion is right. ONNX Runtime joins their operators for speed, and how it
joins them depends on the nodes around them and on the CPU. So such a model is compared again without these changes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from export.from_onnx.comparison import compare_frames
from export.from_onnx.original import OriginalModel
from export.from_onnx.parity import GOLDEN_FRAMES, SEED, OriginalLoop
from export.from_onnx.plan import ImportPlan
from export.from_onnx.planned_graph import PlannedGraph
from export.parity.checks import ParityCheck
from runtime import Generator
from runtime.bundle.reader import open_bundle
from runtime.engines.onnxruntime import OnnxRuntime
from runtime.engines.opening import open_sessions, opened_engine
from runtime.engines.table import EngineChoice

_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def judge(folder: Path, plan: ImportPlan, check: ParityCheck, *, accept_parity: bool) -> tuple[str, ...]:
    """Say what a user should know about the comparison in ONNX Runtime.

    Args:
        folder: a complete bundle.
        plan: of the import.
        check: of the bundle in ONNX Runtime in FP32.
        accept_parity: whether the user accepts frames that differ.

    Returns:
        Sentences for the user.

    Raises:
        ValueError: the frames differ, and the user has not accepted that.
    """
    if check.passed:
        return ()
    told = (
        f"the bundle's frames have {check.worst:.3g} dB in {check.engine} compared with the original, the gate is "
        f"{check.gate:g}"
    )
    why = "if its opset is old, export the model with a newer one"
    if is_quantised(plan):
        plain = compare_plain(folder, plan)
        if plain.passed:
            why = (
                f"without the optimisations of ONNX Runtime they have {plain.worst:.3g} dB, so the difference comes "
                "from its int8 operators on this CPU and not from the conversion"
            )
        else:
            why = f"without the optimisations of ONNX Runtime they have {plain.worst:.3g} dB"
    if not accept_parity:
        raise ValueError(
            f"{told}: no bundle was written; {why}; look at the frames with --accept-parity, which writes it"
        )
    return (f"{told}, which was accepted; {why}",)


def is_quantised(plan: ImportPlan) -> bool:
    """Return whether a model computes in int8."""
    stages = [stage for stage in (plan.first, plan.step) if stage is not None]
    kinds = {node.op_type for stage in stages for node in stage.source.model.graph.node}
    return any(kind in _QUANTISED or kind.startswith("QLinear") for kind in kinds)


def compare_plain(folder: Path, plan: ImportPlan) -> ParityCheck:
    """Compare the golden frames of a bundle with the original's, both without the optimisations of ONNX Runtime."""
    first = None if plan.first is None else _plain(plan.first)
    loop = OriginalLoop(replace(plan, step=_plain(plan.step), first=first))
    loop.make(GOLDEN_FRAMES[-1])
    bundle = open_bundle(folder)
    choice = EngineChoice(OnnxRuntime(is_optimised=False), "fp32", "without optimisations")
    sessions = open_sessions(bundle, choice.engine, choice.precision, pixels="rgb", threads=None, cache_dir=None)
    opened = opened_engine(bundle, choice, sessions, pixels="rgb", threads=None, cache_dir=None)
    with Generator(bundle.manifest, opened, renewal=False, seed=SEED) as generator:
        return compare_frames(generator, loop.run, loop.run.frames)[0]


def _plain(stage: PlannedGraph) -> PlannedGraph:
    return replace(stage, original=OriginalModel(stage.source, is_optimised=False))
