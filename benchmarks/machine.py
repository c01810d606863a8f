"""The machine that a figure was measured on, and the memory of its processes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from runtime.engines.cpu import read_cpu

# The flags that decide how fast a CPU multiplies matrices.
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "amx_fp16")
PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt-rtx", "tensorrt")
_MEMINFO = Path("/proc/meminfo")


def machine_card() -> dict[str, Any]:
    """Describe this machine.

    Returns:
        Plain data: `cpu`, `cores` (that this process may use), `flags`, `memory_gib`, `load` (of the last minute; None
        if the system does not say), `os`, `python`, `packages` (version of each that is installed), `commit` (of this
        checkout, with `-dirty` if it was changed; None outside git).
    """
    cpu = read_cpu()
    return {
        "cpu": cpu.model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in cpu.flags],
        "memory_gib": _read_memory(_MEMINFO),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name)) is not None},
        "commit": _commit(Path(__file__).parent.parent),
    }


def resident_mb(pid: int | str = "self") -> float | None:
    """Return the resident memory of a process in MB (10^6 bytes); None if it has ended or the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def process_tree(pid: int) -> list[int]:
    """Return a process and everything that it has started; on Linux, elsewhere the process alone."""
    found = [pid]
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = file.read_text(encoding="utf-8").split()
        except OSError:  # the thread has ended
            continue
        found += [other for child in children for other in process_tree(int(child))]
    return found


def tree_mb(pid: int) -> float | None:
    """Return the resident memory of a process and everything that it has started, in MB; None if not known."""
    if resident_mb(pid) is None:
        return None
    return round(sum(resident_mb(process) or 0.0 for process in process_tree(pid)), 1)


def _read_memory(file: Path) -> float | None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemTotal:"):
            return round(int(line.split()[1]) / 2**20, 1)
    return None


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit(folder: Path) -> str | None:
    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != folder:
            return None  # another project's repository around an installed copy
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
