"""The whole network: encoder shared by both dates -> STFE at four scales -> MSDF -> logits."""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from rscd.model import lite, sam
from rscd.model.heads import FineScale, Presence
from rscd.model.msdf import MSDF, resize
from rscd.model.stfe import STFE

ENCODERS = ("lite", *sam.SHAPES)


def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation, on the 0..255 scale, that the encoder's weights expect."""
    if encoder == "lite":
        return (lite.MEAN,) * 3, (lite.STD,) * 3
    return sam.MEAN, sam.STD


class Logits(NamedTuple):
    """What the network says of a batch."""

    change: Tensor
    """(N, H, W); the same with the dates swapped."""
    presence: Tensor | None
    """(N, 2, H/4, W/4), before and after; swapped with the dates. None without the head."""


class ChangeNetwork(nn.Module):
    """Two image batches in, logits out; those of change are symmetric in time.

    Args:
        encoder: One of ``ENCODERS``.
        width: Channels of STFE and MSDF.
        mean: Per input band, 0..255 scale.
        std: Likewise.
        fine: Channels of the fine scales; 0 leaves them out. The encoder must have a map at stride 2.
        presence: Whether each date is asked for what is there.

    Raises:
        ValueError: Fine scales of an encoder that has no map at stride 2.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        encoder: str,
        width: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        fine: int = 0,
        presence: bool = False,
    ) -> None:
        super().__init__()
        if fine and encoder != "lite":
            raise ValueError(f"fine scales: the encoder {encoder} has no map at stride 2")
        self.encoder = lite.LiteEncoder() if encoder == "lite" else sam.SamEncoder(encoder)
        self.stfe = nn.ModuleList(STFE(c, width) for c in self.encoder.channels)
        self.msdf = MSDF(width)
        self.fine = FineScale(lite.LiteEncoder.fine_channels, width, fine) if fine else None
        self.presence = Presence(width) if presence else None
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, before: Tensor, after: Tensor) -> Logits:
        """Read two batches (N, 3, H, W) on the 0..255 scale, H and W multiples of 32."""
        both = (torch.cat([before, after]).to(self.mean.dtype) - self.mean) / self.std
        both = both.contiguous(memory_format=torch.channels_last)
        if self.fine is not None:
            assert isinstance(self.encoder, lite.LiteEncoder)
            found = self.encoder.all_scales(both)
        else:
            found = self.encoder(both)
        joined, dates = zip(*(stfe(m) for stfe, m in zip(self.stfe, found[-4:], strict=True)), strict=True)
        fused, coarse = self.msdf([*joined])
        change = resize(coarse.float(), before.shape[-2:])
        if self.fine is not None:
            change = change + self.fine(found[0], fused).float()
        if self.presence is None:
            return Logits(change[:, 0], None)
        present = self.presence([*dates]).float()
        return Logits(change[:, 0], torch.stack(present[:, 0].chunk(2), dim=1))

    @property
    def backbone(self) -> nn.Module:
        """The encoder proper, whose weights come from elsewhere: without the pyramid that is made of its taps."""
        module = self.encoder if isinstance(self.encoder, lite.LiteEncoder) else self.encoder.vit
        return cast(nn.Module, module)
