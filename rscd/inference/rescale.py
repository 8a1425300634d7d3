"""Showing a network a scene at another pixel size than it has; probabilities come back on the scene's grid."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

from rscd.config import STRIDE
from rscd.inference.bands import Forward
from rscd.inference.predictor import Predictor
from rscd.types import ByteArray, FloatArray


def window_on_grid(window: int, overlap: int, factor: float) -> tuple[int, int]:
    """Window and overlap in px of the scene for those in px of the model.

    Args:
        window: Side of the model's window, px.
        overlap: Its overlap, px.
        factor: Model pixel size through scene pixel size: above 1 the scene is finer.
    """
    side = max(STRIDE, round(window * factor))
    return side, min(round(overlap * factor), side - 1)


def fit_to(predictor: Predictor, window: int, factor: float) -> Forward:
    """The predictor for windows of the scene: itself, or wrapped where the scene has another pixel size."""
    return predictor if factor == 1 else Rescaled(predictor, window)


class Rescaled:
    """A predictor that is shown windows of another size: resampled to its own, and its answer back.

    Args:
        predictor: The network.
        window: Side of the network's window, px.
    """

    def __init__(self, predictor: Predictor, window: int) -> None:
        self._predictor, self._window = predictor, window

    def __call__(self, before: ByteArray, after: ByteArray) -> FloatArray:
        """What the predictor says of window pairs (n, 3, H, W), all in px of the scene."""
        side = before.shape[-1]
        p = self._predictor(self._shrink(before), self._shrink(after))
        maps = torch.from_numpy(p.reshape(len(p), -1, *p.shape[-2:]))
        back = interpolate(maps, size=(side, side), mode="bilinear", align_corners=False)
        found: FloatArray = back.numpy().reshape(*p.shape[:-2], side, side)
        return found

    def _shrink(self, images: ByteArray) -> ByteArray:
        """Resample to the network's window; finer pixels are averaged (antialiased)."""
        pixels = interpolate(
            torch.from_numpy(images).float(),
            size=(self._window, self._window),
            mode="bilinear",
            align_corners=False,
            antialias=True,
        )
        done: ByteArray = pixels.round_().clamp_(0, 255).byte().numpy()
        return done
