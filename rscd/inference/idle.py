"""A GPU that stands idle: the silent fallback to the CPU, told aloud."""

from __future__ import annotations

from pathlib import Path

import torch


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
