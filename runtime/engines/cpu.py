"""This machine's CPU: its model, and the flags that decide what it multiplies fast and exactly."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
_X86 = {"x86_64", "amd64", "x86", "i386", "i486", "i586", "i686"}
_VNNI = {"avx_vnni", "avx512_vnni", "amx_int8"}


@dataclass(frozen=True)
class Cpu:
    """A CPU.

    Args:
        model: its name.
        flags: as Linux names them; empty where the system does not say.
        machine: e.g. "x86_64", "AMD64", "arm64".
    """

    model: str
    flags: frozenset[str]
    machine: str

    @property
    def has_vnni(self) -> bool:
        """Whether it adds products of bytes in 32 bits; False if the system does not say."""
        return bool(self.flags & _VNNI)

    @property
    def may_overflow(self) -> bool:
        """Whether it may add products of bytes in 16 bits, as x86 does without VNNI."""
        return self.machine.lower() in _X86 and not self.has_vnni


def read_cpu(file: Path | None = None) -> Cpu:
    """Return this machine's CPU.

    Args:
        file: in the format of /proc/cpuinfo, where only Linux has it; None for that one.
    """
    machine = platform.machine()
    try:
        lines = (CPUINFO if file is None else file).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Cpu(platform.processor() or machine, frozenset(), machine)
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    flags = values.get("flags", values.get("Features", ""))
    return Cpu(values.get("model name", machine), frozenset(flags.split()), machine)
