"""Builds engines of TensorRT and TensorRT-RTX from ONNX graphs; both modules have the same interface.

Networks are strongly typed: a layer computes in the precision that the graph states (`runtime.engines.fp16`). TensorRT
11 and TensorRT-RTX support nothing else. TensorRT-RTX builds without a GPU, for named compute capabilities or, by
default, for all from Ampere on. TensorRT builds for the GPU of this machine.
"""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from runtime.bundle.strict_json import nearest
from runtime.engines.cache import EngineCache
from runtime.engines.fp16 import Fp16Share
from runtime.engines.tensorrt_progress import Report, interruptible, new_monitor
from runtime.errors import EngineError

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
_EXTRAS = {"tensorrt": "pip install everframe[tensorrt]", "tensorrt-rtx": "pip install everframe[gpu]"}
PORTABLE = "portable"  # target: any GPU from Ampere on; TensorRT-RTX only
_CONVOLUTIONS = ("CONVOLUTION", "DECONVOLUTION")
_OPTIONS = ("strongly typed", "no TF32")  # build options; part of the cache key


@dataclass(frozen=True)
class BuiltEngine:
    """A built engine.

    Args:
        plan: the serialised engine.
        share: of its convolutions that compute in FP16.
        seconds: build time; 0 if it was cached.
        file: in the cache, or None.
    """

    plan: bytes
    share: Fp16Share
    seconds: float
    file: Path | None

    @property
    def is_cached(self) -> bool:
        """Whether it was loaded from the cache."""
        return self.seconds == 0


def why_not_installed(flavour: str) -> str | None:
    """Return None if the flavour ("tensorrt", "tensorrt-rtx") is installed, else one sentence: what to install."""
    if importlib.util.find_spec(MODULES[flavour]) is None:
        return f"the engine {flavour} needs the extra: {_EXTRAS[flavour]}"
    return None


def load_module(flavour: str) -> Any:
    """Import a flavour's module.

    Raises:
        EngineError: it is not installed, or cannot be loaded.
    """
    if (why_not := why_not_installed(flavour)) is not None:
        raise EngineError(why_not)
    try:
        return import_module(MODULES[flavour])
    except (ImportError, OSError) as error:
        raise EngineError(f"{flavour} is installed and cannot be loaded: {error}") from error


def version(flavour: str) -> str:
    """Return a flavour's version, e.g. "1.7.1.116"; it must be installed."""
    return str(load_module(flavour).__version__)


def check_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """Check names of compute capabilities that TensorRT-RTX should build for.

    Args:
        targets: e.g. ["sm86", "sm120"].

    Returns:
        The names in lower case, without duplicates.

    Raises:
        EngineError: TensorRT-RTX is not installed.
        ValueError: one is unknown.
    """
    known = [
        name.lower() for name in load_module("tensorrt-rtx").ComputeCapability.__members__ if name.startswith("SM")
    ]
    chosen = list(dict.fromkeys(target.strip().lower() for target in targets))
    for target in chosen:
        if target not in known:
            raise ValueError(f'tensorrt-rtx cannot build for the target "{target}" {nearest(target, known)}')
    return tuple(chosen)


def build(
    graph: bytes,
    flavour: str,
    target: str,
    *,
    name: str,
    cache_dir: Path | None = None,
    is_private: bool = True,
    report: Report | None = None,
    weights: Path | None = None,
    cache_parts: Sequence[str] = (),
) -> BuiltEngine:
    """Build an engine, or load it from the cache.

    Args:
        graph: a serialised ONNX model, which states the precision of each layer.
        flavour: "tensorrt" or "tensorrt-rtx".
        target: "sm86" and so on, or `PORTABLE`; for TensorRT the name of this GPU.
        name: of the graph, for messages.
        cache_dir: folder of the cache, or None.
        is_private: as in `EngineCache`; False to build into a bundle.
        report: called with the progress, 0 to 1, and the name of the phase.
        weights: the file that the graph's external data name, or None; read from disk.
        cache_parts: what the engine depends on besides the graph: the hash of the weights.

    Returns:
        The engine.

    Raises:
        EngineError: the flavour is not installed, or refuses the graph; names the node if it is known.
        KeyboardInterrupt: Ctrl-C was pressed; nothing was written.
    """
    module = load_module(flavour)
    logger = _new_logger(module)
    builder = module.Builder(logger)
    network = builder.create_network(_typing_flag(module))
    parser = _parse(module, network, logger, graph, flavour, name, weights)  # may hold weights of the network
    share = share_of_network(network)
    entry = cache_entry(graph, flavour, target, cache_dir, cache_parts, is_private=is_private)
    if (plan := entry.load()) is not None:
        return BuiltEngine(plan, share, 0.0, entry.file)
    config = builder.create_builder_config()
    config.clear_flag(module.BuilderFlag.TF32)  # positions need more digits than TF32 has
    config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
    if flavour == "tensorrt-rtx" and target != PORTABLE:
        config.num_compute_capabilities = 1
        config.set_compute_capability(module.ComputeCapability.__members__[target.upper()], 0)
    # The timings of TensorRT are valid for all graphs on a device. TensorRT-RTX measures nothing at build time.
    timings = None
    if flavour == "tensorrt":
        timings = cache_entry(b"timings", flavour, target, cache_dir, is_private=is_private)
    if timings is not None:
        config.set_timing_cache(config.create_timing_cache(timings.load() or b""), False)
    start = time.monotonic()
    with interruptible() as stopped:
        config.progress_monitor = new_monitor(module, stopped, report)
        plan_memory = builder.build_serialized_network(network, config)
    if plan_memory is None:
        where = "" if target == PORTABLE else f" for {target}"
        raise EngineError(f"{flavour} cannot build {name}{where}: {_first_reason(logger.errors, _names(network))}")
    del network, parser  # their weights, before the engine is copied
    plan = bytes(plan_memory)
    del plan_memory
    entry.store(plan)
    if timings is not None and (measured := config.get_timing_cache()) is not None:
        timings.store(bytes(measured.serialize()))
    return BuiltEngine(plan, share, max(time.monotonic() - start, 1e-3), entry.file)


