"""Losses with a common interface, ``loss(logits, label, step) -> scalar``, made by ``make_loss``.

``make_loss`` removes ignored pixels first: the losses below get only labelled pixels, in any shape, with
``changed`` 1.0 or 0.0 for each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from rscd.core.errors import UsageError
from rscd.model.network import resize
from rscd.training.data.tiles import CHANGED, IGNORED, UNCHANGED


@dataclass(frozen=True)
class CemOptions:
    """Settings of cross-entropy masking."""

    tau: float = 0.2
    """Unchanged pixels with a predicted p below this are easy, and masked. 0 masks none."""
    floor: float = 0.1
    """Fraction of the easy unchanged pixels that are kept, drawn at random. 0..1."""
    warmup_steps: int = 100
    """Number of first steps with plain cross-entropy: before them p means nothing."""
    normalise: str = "kept"
    """``kept``: mean over kept pixels; ``all``: sum over kept pixels divided by the number of all pixels."""


Loss = Callable[[Tensor, Tensor, int], Tensor]
"""Logits (N, H, W), label (N, H, W) as in ``tiles``, step from 0 -> mean loss of the labelled pixels."""


def cem_mask(logits: Tensor, changed: Tensor, options: CemOptions, step: int) -> Tensor:
    """Pixels that count (bool): all changed ones, hard unchanged ones, and a random fraction of the easy ones.

    Has no gradient. The draw depends only on ``step``, so a run is repeatable.
    """
    with torch.no_grad():
        easy = (changed < 0.5) & (logits.sigmoid() < options.tau)
        generator = torch.Generator(device=logits.device).manual_seed(step)
        lucky = torch.rand(logits.shape, generator=generator, device=logits.device) < options.floor
        return ~easy | lucky


def cem(logits: Tensor, changed: Tensor, step: int, options: CemOptions) -> Tensor:
    """Cross-entropy masking: binary cross-entropy without easy unchanged pixels.

    The idea is named in the abstract of arXiv 2508.10568, which is all we worked from; this rule is our own. With
    tau = 0 it is plain binary cross-entropy. No changed pixel is ever masked.
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


EDGE = 2
"""Pixels within this distance of a label edge belong to its surroundings, px of the crop."""


def edge(logits: Tensor, changed: Tensor, step: int = 0) -> Tensor:
    """Cross-entropy and soft Dice near label edges: few pixels, which determine how sharp outlines are."""
    return bce(logits, changed) + dice(logits, changed)


def near_edges(label: Tensor, distance: int = EDGE) -> Tensor:
    """Pixels (bool, like ``label``, (N, H, W)) with both changed and unchanged pixels within ``distance`` px."""
    side = 2 * distance + 1

    def widened(mask: Tensor) -> Tensor:
        return F.max_pool2d(mask.float()[:, None], side, stride=1, padding=distance)[:, 0] > 0

    return widened(label == CHANGED) & widened(label == UNCHANGED)


NAMES = ("cem", "bce", "focal", "ohem", "dice", "edge")


def make_loss(name: str, options: CemOptions) -> Loss:
    """Build a loss from a name or a sum of names, e.g. ``cem+dice``.

    ``edge`` gets only the pixels near label edges, the others get all labelled pixels.

    Raises:
        UsageError: A name is not one of ``NAMES``.
    """
    known: dict[str, Loss] = {"bce": bce, "focal": focal, "ohem": ohem, "dice": dice, "edge": edge}
    known["cem"] = lambda logits, changed, step: cem(logits, changed, step, options)
    parts = name.split("+")
    for part in parts:
        if part not in known:
            raise UsageError(f"--loss {name!r}", remedy=f"use a sum of {', '.join(NAMES)}, e.g. cem+dice")

    def loss(logits: Tensor, label: Tensor, step: int) -> Tensor:
        judged = label != IGNORED
        around = judged & near_edges(label) if "edge" in parts else judged
        total = logits.sum() * 0  # the loss without labelled pixels: the mean of none is NaN
        for part in parts:
            counted = around if part == "edge" else judged
            if counted.any():
                changed = (label[counted] == CHANGED).to(logits.dtype)
                total = total + known[part](logits[counted], changed, step)
        return total

    return loss


def presence_loss(logits: Tensor, label: Tensor, built: Tensor | None) -> Tensor:
    """Cross-entropy of presence on each date where it is known, and of its agreement with the change label.

    Where a pixel changed, the class is present on exactly one date; elsewhere both dates are equal. So change
    labels also train presence, once other labels define which date is which. Where both dates are known, that is
    enough: next to edges of an unchanged object whose dates are displaced, they differ.

    Args:
        logits: (N, 2, h, w), before and after, at any stride.
        label: (N, H, W), as in ``tiles``.
        built: (N, 2, H, W), as in ``Crop``, or None.
    """
    full = resize(logits, label.shape[-2:])
    yes, no = F.logsigmoid(full), F.logsigmoid(-full)
    one = torch.logaddexp(yes[:, 0] + no[:, 1], no[:, 0] + yes[:, 1])
    alike = torch.logaddexp(yes[:, 0] + yes[:, 1], no[:, 0] + no[:, 1])
    judged = label != IGNORED
    if built is not None:
        judged = judged & (built == IGNORED).any(1)
    counted = judged.to(full.dtype)
    entropy = -(torch.where(label == CHANGED, one, alike) * counted).sum() / counted.sum().clamp(min=1)
    if built is None:
        return entropy
    known = (built != IGNORED).to(full.dtype)
    of_known = -(torch.where(built == CHANGED, yes, no) * known).sum() / known.sum().clamp(min=1)
    return entropy + of_known
