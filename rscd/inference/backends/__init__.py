"""Backends: what one is, and a module each; ``choice.py`` says which one runs a network on batches of windows."""

from __future__ import annotations

import re
from typing import Literal, Protocol

from rscd.core.types import ByteArray, FloatArray

OUT_OF_MEMORY = re.compile(
    "CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    "|DefaultCPUAllocator|can't allocate memory|could not create a (?:memory|primitive)|bad_alloc"
)
"""How torch, oneDNN and the C++ library say it."""


class Backend(Protocol):
    """Runs a network; called from some threads at once with one batch each.

    It takes uint8 windows of both dates, (n, bands, h, w) each, and gives calibrated probabilities 0..1 as float32:
    of change (n, h, w), or, of a network with a presence head, (n, 3, h, w): change, presence before, and after.
    """

    name: str
    """``torch`` or ``openvino``."""
    version: str
    """Of the library."""
    device: str
    """``cpu`` or ``cuda:N``."""
    precision: Literal["fp32", "bf16"]
    """Of products."""
    threads: int
    """CPU threads, over all calls."""
    workers: int
    """Calls that run side by side."""
    presence: bool
    """Whether the network has a presence head."""
    fp32_batches: int
    """Batches that gave NaN or Inf in bf16 and were forwarded again in fp32."""
    note: str
    """What a user should know of the choice; empty if it is the usual one."""

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """Probabilities of one batch.

        Raises:
            MemoryError: The device's memory does not hold it.
            ModelError: The network gives NaN, in fp32 too; in torch also for infinite logits.
            Interrupted: The device is gone.
        """
        ...

    def compile(self) -> None:
        """Spend a minute and more on making the network faster, if there is a way."""
        ...
