"""Several processes, one model: ``torchrun --nproc-per-node N -m rscd train ...``, over NCCL or gloo.

Gradients are averaged once a step, after all of a process's micro-batches, rather than during the backward pass
as ``DistributedDataParallel`` does: a process that runs out of memory can then repeat its share with smaller
micro-batches, and no other process notices.
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
"""How long processes wait for the one that validates."""


@dataclass(frozen=True)
class Group:
    """This process among those that train together."""

    device: torch.device
    """Where it computes."""
    rank: int = 0
    """Which one it is; 0 validates, writes and reports."""
    size: int = 1
    """How many there are."""

    @property
    def leads(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    @torch.no_grad()
    def average(self, tensors: Iterable[Tensor]) -> None:
        """Put the mean over processes into floating tensors, in place; every process must call it."""
        if self.size == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.float().reshape(-1) for part in parts])  # one exchange for all
        dist.all_reduce(flat.div_(self.size))
        for part, mean in zip(parts, torch.split(flat, [part.numel() for part in parts]), strict=True):
            part.copy_(mean.view(part.shape))

    @torch.no_grad()
    def copy_leader(self, tensors: Iterable[Tensor]) -> None:
        """Put process 0's values into the tensors, in place; every process must call it."""
        if self.size > 1:
            for tensor in tensors:
                value = tensor.contiguous()
                dist.broadcast(value, 0)
                tensor.copy_(value)

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def agree(self, decision: bool) -> bool:
        """What process 0 decided."""
        if self.size == 1:
            return decision
        flag = torch.tensor(float(decision), device=self.device)
        dist.broadcast(flag, 0)
        return bool(flag.item())


def leads() -> bool:
    """Whether this process speaks for all that torchrun started."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def joined(device: str) -> Iterator[Group]:
    """Join the processes that torchrun started, if it did; ``device`` is ``auto``, ``cpu`` or ``cuda:N``.

    Raises:
        UsageError: The device is not there.
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
