"""One model trained by several processes: ``torchrun --nproc-per-node N -m rscd train ...``, over NCCL or gloo.

Gradients are averaged once per step, after all micro-batches of a process, not during the backward pass as in
``DistributedDataParallel``: so a process that runs out of memory can repeat its share with smaller micro-batches,
unnoticed by the others.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from rscd.inference.device import choose_device

PATIENCE = timedelta(hours=6)
"""Timeout for processes that wait for the one that validates."""


@dataclass(frozen=True)
class Group:
    """The group of processes that train together, seen from this one."""

    device: torch.device
    """Device of this process."""
    rank: int = 0
    """Index of this process; 0 validates, writes and reports."""
    size: int = 1
    """Number of processes."""

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace floating-point tensors by their mean over all processes, in place; every process must call it."""
        if self.size == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.float().reshape(-1) for part in parts])  # one exchange for all tensors
        dist.all_reduce(flat.div_(self.size))
        for part, mean in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(mean.view(part.shape))

    @torch.no_grad()
    def copy_leader(self, tensors: Iterable[Tensor]) -> None:
        """Replace the tensors by process 0's values, in place; every process must call it."""
        if self.size > 1:
            for tensor in tensors:
                value = tensor.contiguous()
                dist.broadcast(value, 0)
                tensor.copy_(value)

    def wait(self) -> None:
        """Wait until every process has called it."""
        if self.size > 1:
            dist.barrier()

    def agree(self, decision: bool) -> bool:
        """The decision of process 0."""
        if self.size == 1:
            return decision
        flag = torch.tensor(float(decision), device=self.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())


def leads() -> bool:
    """Whether this process is the one that reports, of those that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that torchrun started, if it did; ``device`` is ``auto``, ``cpu`` or ``cuda:N``.

    Raises:
        UsageError: There is no such device.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group(torch.device(choose_device(device)))
        return
    cuda = choose_device(device) != "cpu"
    own = torch.device(choose_device(f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"))
    if cuda:
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if cuda else "gloo", timeout=PATIENCE)
    try:
        yield Group(own, dist.get_rank(), size)
    finally:
        dist.destroy_process_group()
