"""The whole network: encoder shared by both dates -> STFE at four scales -> MSDF -> one logit map."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from rscd.model import lite, sam
from rscd.model.msdf import MSDF
from rscd.model.stfe import STFE

ENCODERS = ("lite", *sam.SHAPES)


def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, on the 0..255 scale, that the encoder's weights expect."""
    if encoder == "lite":
        return (lite.MEAN,) * 3, (lite.STD,) * 3
    return sam.MEAN, sam.STD


class ChangeNetwork(nn.Module):
    """Two image batches in, change logits out; symmetric in time.

    Args:
        encoder: One of ``ENCODERS``.
        width: Channels of STFE and MSDF.
        mean: Per input band, 0..255 scale.
        std: Likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: str, width: int, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.encoder = lite.LiteEncoder() if encoder == "lite" else sam.SamEncoder(encoder)
        self.stfe = nn.ModuleList(STFE(c, width) for c in self.encoder.channels)
        self.msdf = MSDF(width)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Map two batches (N, 3, H, W) on the 0..255 scale to change logits (N, H, W), H, W multiples of 32."""
        both = (torch.cat([before, after]).to(self.mean.dtype) - self.mean) / self.std
        both = both.contiguous(memory_format=torch.channels_last)
        maps = [join(m) for join, m in zip(self.stfe, self.encoder(both), strict=True)]
        logits = self.msdf(maps)
        full = nn.functional.interpolate(
            logits.float(), size=before.shape[-2:], mode="bilinear", align_corners=False
        )
        return full[:, 0]

    @property
    def backbone(self) -> nn.Module:
        """The encoder proper, whose weights come from elsewhere: without the pyramid that is made of its taps."""
        module = self.encoder if isinstance(self.encoder, lite.LiteEncoder) else self.encoder.vit
        return cast(nn.Module, module)
