"""Multi-scale decoder fusion (MSDF): four scales of change features become one logit map.

The name is from arXiv 2508.10568. We worked from its abstract alone; ours is a top-down
decoder whose outputs at all four scales meet at stride 4, where a softmax over scales, pixel by pixel, decides
how much each counts.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from rscd.model.stfe import conv_bn_relu


def resize(x: Tensor, size: torch.Size | tuple[int, int]) -> Tensor:
    """Bring maps (N, C, H, W) to another size, bilinearly."""
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


class MSDF(nn.Module):
    """Four maps (N, width, H/s, W/s) at strides s = 4, 8, 16, 32 -> one of (N, width, H/4, W/4), and its logits."""

    def __init__(self, width: int, scales: int = 4) -> None:
        super().__init__()
        self.decode = nn.ModuleList(conv_bn_relu(width, width, 3) for _ in range(scales))
        self.weigh = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in range(scales))
        self.head = nn.Sequential(conv_bn_relu(width, width // 2, 3), nn.Conv2d(width // 2, 1, 1))

    def forward(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Fuse the maps, finest first.

        Returns:
            The fused map (N, width, H/4, W/4), and logits (N, 1, H/4, W/4) of it.
        """
        size = maps[0].shape[-2:]
        above: Tensor | None = None
        outputs, weights = [], []
        for i in reversed(range(len(maps))):
            joined = maps[i] if above is None else maps[i] + resize(above, maps[i].shape[-2:])
            above = self.decode[i](joined)
            outputs.append(resize(above, size))
            weights.append(resize(self.weigh[i](above), size))
        share = torch.cat(weights, dim=1).softmax(dim=1)
        fused = cast(Tensor, sum(o * share[:, i : i + 1] for i, o in enumerate(outputs)))
        return fused, self.head(fused)
