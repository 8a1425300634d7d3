"""The device that a network runs on: choice, abilities, warning on unused GPUs; without torch where possible."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from rscd.core.errors import UsageError
from rscd.core.resources import keep_freed_memory


def choose_device(name: str) -> str:
    """Turn ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` into ``cpu`` or ``cuda:N``.

    Raises:
        UsageError: No such device on this machine.
    """
    if name == "cpu":
        return name
    found = cuda_devices()
    if name == "auto":
        return "cuda:0" if found else "cpu"
    index = int(name.partition(":")[2] or 0)
    if index >= found:
        raise UsageError(f"--device {name}: torch sees {found} CUDA device(s)", remedy="use --device cpu")
    return f"cuda:{index}"


def cuda_devices() -> int:
    """Number of GPUs that torch can use; a CPU build has none, and is not imported."""
    if "torch" not in sys.modules and not _built_for_gpus():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _built_for_gpus() -> bool:
    """Whether torch may be built for CUDA or ROCm: not if both are None in its ``version.py``."""
    found = importlib.util.find_spec("torch")
    try:
        text = (Path(found.origin or "").parent / "version.py").read_text(encoding="utf-8") if found else ""
    except OSError:
        return True
    said = re.findall(r"^(?:cuda|hip)\b[^=\n]*= *(\S+)", text, re.MULTILINE)
    return found is not None and said != ["None", "None"]


def own_process(device: str) -> None:
    """Prepare a process that only runs rscd, such as the command line: on a CPU, keep freed memory for reuse.

    Args:
        device: ``auto``, ``cpu`` or ``cuda:N``.

    Raises:
        UsageError: No such device on this machine.
    """
    if choose_device(device) == "cpu":
        keep_freed_memory()


def usable_cores() -> int:
    """CPU cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    else:
        return os.cpu_count() or 1


def cpu_threads() -> int:
    """Threads for work on the CPU: ``OMP_NUM_THREADS``, else one per usable core."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) > 0 else usable_cores()


def cpu_bf16() -> str:
    """Hardware bfloat16 instructions of this CPU: ``amx_bf16``, ``avx512_bf16``; empty if none, or not Linux."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    return next((kind for kind in ("amx_bf16", "avx512_bf16") if kind in flags), "")


def idle_gpu(device: str, root: Path = Path("/")) -> str:
    """A warning, on its own line, if the CPU is used although the machine has a GPU; else empty.

    Args:
        device: Device that the network will run on.
        root: Root of the file system that lists the machine's devices (Linux).
    """
    if device != "cpu":
        return ""
    if cuda_devices():
        return "\nWARNING: running on the CPU although torch sees a GPU; --device cuda:0 is much faster"
    nodes = [*(root / "dev").glob("nvidia[0-9]*"), *(root / "proc/driver/nvidia/gpus").glob("*")]
    if not nodes:
        return ""
    import torch

    build = "a CPU build" if torch.version.cuda is None else f"built for CUDA {torch.version.cuda}"
    return (
        f"\nWARNING: this machine has an NVIDIA GPU ({nodes[0].name}) but torch {torch.__version__} ({build}) "
        "cannot use it: running on the CPU, much slower. Install a CUDA build of torch that fits the driver"
    )


def gpu_memory_mb(device: str) -> float | None:
    """Peak memory that torch has allocated on the device, MB (10^6 bytes); None on the CPU."""
    if device == "cpu":
        return None
    import torch

    return torch.cuda.max_memory_allocated(device) / 1e6
