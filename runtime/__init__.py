"""The runtime: makes frames from a bundle, without PyTorch.

from runtime import Generator

with Generator.open("bundles/NAME", engine="auto") as generator:
    generator.condition(seed=7)
    for frame in generator:
        ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.bundle.manifest import Manifest
    from runtime.errors import BundleError, EngineError
    from runtime.generator import Generator
    from runtime.prompts.scene import Scene

    Memory = Scene  # deprecated alias

__version__ = "0.2.0"  # of the whole project; pyproject.toml reads it, and bundles state it

__all__ = ["BundleError", "EngineError", "Generator", "Manifest", "Scene"]

# Imported when they are asked for: whoever needs one module of the runtime, as `verify` does, needs no ONNX.
_HOMES = {
    "BundleError": ("runtime.errors", "BundleError"),
    "EngineError": ("runtime.errors", "EngineError"),
    "Generator": ("runtime.generator", "Generator"),
    "Manifest": ("runtime.bundle.manifest", "Manifest"),
    "Memory": ("runtime.prompts.scene", "Scene"),  # deprecated alias
    "Scene": ("runtime.prompts.scene", "Scene"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'runtime' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value
