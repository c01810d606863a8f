"""Builds engines of a bundle with TensorRT-RTX, which needs no GPU."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from export.commandline import ProgressTable
from export.engines import build_engines, plan_engines

SHARES: dict[str, str] = {}  # bundle -> summary that is printed after the tests


def require_builds(bundle: Path, into: Path) -> list[dict[str, Any]]:
    """Build every engine of a copy of a bundle in both precisions; skip where TensorRT-RTX is not installed.

    Args:
        bundle: a bundle.
        into: a new folder for the copy.

    Returns:
        An entry per engine.
    """
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed", exc_type=ImportError)
    shutil.copytree(bundle, into, ignore=shutil.ignore_patterns("engines"))
    entries = build_engines(into, plan_engines(["tensorrt-rtx"], []), ["fp32", "fp16"], ProgressTable())
    SHARES[bundle.name] = ", ".join(
        f"{entry['graph']}: {entry['half_convolutions']} of {entry['convolutions']} convolutions in FP16"
        for entry in entries
        if entry["precision"] == "fp16"
    )
    return entries
