"""Losses under one interface: ``loss(logits, changed, rng_step) -> scalar``, both (N, H, W)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rscd.errors import UsageError


@dataclass(frozen=True)
class CemOptions:
    """What cross-entropy masking keeps."""

    tau: float = 0.2
    """An unchanged pixel with predicted p below this is easy, and masked. 0 masks none."""
    floor: float = 0.1
    """Fraction of the easy unchanged pixels that is kept all the same, drawn at random. 0..1."""
    warmup_steps: int = 100
    """Steps of plain cross-entropy first: before them p says nothing."""
    normalise: str = "kept"
    """``kept``: mean over kept pixels; ``all``: sum over kept pixels by the count of all pixels."""


Loss = Callable[[Tensor, Tensor, int], Tensor]


def cem_mask(logits: Tensor, changed: Tensor, options: CemOptions, step: int) -> Tensor:
    """Which pixels count (bool): all changed ones, hard unchanged ones, and a random floor of easy ones.

    Carries no gradient. The draw depends on ``step`` alone, so a run repeats.
    """
    with torch.no_grad():
        easy = (changed < 0.5) & (logits.sigmoid() < options.tau)
        generator = torch.Generator(device="cpu").manual_seed(step)
        lucky = torch.rand(logits.shape, generator=generator).to(logits.device) < options.floor
        return ~easy | lucky


def cem(logits: Tensor, changed: Tensor, step: int, options: CemOptions) -> Tensor:
    """Cross-entropy masking: binary cross-entropy without easy unchanged pixels.

    The idea is named in arXiv 2508.10568; its equations are not public, and this rule is ours. With tau = 0 it
    is plain binary cross-entropy. No changed pixel is ever masked.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, changed, reduction="none")
    if step < options.warmup_steps:
        return entropy.mean()
    mask = cem_mask(logits, changed, options, step)
    total = (entropy * mask).sum()
    return total / (mask.sum().clamp(min=1) if options.normalise == "kept" else mask.numel())


def bce(logits: Tensor, changed: Tensor, step: int = 0) -> Tensor:
    """Binary cross-entropy, mean over all pixels."""
    return F.binary_cross_entropy_with_logits(logits, changed)


def focal(logits: Tensor, changed: Tensor, step: int = 0, gamma: float = 2.0) -> Tensor:
    """Cross-entropy times (1 - p_true)^gamma (Lin et al. 2017, without alpha)."""
    entropy = F.binary_cross_entropy_with_logits(logits, changed, reduction="none")
    return (entropy * (1 - torch.exp(-entropy)) ** gamma).mean()


def ohem(logits: Tensor, changed: Tensor, step: int = 0, share: float = 0.25) -> Tensor:
    """Mean cross-entropy of the hardest ``share`` of pixels (Shrivastava et al. 2016)."""
    entropy = F.binary_cross_entropy_with_logits(logits, changed, reduction="none").flatten()
    return entropy.topk(max(1, int(share * entropy.numel()))).values.mean()


def dice(logits: Tensor, changed: Tensor, step: int = 0) -> Tensor:
    """1 - soft Dice over the whole batch, with one pixel of smoothing."""
    p = logits.sigmoid()
    return 1 - (2 * (p * changed).sum() + 1) / (p.sum() + changed.sum() + 1)


NAMES = ("cem", "bce", "focal", "ohem", "dice")


def make_loss(name: str, options: CemOptions) -> Loss:
    """Build a loss from a name or a sum of names, e.g. ``cem+dice``.

    Raises:
        UsageError: A name is not one of ``NAMES``.
    """
    known: dict[str, Loss] = {"bce": bce, "focal": focal, "ohem": ohem, "dice": dice}
    known["cem"] = lambda logits, changed, step: cem(logits, changed, step, options)
    parts = name.split("+")
    for part in parts:
        if part not in known:
            raise UsageError(f"--loss {name!r}", remedy=f"use a sum of {', '.join(NAMES)}, e.g. cem+dice")
    return lambda logits, changed, step: torch.stack([known[p](logits, changed, step) for p in parts]).sum()
