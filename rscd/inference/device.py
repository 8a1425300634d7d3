"""The device that a network runs on: which, what it can do, and whether one lies idle."""

from __future__ import annotations

from pathlib import Path

import torch

from rscd.core.errors import UsageError
from rscd.core.memory import keep_freed_memory


def choose_device(name: str) -> torch.device:
    """Turn ``auto``, ``cpu`` or ``cuda:N`` into a device.

    Raises:
        UsageError: No such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise UsageError(f"--device {name}: torch sees {found} CUDA device(s)", remedy="use --device cpu")
    return device


def own_process(device: str) -> None:
    """Prepare a process that runs rscd alone, such as the command line: on a CPU, freed memory is kept for later.

    Args:
        device: ``auto``, ``cpu`` or ``cuda:N``.

    Raises:
        UsageError: No such device on this machine.
    """
    if choose_device(device).type == "cpu":
        keep_freed_memory()


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware (AVX-512 BF16 or AMX), on Linux."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def idle_gpu(device: torch.device, root: Path = Path("/")) -> str:
    """A warning, on a line of its own, if the CPU runs though the machine has a GPU; empty if all is well.

    Args:
        device: Where the network will run.
        root: Of the file system that shows the machine's devices (Linux).
    """
    if device.type != "cpu":
        return ""
    if torch.cuda.is_available():
        return "\nWARNING: running on the CPU although torch sees a GPU here; --device cuda:0 is far faster"
    nodes = [*(root / "dev").glob("nvidia[0-9]*"), *(root / "proc/driver/nvidia/gpus").glob("*")]
    if not nodes:
        return ""
    build = "a CPU build" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
    return (
        f"\nWARNING: this machine has an NVIDIA GPU ({nodes[0].name}) but torch {torch.__version__} ({build}) "
        "cannot use it: running on the CPU, far slower. Install a CUDA build of torch that fits the driver"
    )


def gpu_memory_mb(device: torch.device) -> float | None:
    """Most memory that torch has held on the device, MB (10^6 bytes); None on the CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e6 if device.type == "cuda" else None
