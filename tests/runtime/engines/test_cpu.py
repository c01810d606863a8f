"""The CPU's name and flags, and which ones may overflow."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from runtime.engines import cpu
from runtime.engines.cpu import Cpu, read_cpu

CPUINFO = """\
processor\t: 0
model name\t: Imaginary CPU 9000\N{REGISTERED SIGN}
flags\t\t: fpu avx2 avx512f amx_bf16 amx_tile

processor\t: 1
model name\t: another
flags\t\t: fpu
"""


def test_the_first_cpu_is_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO, encoding="utf-8")
    found = read_cpu(tmp_path / "cpuinfo")
    assert found.model == "Imaginary CPU 9000\N{REGISTERED SIGN}"
    assert found.flags == {"fpu", "avx2", "avx512f", "amx_bf16", "amx_tile"}


def test_flags_of_arm_and_bytes_that_are_no_text_are_read(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_bytes(b"Features : fp asimd\nmodel name : \xff 7\n")
    found = read_cpu(tmp_path / "cpuinfo")
    assert found.flags == {"fp", "asimd"}
    assert found.model.endswith(" 7")


def test_a_system_without_the_file_says_no_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "CPUINFO", tmp_path / "none")
    found = read_cpu()
    assert found.model in (platform.processor(), platform.machine())
    assert not found.flags


@pytest.mark.parametrize(
    ("flags", "machine", "may_overflow"),
    [
        ({"avx2"}, "x86_64", True),
        ({"avx2", "avx_vnni"}, "x86_64", False),
        (set(), "AMD64", True),
        (set(), "arm64", False),
        ({"asimd"}, "aarch64", False),
    ],
)
def test_x86_overflows_unless_it_is_known_to_have_vnni(flags: set[str], machine: str, may_overflow: bool) -> None:
    assert Cpu("a CPU", frozenset(flags), machine).may_overflow == may_overflow
