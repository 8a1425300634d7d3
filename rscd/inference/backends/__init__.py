"""Backends: their interface, and one module each; ``choice.py`` selects the one that runs a network on windows."""

from __future__ import annotations

import re
import sys
from typing import Literal, Protocol

from rscd.core.types import ByteArray, FloatArray

# Without this module OpenVINO works as it does with it, except that it no longer tells its maker about each process
# (over the network, from a forked process), nor keeps an identifier in the user's home folder.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None: its import fails

OUT_OF_MEMORY = re.compile(
    "CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    "|DefaultCPUAllocator|can't allocate memory|could not create a (?:memory|primitive)|bad_alloc"
)
"""Out-of-memory messages of torch, oneDNN and the C++ library."""

MOST_CALLS = 4
"""Maximum number of parallel calls on a CPU: each holds its own layers in memory."""


class Backend(Protocol):
    """Runs a network; called from several threads at once with one batch each.

    Input: uint8 windows of both dates, (n, bands, h, w) each. Output: calibrated probabilities 0..1, float32: of
    change (n, h, w), or with a presence head (n, 3, h, w): change, presence before, presence after.
    """

    name: str
    """``torch`` or ``openvino``."""
    version: str
    """Version of the library."""
    device: str
    """``cpu`` or ``cuda:N``."""
    precision: Literal["fp32", "bf16"]
    """Precision of matrix products."""
    threads: int
    """CPU threads, for all calls together."""
    workers: int
    """Calls that run in parallel."""
    presence: bool
    """Whether the network has a presence head."""
    fp32_batches: int
    """Batches that gave NaN or Inf in bf16 and were forwarded again in fp32."""
    note: str
    """Message for the user on the choice of backend; empty if it is the usual one."""

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """Probabilities of one batch.

        Raises:
            MemoryError: The batch does not fit in the device's memory.
            ModelError: The network gives NaN, also in fp32; with torch also if logits are infinite.
            Interrupted: The device was lost.
        """
        ...

    def compile(self) -> None:
        """Compile the network to make it faster, if possible; takes a minute or more."""
        ...
