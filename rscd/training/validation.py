"""Validation: metrics of held-out tiles, and the threshold and temperature chosen on them.

Both are chosen on the tiles as they are and as other sensors would see them: if fitted to a single sensor, 0.5
means something else on images of the next one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rscd.core.contract import Contract
from rscd.core.types import P_SCALE
from rscd.model.checkpoint import load_checkpoint, save_checkpoint
from rscd.model.network import ChangeNetwork
from rscd.training.data.augmentation import other_sensor
from rscd.training.data.tiles import CHANGED, IGNORED, Tile
from rscd.training.evaluation.metrics import (
    PixelCounts,
    Scores,
    calibrated,
    fit_temperature,
    logit_bins,
    logit_centres,
)

LEAST_TILES, LEAST_PIXELS = 20, 500_000
"""With fewer validation tiles or pixels, threshold and temperature are uncertain."""
ORDER_SEED = 0
CHUNK = 512
"""Validation tiles are forwarded in squares of at most this side, px."""


@dataclass(frozen=True)
class Verdict:
    """Validation results of a network."""

    scores: Scores
    """Scores at the threshold."""
    threshold: float
    """Calibrated probability with the best F1, 0..1."""
    temperature: float
    """Divisor of the logits."""
    ece: float
    """Expected calibration error, 0..1."""


def is_little(tiles: int, counts: PixelCounts) -> bool:
    """Whether there was too little validation data for a certain threshold and temperature."""
    return tiles < LEAST_TILES or counts.total < LEAST_PIXELS


def judge(counts: PixelCounts, kept: tuple[float, float] | None = None) -> Verdict:
    """Choose temperature, then threshold, from counts of logits.

    Args:
        counts: Counts on validation tiles.
        kept: Temperature and threshold to keep, instead of choosing them.
    """
    temperature = fit_temperature(counts) if kept is None else kept[0]
    scored = calibrated(counts, temperature)
    best = scored.best_threshold() if kept is None else kept[1]
    threshold = max(best, 1 / P_SCALE)  # the smallest value that a raster stores above 0
    return Verdict(scored.at(threshold), threshold, temperature, scored.calibration_error())


@dataclass(frozen=True)
class Validated:
    """Counts on the validation tiles."""

    counts: PixelCounts
    """Logits, in bins of ``logit_bins``."""
    tiles: int
    """Number of counted tiles; less than all if time ran out."""


@torch.no_grad()
def validate(
    network: ChangeNetwork,
    tiles: Sequence[Tile],
    device: torch.device,
    bf16: bool,
    *,
    shifted: bool = False,
    deadline: float = math.inf,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Validated:
    """Count logits over the tiles, forwarded in squares of at most CHUNK px.

    Tiles are processed in a fixed, shuffled order, so that the tiles done when time runs out are a fixed random
    sample.

    Args:
        network: Its mode is changed to evaluation.
        tiles: The held-out tiles.
        device: Device to run on.
        bf16: Run the forward pass in bfloat16.
        shifted: Modify each date as if by another sensor (``augmentation.other_sensor``), with a fixed seed.
        deadline: ``time.monotonic()`` after which no further tile is started; at least one is done.
        progress: Called with tiles done and in total.
    """
    network.eval()
    counts = PixelCounts.of_bins(logit_centres())
    order = np.random.default_rng(ORDER_SEED).permutation(len(tiles))
    for done, which in enumerate(order):
        if done and time.monotonic() > deadline:
            return Validated(counts, done)
        progress(done, len(tiles))
        tile = tiles[which]
        before, after, label = tile.read()
        if shifted:
            rng = np.random.default_rng((ORDER_SEED, int(which)))
            before, after = other_sensor(before, rng), other_sensor(after, rng)
        for row in range(0, label.shape[0], CHUNK):
            for col in range(0, label.shape[1], CHUNK):
                part = np.s_[row : row + CHUNK, col : col + CHUNK]
                pair = [_padded(i[:, *part]).to(device) for i in (before, after)]
                truth = label[part]
                rows, cols = truth.shape
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    logits = network(*pair).change
                logits = logits[0, :rows, :cols].float().cpu().numpy()
                judged = truth != IGNORED
                counts.add(logit_bins(logits[judged]), truth[judged] == CHANGED)
    progress(len(tiles), len(tiles))
    return Validated(counts, len(tiles))


def _padded(image: np.ndarray) -> Tensor:
    """Pad an image (3, H, W) by reflection to multiples of 32, as a batch of one."""
    short = [(-n) % 32 for n in image.shape[1:]]
    return torch.from_numpy(np.pad(image, ((0, 0), (0, short[0]), (0, short[1])), mode="symmetric"))[None]


def calibrate(
    path: Path,
    tiles: Sequence[Tile],
    device: torch.device,
    bf16: bool,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Contract:
    """Choose a checkpoint's threshold and temperature again, and write them into it; its tensors do not change.

    Args:
        path: The checkpoint.
        tiles: Validation tiles; if they are too few, nothing is changed.
        device: Device to run on.
        bf16: Run the forward pass in bfloat16.
        progress: Called with tiles done and in total, over both passes.

    Returns:
        The contract, with metrics ``validation_...`` at the threshold on the tiles as they are, and
        ``shifted_f1`` and ``shifted_ece`` on the tiles modified as if by other sensors.

    Raises:
        ModelError, DataError, OutputError: The checkpoint or a tile cannot be read, or the former cannot be
            written.
    """
    network, contract = load_checkpoint(path)
    network.to(device)

    def counted(*, shifted: bool) -> PixelCounts:
        first = len(tiles) if shifted else 0

        def on_tile(done: int, total: int) -> None:
            progress(first + done, 2 * total)

        return validate(network, tiles, device, bf16, shifted=shifted, progress=on_tile).counts

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
