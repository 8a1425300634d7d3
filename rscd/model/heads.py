"""What the fused features are read for beside the coarse logits: sharp outlines, and what is there on each date.

Both are our own choice; they are not in the abstract of arXiv 2508.10568.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rscd.model.msdf import resize
from rscd.model.stfe import conv_bn_relu


class FineScale(nn.Module):
    """Correct coarse change logits where outlines run, at strides 2 and 1.

    The encoder's map at stride 2 knows where edges are and not what they belong to; the fused map at stride 4 knows
    the latter. Joined, they give four logits a pixel of stride 2, which are laid out as pixels of stride 1.
    The last layer begins with zeros: a network that gets this branch later begins with the answers it had.

    Args:
        channels: Of the encoder's map at stride 2.
        width: Of the fused map.
        fine: Of this branch.
    """

    def __init__(self, channels: int, width: int, fine: int) -> None:
        super().__init__()
        self.join = conv_bn_relu(2 * channels, fine, 3)
        self.bring = nn.Conv2d(width, fine, 1)
        self.mix = nn.Sequential(conv_bn_relu(2 * fine, fine, 3), conv_bn_relu(fine, fine, 3))
        self.head = nn.Conv2d(fine, 4, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, both: Tensor, fused: Tensor) -> Tensor:
        """Take (2N, channels, H/2, W/2), before first, and (N, width, H/4, W/4); give logits (N, 1, H, W)."""
        a, b = both.chunk(2)
        edges = self.join(torch.cat([(a - b).abs(), a + b], dim=1))
        meaning = resize(self.bring(fused), edges.shape[-2:])
        logits = self.head(self.mix(torch.cat([edges, meaning], dim=1)))
        return nn.functional.pixel_shuffle(logits, 2)


class Presence(nn.Module):
    """Tell for each date by itself whether the thing is there, of which changes are mapped: two maps by one head.

    Args:
        width: Channels of what STFE has of each date.
        scales: How many of them there are.
    """

    def __init__(self, width: int, scales: int = 4) -> None:
        super().__init__()
        inner = width // 2
        self.bring = nn.ModuleList(nn.Conv2d(width, inner, 1) for _ in range(scales))
        self.head = nn.Sequential(conv_bn_relu(inner, inner, 3), nn.Conv2d(inner, 1, 1))

    def forward(self, dates: list[Tensor]) -> Tensor:
        """Take maps (2N, width, H/s, W/s), finest first; give logits (2N, 1, H/4, W/4)."""
        size = dates[0].shape[-2:]
        x = self.bring[0](dates[0])
        for bring, date in zip(list(self.bring)[1:], dates[1:], strict=True):
            x = x + resize(bring(date), size)
        logits: Tensor = self.head(x)
        return logits