def cache_entry(
    graph: bytes,
    flavour: str,
    target: str,
    cache_dir: Path | None,
    cache_parts: Sequence[str] = (),
    *,
    is_private: bool = True,
) -> EngineCache:
    """Return the cache entry of an engine for this graph with its weights, flavour, version and target."""
    parts = [version(flavour), target, *_OPTIONS, *cache_parts]
    return EngineCache(cache_dir, graph, flavour, parts, is_private=is_private)


def share_of_network(network: Any) -> Fp16Share:
    """Return how many convolutions of a strongly typed network (`INetworkDefinition`) compute in FP16."""
    kinds = []
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type.name in _CONVOLUTIONS:
            kinds.append(layer.get_input(0).dtype.name == "HALF")
    return Fp16Share(sum(kinds), len(kinds) - sum(kinds))


def share_of_engine(information: dict[str, Any]) -> Fp16Share:
    """Return how many convolutions of a built engine read FP16.

    Args:
        information: parsed output of the engine inspector (`LayerInformationFormat.JSON`, detailed verbosity). A fused
            layer counts once.
    """
    kinds = []
    for layer in information.get("Layers", []):
        if isinstance(layer, dict) and "conv" in f"{layer.get('LayerType', '')} {layer.get('Metadata', '')}".lower():
            read = [str(item.get("Format/Datatype", "")) for item in layer.get("Inputs", [])]
            kinds.append(any("half" in item.lower() or "fp16" in item.lower() for item in read[:1]))
    return Fp16Share(sum(kinds), len(kinds) - sum(kinds))


def _typing_flag(module: Any) -> int:
    """Return the creation flag for strong typing; 0 if the version has no other typing."""
    flag = getattr(module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parse(module: Any, network: Any, logger: Any, graph: bytes, flavour: str, name: str, weights: Path | None) -> Any:
    """Parse a graph into a network, and return the parser."""
    parser = module.OnnxParser(network, logger)
    # External data lie in the folder of the path, which need not exist itself.
    if parser.parse(graph) if weights is None else parser.parse(graph, str(weights.parent / "graph.onnx")):
        return parser
    if parser.num_errors == 0:
        raise EngineError(f"{flavour} cannot read {name}: it gave no reason")
    error = parser.get_error(0)
    raise EngineError(
        f'{flavour} cannot read {name}: the node "{error.node_name()}" ({error.node_operator()}): '
        f"{_shortened(str(error.desc()))}"
    )


def _new_logger(module: Any) -> Any:
    class Logger(module.ILogger):  # type: ignore[misc]  # the module is chosen at run time
        """Collects errors for the exception, and prints nothing."""

        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.Severity.ERROR, module.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return Logger()


def _names(network: Any) -> list[str]:
    return [network.get_layer(index).name for index in range(network.num_layers)]


def _first_reason(errors: Sequence[str], names: Sequence[str]) -> str:
    """Return the first error without source locations, and the node that it names."""
    if not errors:
        return "it gave no reason"
    reason = _shortened(errors[0])
    named = [name for name in names if name and re.search(rf"(?<![\w/]){re.escape(name)}(?![\w/])", errors[0])]
    if named and named[0] not in reason:
        reason += f' (at the node "{max(named, key=len)}")'
    return reason


def _shortened(message: str) -> str:
    text = re.sub(r"\[[\w./]+:\d+:[^\]]*\]\s*", "", " ".join(message.split()))
    text = re.sub(r"\s*In \w+ at \S+:\d+\)?", "", text)
    text = re.sub(r"^.*?Error Code \d+: ", "", text)
    return text.strip()[:300]
