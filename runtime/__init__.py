"""The runtime: makes frames from a bundle, without PyTorch.

from runtime import Generator

with Generator.open("bundles/NAME", engine="auto") as generator:
    generator.condition(seed=7)
    for frame in generator:
        ...
"""

from runtime.bundle.manifest import Manifest
from runtime.errors import BundleError, EngineError
from runtime.generator import Generator
from runtime.prompts.scene import Scene

Memory = Scene  # deprecated alias

__version__ = "0.2.0"  # of the whole project; pyproject.toml reads it, and bundles state it

__all__ = ["BundleError", "EngineError", "Generator", "Manifest", "Scene"]
