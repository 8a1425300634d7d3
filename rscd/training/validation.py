"""Validation on held-out tiles: pixel counts, and the threshold and temperature that are chosen by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rscd.model.network import ChangeNetwork
from rscd.training.metrics import (
    PixelCounts,
    Scores,
    calibrated,
    fit_temperature,
    logit_bins,
    logit_centres,
)
from rscd.training.tiles import CHANGED, IGNORED, Tile
from rscd.types import P_SCALE

CHUNK = 512
"""Validation tiles are forwarded in squares of at most this many px."""


@dataclass(frozen=True)
class Verdict:
    """What the validation tiles say of a network."""

    scores: Scores
    """At the threshold."""
    threshold: float
    """Calibrated p of the best F1, 0..1."""
    temperature: float
    """Divides the logits."""
    ece: float
    """Expected calibration error, 0..1."""


def judge(counts: PixelCounts) -> Verdict:
    """Choose temperature, then threshold, from counts of logits."""
    temperature = fit_temperature(counts)
    scored = calibrated(counts, temperature)
    threshold = max(scored.best_threshold(), 1 / P_SCALE)  # the least that a raster can tell from 0
    return Verdict(scored.at(threshold), threshold, temperature, scored.calibration_error())


@torch.no_grad()
def validate(network: ChangeNetwork, tiles: Sequence[Tile], device: torch.device, bf16: bool) -> PixelCounts:
    """Count logits over the tiles (bins of ``logit_bins``), forwarded in squares of at most CHUNK px."""
    network.eval()
    counts = PixelCounts.of_bins(logit_centres())
    for tile in tiles:
        before, after, label = tile.read()
        for row in range(0, label.shape[0], CHUNK):
            for col in range(0, label.shape[1], CHUNK):
                part = np.s_[row : row + CHUNK, col : col + CHUNK]
                pair = [_padded(i[:, *part]).to(device) for i in (before, after)]
                truth = label[part]
                rows, cols = truth.shape
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    logits = network(*pair)
                logits = logits[0, :rows, :cols].float().cpu().numpy()
                judged = truth != IGNORED
                counts.add(logit_bins(logits[judged]), truth[judged] == CHANGED)
    return counts


def _padded(image: np.ndarray) -> Tensor:
    """Mirror an image (3, H, W) up to multiples of 32, as a batch of one."""
    short = [(-n) % 32 for n in image.shape[1:]]
    return torch.from_numpy(np.pad(image, ((0, 0), (0, short[0]), (0, short[1])), mode="symmetric"))[None]
