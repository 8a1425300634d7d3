"""Spatial-temporal feature enhancement (STFE): what two dates' features at one scale say of change.

The name is from arXiv 2508.10568. We worked from its abstract alone; the layers here are
our own choice: a symmetric join, so that swapping the dates changes nothing, and CBAM-like gates
(Woo et al. 2018) over channels and space.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_bn_relu(channels_in: int, channels_out: int, kernel: int) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


class STFE(nn.Module):
    """Join the two dates' maps (N, channels, H, W) of one scale into one of (N, width, H, W)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(channels, width, 1)
        self.join = conv_bn_relu(2 * width, width, 3)
        self.channel_gate = nn.Sequential(
            nn.Conv2d(width, width // 4, 1), nn.ReLU(inplace=True), nn.Conv2d(width // 4, width, 1)
        )
        self.space_gate = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """Take (2N, channels, H, W), the before half first.

        Returns:
            The joined map (N, width, H, W), and what each date says by itself (2N, width, H, W).
        """
        reduced = self.reduce(both)
        a, b = reduced.chunk(2)
        x = self.join(torch.cat([(a - b).abs(), a + b], dim=1))
        x = x * self.channel_gate(x.mean((2, 3), keepdim=True)).sigmoid()
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.space_gate(summary).sigmoid(), reduced
