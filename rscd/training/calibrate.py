"""Threshold and temperature that travel: chosen on the validation tiles as they are and as other sensors see them.

What is fitted to one sensor alone says 0.5 and means something else on the next one's images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from rscd.model.checkpoint import load_checkpoint, save_checkpoint
from rscd.model.contract import Contract
from rscd.training.metrics import PixelCounts, calibrated
from rscd.training.tiles import Tile
from rscd.training.validation import is_little, judge, validate


def calibrate(
    path: Path,
    tiles: Sequence[Tile],
    device: torch.device,
    bf16: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Contract:
    """Choose a checkpoint's threshold and temperature anew, and write them into it; its tensors stay.

    Args:
        path: The checkpoint.
        tiles: Validation tiles; with too few to rest them on, nothing is changed.
        device: Where it runs.
        bf16: Forward in bfloat16.
        progress: Called with tiles done and in all, of both passes together.

    Returns:
        The contract, with figures ``validation_...`` at the threshold on the tiles as they are, and ``shifted_f1``
        and ``shifted_ece`` on those of other sensors.

    Raises:
        ModelError, DataError, OutputError: The checkpoint or a tile cannot be read, or the former not written.
    """
    network, contract = load_checkpoint(path)
    network.to(device)

    def counted(*, shifted: bool) -> PixelCounts:
        first = len(tiles) if shifted else 0

        def told(done: int, total: int) -> None:
            progress(first + done, 2 * total)

        return validate(network, tiles, device, bf16, shifted=shifted, progress=told).counts

    clean, shifted = counted(shifted=False), counted(shifted=True)
    if is_little(len(tiles), clean):
        return contract
    both = PixelCounts.of_bins(clean.p)
    both.merge(clean)
    both.merge(shifted)
    verdict = judge(both)
    figures = dict(contract.figures)
    for name, part in (("validation", clean), ("shifted", shifted)):
        scored = calibrated(part, verdict.temperature)
        at = scored.at(verdict.threshold)
        figures |= {f"{name}_f1": round(at.f1, 4), f"{name}_ece": round(scored.calibration_error(), 4)}
        if name == "validation":
            figures |= {f"{name}_{k}": round(getattr(at, k), 4) for k in ("precision", "recall", "iou")}
    chosen = replace(
        contract, threshold=round(verdict.threshold, 4), temperature=verdict.temperature, figures=figures
    )
    return save_checkpoint(path, network.cpu(), chosen, half=True)
