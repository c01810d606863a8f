"""In which precision a machine trains, and what its processes have to share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from training.fabric import choose_precision, precision_sentence, require_shared


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"architecture": "aarch64"}, "fp32"),
    ],
)
def test_a_cpu_trains_in_bf16_only_if_it_computes_in_it(
    capabilities: dict[str, object], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_precision("auto", "cpu") == expected
    assert choose_precision("bf16", "cpu") == "bf16"
    assert choose_precision("fp32", "cpu") == "fp32"


@pytest.mark.parametrize("has_bf16", [True, False])
def test_a_gpu_that_emulates_bf16_does_not_count(has_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_supported(including_emulation: bool = True) -> bool:
        return including_emulation or has_bf16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert choose_precision("auto", "cuda") == ("bf16" if has_bf16 else "fp32")


@pytest.mark.parametrize(
    ("wanted", "has_bf16", "sentence"),
    [
        ("auto", True, "training on the CPU in bf16"),
        ("auto", False, "training on the CPU in fp32: this CPU does not compute in bf16"),
        ("fp32", False, "training on the CPU in fp32: this CPU does not compute in bf16"),
        ("fp32", True, "training on the CPU in fp32, as run.precision says; this CPU computes in bf16, too"),
        ("bf16", False, "training on the CPU in bf16, as run.precision says; this CPU only emulates it, and fp32 is"),
    ],
)
def test_the_choice_is_told_in_one_line(
    wanted: str, has_bf16: bool, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": has_bf16})
    said = precision_sentence(wanted, "cpu")
    assert said.startswith(sentence)
    assert "\n" not in said


class TwoProcesses:
    """What `require_shared` needs of Fabric, as one of two processes; the other one sees the folder or does not."""

    world_size = 2
    device = torch.device("cpu")

    def __init__(self, rank: int, other_sees: bool) -> None:
        self.is_global_zero, self.other_sees = rank == 0, other_sees
        self.waited = 0

    def broadcast(self, token: str) -> str:
        return token if self.is_global_zero else "token-of-the-first"

    def barrier(self) -> None:
        self.waited += 1

    def all_reduce(self, number: Tensor, reduce_op: str) -> Tensor:
        assert reduce_op == "sum"
        return number + float(self.other_sees)


def test_a_folder_that_all_processes_see_is_accepted(tmp_path: Path) -> None:
    first: Any = TwoProcesses(0, other_sees=True)
    require_shared(first, tmp_path / "runs" / "a")
    assert first.waited == 1
    assert list((tmp_path / "runs" / "a").iterdir()) == [], "nothing stays behind"
    second: Any = TwoProcesses(1, other_sees=True)
    (tmp_path / ".shared-token-of-the-first").touch()
    require_shared(second, tmp_path)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_folder_that_not_all_processes_see_is_refused_by_all(rank: int, tmp_path: Path) -> None:
    fabric: Any = TwoProcesses(rank, other_sees=rank == 1)
    with pytest.raises(
        ValueError, match=r"is not the same folder for all processes: 1 of 2 see .* all machines mount$"
    ):
        require_shared(fabric, tmp_path)
    assert list(tmp_path.iterdir()) == []
