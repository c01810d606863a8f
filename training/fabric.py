"""Device, precision and number of processes of a training run, with Lightning Fabric.

`torchrun --nproc-per-node N -m training ...` runs N processes; without torchrun there is one. `training.cluster` runs
them in a Ray cluster.
"""

from __future__ import annotations

import ctypes
import logging
import os
import secrets
import sys
from pathlib import Path

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment

from training.config import Config


def start_engine(config: Config, environment: ClusterEnvironment | None = None) -> Fabric:
    """Return a launched Fabric on CUDA if available, else on the CPU, in the precision of `choose_precision`.

    The number of processes comes from the environment variables of torchrun or of Ray Train; the default is one.

    Args:
        config: of the run.
        environment: knows the ranks of the processes; None for torchrun and for a single process.
    """
    for name in ("lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", str(world)))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fabric = Fabric(
        accelerator=device,
        devices=local,
        num_nodes=-(-world // local),
        strategy="ddp" if world > 1 else "auto",
        plugins=None if environment is None else [environment],
        precision="bf16-mixed" if choose_precision(config.run.precision, device) == "bf16" else "32-true",
    )
    fabric.launch()
    torch.set_num_threads(config.run.threads or max(1, (os.cpu_count() or 1) // local))
    keep_memory()
    return fabric


def require_shared(fabric: Fabric, run: Path) -> None:
    """Raise ValueError in all processes unless all of them see the same folder of the run; it is made if needed."""
    if fabric.world_size == 1:
        return
    mark = run / f".shared-{fabric.broadcast(secrets.token_hex(8))}"
    if fabric.is_global_zero:
        run.mkdir(parents=True, exist_ok=True)
        mark.touch()
    fabric.barrier()
    number = fabric.all_reduce(torch.tensor(float(mark.exists()), device=fabric.device), reduce_op="sum")
    assert isinstance(number, torch.Tensor)
    if fabric.is_global_zero:
        mark.unlink()
    if int(number) < fabric.world_size:
        raise ValueError(
            f"--out {run} is not the same folder for all processes: {int(number)} of {fabric.world_size} see what the "
            "first one writes there; name a folder on storage that all machines mount"
        )


def computes_in_bf16(device: str) -> bool:
    """Return whether a device, "cuda" or "cpu", computes in bf16; emulated bf16 is slower than fp32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_precision(wanted: str, device: str) -> str:
    """Return "bf16" or "fp32" for `run.precision`, which may be "auto", on "cuda" or "cpu"."""
    if wanted != "auto":
        return wanted
    return "bf16" if computes_in_bf16(device) else "fp32"


def precision_sentence(wanted: str, device: str) -> str:
    """Return the line that says in which precision a device, "cuda" or "cpu", trains, and why."""
    precision, name = choose_precision(wanted, device), "GPU" if device == "cuda" else "CPU"
    if computes_in_bf16(device):
        why = "" if precision == "bf16" else f", as run.precision says; this {name} computes in bf16, too"
    elif precision == "fp32":
        why = f": this {name} does not compute in bf16"
    else:
        why = f", as run.precision says; this {name} only emulates it, and fp32 is several times faster"
    return f"training on the {name} in {precision}{why}"


def keep_memory() -> None:
    """Set glibc to keep freed memory instead of returning every large tensor to the system.

    New pages cost time: on two Zen 5 cores a 64-channel 3x3 convolution at 64x64, batch 8, forward and backward under
    bf16, took 13 to 16 ms instead of 19 to 20 ms.
    """
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-4, 0)  # M_MMAP_MAX: never map single blocks
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: never return memory
        libc.mallopt(-2, 256 * 2**20)  # M_TOP_PAD
    except (OSError, AttributeError):
        return  # another libc; only slower
